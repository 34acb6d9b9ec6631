"""`paletta admin review`: the clips that wait, one after the other, on the whole screen."""

from typing import Annotated

import typer


def review(
    batch: Annotated[
        str | None, typer.Option(metavar="ID", help="only of an upload (`paletta uploads list`)")
    ] = None,
    contributor: Annotated[
        str | None, typer.Option(metavar="USER", help="only of a contributor: their address or id")
    ] = None,
) -> None:
    """review clips on the whole screen: pictures, facts, and a key for each decision

    What you decide is sent at once. A clip that another moderator looks at is not offered to you.
    """
    import sys

    from paletta_cli.api import connect
    from paletta_cli.errors import UsageError

    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError(
            "the review screen needs a terminal",
            hint="`paletta admin clips pending|approve|reject` do without",
        )
    with connect() as service:
        from paletta_cli.review.desk import Desk
        from paletta_cli.review.screen import ReviewApp

        desk = Desk(service, batch=batch, contributor=contributor)
        desk.start()  # what is wrong with the options or the login is said before the screen is taken
        try:
            ReviewApp(desk).run()
        finally:
            desk.leave()
    desk.sum_up()
