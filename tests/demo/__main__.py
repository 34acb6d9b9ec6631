"""The main job, shown with real commands: `make demo`.

A service on this machine, a contributor, a folder of clips with a mistake in its manifest, an upload that is
killed half way and goes on, and clips that are live at the end; then a customer who finds them, pays, and
fetches them, killed half way again; then the operator's day: review, a refund, a dispute, figures, a backup, and
the same purchase from another service that the backup was restored into. Leaves pictures and mails in
`demo-out/` and nothing running. Any step that does not end as it should ends the demo with exit code 1.
"""

from __future__ import annotations

import secrets
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.demo.buying import buy
from tests.demo.mails import keep_mails
from tests.demo.operating import operate, take_over
from tests.demo.selling import sell
from tests.demo.shell import OUT, ROOT, DemoFailed, Person, free_port, say, service


def main() -> int:
    started = time.monotonic()
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir()
    home = Path(tempfile.mkdtemp(prefix="paletta-demo-"))
    try:
        password, port = secrets.token_urlsafe(18), free_port()
        say(
            "One command starts the whole service on this machine: PostgreSQL, object store, mail, API, worker."
        )
        with service(home, "service", port) as stack:
            person = Person(home, stack)
            live = sell(person, password)
            buy(person, password, live)
            keep_mails(person.maildir, OUT)
        say("The operator wants to see clips before they are in the shop, and starts it again so.")
        with service(home, "service", port, REVIEW="manual") as stack:
            operate(Person(home, stack), password, live)
        say("A machine is lost. On another one, an empty service takes the backup in …")
        with service(home, "elsewhere", free_port()) as stack:
            take_over(Person(home, stack), password)
    except DemoFailed as failed:
        print(f"\nthe demo failed: {failed}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(home, ignore_errors=True)
    say(f"That took {time.monotonic() - started:.0f} s. Nothing is left running. Look at:")
    for path in sorted(OUT.iterdir()):
        print(f"  {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
