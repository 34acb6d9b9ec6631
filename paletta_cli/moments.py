"""Moments as people write them on a command line, and as tables show them."""

import re
from datetime import UTC, datetime, timedelta

from paletta_cli.errors import UsageError

_AGO = re.compile(r"(\d{1,5})([mhdw])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def moment(text: str | None, option: str) -> str | None:
    """`2026-05-01`, `2026-05-01T14:30` (this machine's zone unless it names one) or `90m`, `24h`, `7d`, `2w` ago, as
    the service takes it. Raises UsageError."""
    if text is None:
        return None
    if ago := _AGO.fullmatch(text.strip()):
        found = datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    else:
        try:
            found = datetime.fromisoformat(text.strip()).astimezone(UTC)
        except (ValueError, OverflowError) as error:
            raise UsageError(
                f"{option}: `{text}` is no moment", hint="write 2026-05-01, 2026-05-01T14:30 or 24h, 7d"
            ) from error
    return found.isoformat()


def minute(stamp: object) -> str:
    """A time of the service (ISO 8601) in this machine's zone, to the minute; nothing for none."""
    return _local(stamp, "%Y-%m-%d %H:%M")


def second(stamp: object) -> str:
    """The same to the second."""
    return _local(stamp, "%Y-%m-%d %H:%M:%S")


def day(stamp: object) -> str:
    """The same without the hour."""
    return _local(stamp, "%Y-%m-%d")


def _local(stamp: object, shape: str) -> str:
    return datetime.fromisoformat(str(stamp)).astimezone().strftime(shape) if stamp else ""
