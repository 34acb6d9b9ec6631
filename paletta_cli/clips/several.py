"""One action on several clips: what goes wrong with one does not keep the others."""

from collections.abc import Callable, Sequence
from typing import Any

from paletta_cli.errors import ApiProblem, SomeFailed
from paletta_cli.output import Output
from paletta_cli.text import plural

_ABOUT_THE_CLIP = (400, 404, 409, 412, 422)
"""Statuses that say nothing of the next clip; with any other, going on would be knocking at a closed door."""
_PER_CALL = 100  # the service's limit


class Several:
    """Runs an action per clip and remembers who failed; a clip that is named twice counts once.

    `earlier` is the step before, whose failures are part of the sum.
    """

    def __init__(self, out: Output, clips: Sequence[str], earlier: "Several | None" = None) -> None:
        self.out = out
        self.clips = list(dict.fromkeys(clips))
        self.total: int = earlier.total if earlier else len(self.clips)
        self.failed: list[dict[str, Any]] = list(earlier.failed) if earlier else []
        self.first: ApiProblem | None = earlier.first if earlier else None
        self.done: list[Any] = []

    def each(self, action: Callable[[str], Any]) -> None:
        """Call `action` with every clip; its answers are in `done`."""
        for clip in self.clips:
            try:
                self.done.append(action(clip))
            except ApiProblem as problem:
                if problem.status not in _ABOUT_THE_CLIP:
                    raise
                self._fail(clip, problem)

    def together(self, ask: Callable[[list[str]], Any], what: str) -> None:
        """As `each`, but many clips in one call: the answer has those done under `what`, the others in `failed`."""
        for start in range(0, len(self.clips), _PER_CALL):
            some = self.clips[start : start + _PER_CALL]
            try:
                answer = ask(some)
            except ApiProblem as problem:
                if len(some) > 1 or problem.status not in _ABOUT_THE_CLIP:
                    raise
                self._fail(some[0], problem)
                continue
            self.done += answer[what]
            for one in answer["failed"]:
                self._fail(one["clip"], ApiProblem(int(one["problem"]["status"]), one["problem"]))

    def _fail(self, clip: str, problem: ApiProblem) -> None:
        self.first = self.first or problem
        self.failed.append({"clip": clip, "code": problem.code, "detail": problem.message})
        if self.total > 1:
            self.out.error(_named(clip, problem), problem.hint)

    def end(self, what: str) -> None:
        """Raise the one error of a single clip, or `SomeFailed`; `what` as in `3 of 5 clips were not {what}`."""
        if self.first is None:
            return
        if self.total == 1:
            raise self.first
        raise SomeFailed(f"{len(self.failed)} of {plural(self.total, 'clip')} were not {what}")


def _named(clip: str, problem: ApiProblem) -> str:
    return problem.message if clip in problem.message else f"`{clip}`: {problem.message}"
