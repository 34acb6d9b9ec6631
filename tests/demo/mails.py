"""What the service mailed."""

from __future__ import annotations

import shutil
from email import policy
from email.message import EmailMessage
from email.parser import BytesParser
from pathlib import Path

from tests.demo.shell import require


def mails(maildir: Path) -> list[Path]:
    """The mails so far, oldest first."""
    found = [path for folder in ("new", "cur") for path in (maildir / folder).glob("*")]
    return sorted(found, key=lambda path: path.stat().st_mtime_ns)


def read(path: Path) -> EmailMessage:
    return BytesParser(EmailMessage, policy=policy.default).parsebytes(path.read_bytes())


def words(mail: EmailMessage) -> str:
    """A mail as a person reads it: the headers that matter, the plain text, the names of what is attached."""
    body = mail.get_body(("plain",))
    attached = "".join(f"\n[attached: {part.get_filename()}]" for part in mail.iter_attachments())
    heading = "".join(f"{name}: {mail[name]}\n" for name in ("From", "To", "Subject"))
    return f"{heading}\n{body.get_content().strip() if body else ''}{attached}"


def keep_mails(maildir: Path, target: Path) -> None:
    """Copy the mails that the service sent, and the papers that were attached to them."""
    found = mails(maildir)
    require(len(found) >= 2, "the batch and the order should have been announced by mail")
    for number, path in enumerate(found, start=1):
        shutil.copy(path, target / f"mail-{number}.eml")
        for part in read(path).iter_attachments():
            name = Path(part.get_filename() or "attachment").name
            (target / f"mail-{number}-{name}").write_bytes(part.get_content())
    print(f"wrote {len(found)} mails that people got")
