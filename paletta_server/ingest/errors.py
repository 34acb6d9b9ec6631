"""How the engine says no. `Rejected` is the file's fault and final, `EngineFailed` ours and worth a retry."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing wrong, or worth knowing. `code` is stable; `reason` and `hint` are for the contributor."""

    code: str
    reason: str
    hint: str = ""


class Rejected(Exception):
    """The file cannot become a clip. Of its content the words repeat only numbers and names that we know."""

    def __init__(self, code: str, reason: str, hint: str = "") -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.hint = hint

    @property
    def finding(self) -> Finding:
        """The same as a value to store."""
        return Finding(self.code, self.reason, self.hint)


class EngineFailed(Exception):
    """The engine could not do its work: no disk, no memory, no time, a bug. `detail` is for the log."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail
