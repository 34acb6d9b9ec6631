"""The `paletta` command: finds the command that was asked for, runs it, and turns its errors into exit codes.

Start-up time is a feature, so nothing heavy is imported here: `--version` needs no library at all, `--help`
only Typer, and a command's module is imported only when its name stands on the command line. The other
commands are registered as names with a line of help. To add a command, write `commands/<noun>.py` and add it
to COMMANDS.
"""

import errno
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, NamedTuple, NoReturn

from paletta_cli import __version__

if TYPE_CHECKING:
    import typer

    from paletta_cli.output import Output


class Command(NamedTuple):
    """Where a command lives:

    `module` in paletta_cli.commands, `attribute` in it (a function, or a typer.Typer).
    """

    module: str
    attribute: str
    help: str
    panel: str
    verbs: tuple[str, ...] = ()
    """Of a noun that may be followed by what it is about: its verbs, of which the first is meant then."""


_ACCOUNT, _CONTRIBUTE, _BUY, _OPERATE = "your account", "your clips", "the shop", "the service"

COMMANDS = {
    "upload": Command("upload", "upload", "send clips and follow them until they are live", _CONTRIBUTE),
    "uploads": Command("uploads", "app", "your batches: list, show, cancel", _CONTRIBUTE),
    "manifest": Command("manifest", "app", "write, check, import and export manifests", _CONTRIBUTE),
    "clips": Command("clips", "app", "your clips: list, show, edit, choose a poster, delete", _CONTRIBUTE),
    "earnings": Command("earnings", "earnings", "what your clips earned, by month", _CONTRIBUTE),
    "categories": Command("categories", "app", "list, create and delete categories", _CONTRIBUTE),
    "tags": Command("tags", "app", "list, create and delete tags", _CONTRIBUTE),
    "search": Command("search", "search", "find clips; needs no account", _BUY),
    "clip": Command(
        "clip", "app", "a clip: what it is and costs, clips like it; report it", _BUY, ("show", "report")
    ),
    "collections": Command("collections", "app", "your lists of clips: create, list, add, to the cart", _BUY),
    "cart": Command("cart", "app", "what you are about to buy: add, list, remove, clear", _BUY),
    "checkout": Command("checkout", "checkout", "order what is in the cart, and pay for it", _BUY),
    "orders": Command("orders", "app", "what you bought: list, show, download, sync, receipts", _BUY),
    "register": Command("account", "register", "make an account", _ACCOUNT),
    "login": Command("account", "login", "log in on this machine", _ACCOUNT),
    "confirm": Command("account", "confirm", "give your password again, as money matters ask", _ACCOUNT),
    "logout": Command("account", "logout", "log out, and revoke this machine's token", _ACCOUNT),
    "verify": Command("account", "verify", "confirm your e-mail address", _ACCOUNT),
    "reset-password": Command("account", "reset_password", "choose a new password by mail", _ACCOUNT),
    "whoami": Command("account", "whoami", "who is logged in, and where", _ACCOUNT),
    "profile": Command("profile", "app", "see and change your profile", _ACCOUNT),
    "tokens": Command("tokens", "app", "list, create and revoke API tokens", _ACCOUNT),
    "admin": Command("admin", "app", "run the shop: people, clips, orders, money, figures, logs", _OPERATE),
}

# Options of `paletta` itself that are accepted anywhere on the line, because people add them at the end.
_GLOBAL_WITH_VALUE = ("--profile", "--url")


def run() -> NoReturn:
    """Entry point of the `paletta` script."""
    sys.exit(main(sys.argv[1:]))


def main(argv: Sequence[str]) -> int:
    """Run one command line and return its exit code. Prints to sys.stdout and sys.stderr, never raises."""
    if list(argv) in (["--version"], ["-V"]):
        sys.stdout.write(f"paletta {__version__}\n")
        return 0
    from paletta_cli.errors import Interrupted, PalettaError
    from paletta_cli.output import Output

    _interrupt_once()
    out = Output()
    try:
        return _dispatch(list(argv), out)
    except PalettaError as error:
        out.error(error.message, error.hint)
        return error.exit_code
    except (Interrupted, KeyboardInterrupt) as error:
        out.note("interrupted")
        if hint := getattr(error, "hint", None):
            out.hint(hint)
        return Interrupted.exit_code
    except BrokenPipeError:
        # The reader of our output left (`paletta … | head`): nothing to say, and no second error at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        return _refused(out, error)
    except UnicodeEncodeError as error:
        if not any("\udc80" <= char <= "\udcff" for word in argv for char in word):
            return _crashed(out, error)
        out.error("a word of the command line is not UTF-8", "files may be named so, everything else not")
        return 2
    except Exception as error:
        return _crashed(out, error)


def _dispatch(argv: list[str], out: "Output") -> int:
    import typer

    app = _build(argv)
    try:
        result = app(args=_with_verb(_hoisted(argv)), prog_name="paletta", standalone_mode=False)
    except typer.Exit as exit_:
        return exit_.exit_code
    except typer.Abort:
        return 1
    except typer.TyperException as error:  # what the parser says about the command line
        message = error.format_message().strip()
        if not message or "Usage:" in message:  # a noun without a verb: Typer has made its help
            if message:
                out.note(message)
            return 2
        out.error(_plainly(message), _help_for(error))
        return 2
    return result if isinstance(result, int) else 0


_WORDS = (
    (r"Value error, ", ""),
    (r"Input should be a valid integer.*", "must be a whole number"),
    (r"Input should be a valid number.*", "must be a number"),
    (r"Input should be a valid boolean.*", "must be yes or no"),
    (r"Input should be greater than or equal to ", "must be at least "),
    (r"Input should be less than or equal to ", "must be at most "),
    (r"Input should be ", "must be "),
    (r"'([^']*)' does not match the formats? '%Y-%m-%d'", r"'\1' is no date such as 2026-05-01"),
)
"""What Typer's validator calls things → what a person would."""


def _plainly(message: str) -> str:
    """What the parser says, in our words: lower case, no full stop."""
    import re

    for pattern, words in _WORDS:
        message = re.sub(pattern, words, message, flags=re.DOTALL)
    return message[0].lower() + message[1:].removesuffix(".")


def _help_for(error: Exception) -> str:
    """Where to read on: the help of the command that was meant, as far as the parser came."""
    path = str(getattr(getattr(error, "ctx", None), "command_path", "paletta"))
    if path == "paletta":
        return "`paletta --help` lists the commands"
    return f"`{path} --help` says how it is used"


def _build(argv: Sequence[str]) -> "typer.Typer":
    """The application with the commands that `argv` may mean loaded, and the others as names."""
    import importlib

    import typer

    app = typer.Typer(
        help="Sell and buy stock video from the terminal.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["--help", "-h"]},
    )

    @app.callback()
    def options(
        profile: Annotated[str | None, typer.Option(help="the profile to use (PALETTA_PROFILE)")] = None,
        url: Annotated[str | None, typer.Option(help="address of the service (PALETTA_URL)")] = None,
        version: Annotated[bool, typer.Option("--version", "-V", help="print the version and exit")] = False,
    ) -> None:
        from paletta_cli import settings

        if version:
            sys.stdout.write(f"paletta {__version__}\n")
            raise typer.Exit
        settings.flags.profile, settings.flags.url = profile, url

    completing = any(name.endswith("_COMPLETE") and "PALETTA" in name for name in os.environ)
    for name, command in COMMANDS.items():
        if not completing and name not in argv:
            app.command(name, help=command.help, rich_help_panel=command.panel)(_placeholder)
            continue
        module = importlib.import_module(f"paletta_cli.commands.{command.module}")
        target = getattr(module, command.attribute)
        if isinstance(target, typer.Typer):
            app.add_typer(target, name=name, help=command.help, rich_help_panel=command.panel)
        else:
            app.command(name, help=None if target.__doc__ else command.help, rich_help_panel=command.panel)(
                target
            )
    return app


def _placeholder() -> None:
    """Stands for a command whose name is not on the command line."""


def _hoisted(argv: Sequence[str]) -> list[str]:
    """`argv` with the global options moved to the front, where the parser wants them."""
    front: list[str] = []
    rest: list[str] = []
    words = iter(argv)
    for word in words:
        if word == "--":
            rest += [word, *words]
        elif word in _GLOBAL_WITH_VALUE:
            front += [word, *[value for value in [next(words, None)] if value is not None]]
        elif word.startswith(tuple(f"{option}=" for option in _GLOBAL_WITH_VALUE)):
            front.append(word)
        else:
            rest.append(word)
    return front + rest


def _with_verb(argv: list[str]) -> list[str]:
    """`argv`, its global options in front, with the verb that a noun stands for alone: `clip ID` is `clip show ID`."""
    at = 0
    while at < len(argv) and argv[at].startswith("-"):
        at += 2 if argv[at] in _GLOBAL_WITH_VALUE else 1
    command = COMMANDS.get(argv[at]) if at < len(argv) else None
    after = argv[at + 1 : at + 2]
    if command is None or not command.verbs or not after or after[0] in (*command.verbs, "--help", "-h"):
        return argv
    return [*argv[: at + 1], command.verbs[0], *argv[at + 1 :]]


def _interrupt_once() -> None:
    """Let Ctrl-C raise our own Interrupted, which no library takes for its own business."""
    import signal
    import threading

    from paletta_cli.errors import Interrupted

    def interrupt(_signal: int, _frame: object) -> None:
        raise Interrupted

    # A shell starts background jobs with SIGINT ignored: leave that as it is.
    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if ours and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, interrupt)


def _refused(out: "Output", error: OSError) -> int:
    """The file system says no: to a file, or to our output where that goes into one."""
    from paletta_cli.errors import cannot

    if error.filename is not None:
        told = cannot("use", error.filename, error)
    elif error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # no second error at exit
        told = cannot("write", "stdout", error)
    else:
        return _crashed(out, error)
    out.error(told.message, told.hint)
    return told.exit_code


def _crashed(out: "Output", error: Exception) -> int:
    """Say what happened in a line, and keep the traceback in a file for the bug report."""
    import time
    import traceback

    from paletta_cli.errors import PalettaError
    from paletta_cli.settings import state_dir, write_private

    trace = _masked("".join(traceback.format_exception(error)))
    path = state_dir() / "crashes" / f"{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}.log"
    try:
        write_private(path, f"paletta {__version__}, python {sys.version}\n{trace}")
        hint = f"this is a bug in paletta; the details are in `{path}`"
    except PalettaError:
        out.note(trace)
        hint = "this is a bug in paletta"
    out.error(f"unexpected {type(error).__name__}: {_masked(str(error))[:200]}", hint)
    return 1


def _masked(text: str) -> str:
    """`text` without presigned queries and tokens, which are secrets wherever a library put them."""
    import re

    text = re.sub(r"(https?://[^\s'\"?]+)\?[^\s'\"]+", r"\1?…", text)
    return re.sub(r"plt_[A-Za-z0-9_]+", "plt_…", text)
