"""What a moderator works through, without a screen: the clips offered so far, and what was decided on them."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from paletta_cli.api import segment
from paletta_cli.errors import ApiProblem, PalettaError
from paletta_cli.output import Output
from paletta_cli.review.deciding import WORDS
from paletta_cli.text import plural

if TYPE_CHECKING:
    from paletta_cli.api import Service

RENEW_SECONDS = 240
"""The service forgets a claim after ten minutes; whoever looks for longer renews it in good time."""
_GONE = (404, 409)


@dataclass
class Offered:
    """A clip that was offered, as the service told of it last. `outcome`: what became of it, once that is known."""

    item: dict[str, Any]
    outcome: str | None = None

    @property
    def clip(self) -> dict[str, Any]:
        clip: dict[str, Any] = self.item["clip"]
        return clip

    @property
    def id(self) -> str:
        return str(self.clip["id"])


@dataclass
class Desk:
    """Asks for clips and sends decisions. Every method may raise the errors of `paletta_cli.errors`."""

    service: "Service"
    batch: str | None = None
    contributor: str | None = None
    offered: list[Offered] = field(default_factory=list)
    at: int = -1
    """Which of the offered clips is looked at; behind the last one nothing waits (any more)."""
    waiting: int = 0
    reasons: list[dict[str, str]] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)

    def start(self) -> None:
        """Read the published reasons, and take the first clip."""
        self.reasons = self.service.get("/v1/moderation/reasons")["review"]
        self.forward()

    @property
    def current(self) -> Offered | None:
        return self.offered[self.at] if 0 <= self.at < len(self.offered) else None

    def forward(self) -> Offered | None:
        """The next clip: one that was passed over before, or a new one; None when nothing waits behind these."""
        if self.at < len(self.offered) - 1:
            self.at += 1
            return self._again()
        body = {
            "after": self.offered[-1].id if self.offered else None,
            "batch": self.batch,
            "contributor": self.contributor,
        }
        answer = self.service.post("/v1/admin/review/next", body, idempotent=True)
        self.waiting = answer["waiting"]
        if answer["item"] is not None:
            self.offered.append(Offered(answer["item"]))
        self.at = len(self.offered) if answer["item"] is None else len(self.offered) - 1
        return self.current

    def back(self) -> Offered | None:
        """The clip before, read again; None at the first one."""
        if self.at <= 0:
            return None
        self.at -= 1
        return self._again()

    def anew(self) -> Offered | None:
        """Begin at the start of the queue again: what was skipped, and what came back since."""
        self.offered, self.at = [], -1
        return self.forward()

    def skip(self) -> Offered | None:
        """Leave the clip to others, and go on."""
        if (offered := self.current) is not None and offered.outcome is None:
            self.service.delete(f"/v1/admin/review/{segment(offered.id)}/claim")
        return self.forward()

    def renew(self) -> None:
        """Keep the claim on the clip that is looked at."""
        if (offered := self.current) is not None and offered.outcome is None:
            self.service.post(f"/v1/admin/review/{segment(offered.id)}/claim", idempotent=True)

    def decide(self, verdict: str, *, reason_code: str | None = None, reason: str | None = None) -> str:
        """Send a decision on the clip that is looked at; what to tell the moderator.

        One that cannot be decided (any more) is told as well, and marked, so that the queue goes on; one that its
        contributor has changed meanwhile is read again. Raises only where another try may help.
        """
        offered = self.current
        if offered is None:
            return "no clip to decide on"
        if offered.outcome is not None:
            return f"this clip is done: {offered.outcome}"
        body = {
            "clips": [offered.id],
            "verdict": verdict,
            "version": offered.clip["version"],
            "reason_code": reason_code,
            "reason": reason or None,
        }
        try:
            self.service.post("/v1/admin/clips/decide", body)
        except ApiProblem as problem:
            if problem.status not in _GONE:
                raise
            return self._not_decided(offered, problem)
        offered.outcome = WORDS[verdict]
        self.done[verdict] += 1
        self.waiting = max(0, self.waiting - 1)
        return f"{offered.id} {offered.outcome}"

    def _not_decided(self, offered: Offered, problem: ApiProblem) -> str:
        if problem.code == "changed_meanwhile":
            self._again()
            return "not decided: its contributor has changed it meanwhile; look at it again"
        deleted = problem.status == 404
        offered.outcome = "deleted by its contributor" if deleted else "decided by somebody else"
        self.waiting = max(0, self.waiting - 1)
        return f"{offered.id} not decided: {'it was deleted meanwhile' if deleted else problem.message}"

    def _again(self) -> Offered | None:
        """The current clip as it is now, claimed again where it still waits."""
        offered = self.current
        if offered is None or offered.outcome is not None:
            return offered
        try:
            offered.item = self.service.post(f"/v1/admin/review/{segment(offered.id)}/claim", idempotent=True)
        except ApiProblem as problem:
            if problem.status not in _GONE:
                raise
            offered.outcome = "deleted by its contributor"
            return offered
        if offered.clip["stage"] != "in_review":
            offered.outcome = f"{str(offered.clip['stage']).replace('_', ' ')} by somebody else's decision"
        return offered

    def leave(self) -> None:
        """Let go of everything that is claimed. What fails here ends by itself in ten minutes."""
        self.service.tries = 1
        try:
            self.service.delete("/v1/admin/review/claims")
        except PalettaError as error:
            Output().warn(f"claims could not be given back, and end in ten minutes: {error.message}")

    def sum_up(self) -> None:
        """What was done, once the screen is given back."""
        out = Output()
        counts = [f"{self.done[verdict]} {words}" for verdict, words in WORDS.items() if self.done[verdict]]
        out.note(", ".join(counts) if counts else "nothing was decided")
        if self.waiting:
            out.note(f"{plural(self.waiting, 'clip')} waiting")


def addresses(item: Mapping[str, Any]) -> dict[str, str]:
    """Where the pictures and the film of a clip are; those that there are."""
    return {kind: str(address) for kind, address in item["clip"]["media"].items() if address}
