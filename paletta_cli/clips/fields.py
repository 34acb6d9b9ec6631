"""Metadata fields from the command line: what `clips edit` was asked for → the body of a PATCH.

Values are typed and checked by the same rules as a manifest's, so `--set shot.size=wyde` gets the same words and the
same "did you mean" as a line of `paletta.yaml`. The service has the last word.
"""

from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from paletta_cli.errors import UsageError
from paletta_cli.text import closest

if TYPE_CHECKING:
    from paletta_cli.errors import ApiProblem
    from paletta_cli.manifests import Rules
    from paletta_cli.manifests.nodes import Node, ScalarNode


class Trouble(NamedTuple):
    """A value that cannot be taken."""

    message: str
    hint: str | None = None


@dataclass(frozen=True)
class Wish:
    """What stood on the command line; None means not mentioned. `settings` are `field=value` texts."""

    title: str | None = None
    description: str | None = None
    keywords: str | None = None
    add_keywords: Sequence[str] = ()
    remove_keywords: Sequence[str] = ()
    categories: Sequence[str] = ()
    settings: Sequence[str] = ()

    @property
    def empty(self) -> bool:
        return self == Wish()


class _Mark(NamedTuple):
    """Where a node stands, for code that expects a file."""

    line: int = 0
    column: int = 0


def patch(wish: Wish, clip: Mapping[str, Any], rules: "Rules") -> tuple[dict[str, Any], list[Trouble]]:
    """The fields to send, complete with what their other parts are now, and what was wrong with the wish.

    Raises UsageError for a `--set` that is not `field=value`.
    """
    checkers = {name: checker for name, checker in rules.clip_fields.items() if name != "file"}
    wanted, troubles = _wanted(wish, clip)
    body: dict[str, Any] = {}
    for name, value in wanted.items():
        found: list[Trouble] = []

        def report(
            _node: "Node", code: str, message: str, hint: str | None, found: list[Trouble] = found
        ) -> None:
            if code != "duplicate_item":  # the second of two equal keywords is dropped, no more
                found.append(Trouble(message, hint))

        if name == "file":
            found.append(
                Trouble("a clip's file cannot be changed", "upload the other file as a clip of its own")
            )
        elif name not in checkers:
            from paletta_cli.manifests.schema import unknown_field

            unknown_field(_scalar(name), checkers, report)
        else:
            body[name] = _typed(name, value, clip.get(name), checkers[name], report)
            if not found and body[name] in (None, "") and name in rules.required:
                found.append(Trouble(f"`{name}` cannot be empty"))
        troubles += found
    return body, troubles


def troubles_of(problem: "ApiProblem") -> list[Trouble]:
    """The service's refusal of a PATCH, field by field."""
    found = [
        Trouble(
            f"`{_dotted(one['pointer'])}`: {one['message'][:1].lower()}{one['message'][1:]}", one.get("hint")
        )
        for one in problem.body.get("problems") or ()
    ]
    return found or [Trouble(problem.message, problem.hint)]


def _dotted(pointer: str) -> str:
    """`/metadata/shot/size` → `shot.size`."""
    steps = pointer.removeprefix("/metadata").strip("/").split("/")
    return ".".join(step.replace("~1", "/").replace("~0", "~") for step in steps)


def _wanted(wish: Wish, clip: Mapping[str, Any]) -> tuple[dict[str, Any], list[Trouble]]:
    """Field → its new value as a person would write it, untyped."""
    wanted: dict[str, Any] = {}
    if wish.title is not None:
        wanted["title"] = wish.title
    if wish.description is not None:
        wanted["description"] = wish.description
    if wish.categories:
        wanted["categories"] = [word for given in wish.categories for word in _split(given)]
    if wish.keywords is not None or wish.add_keywords or wish.remove_keywords:
        before = _split(wish.keywords) if wish.keywords is not None else list(clip.get("keywords") or ())
        wanted["keywords"] = _changed_words(before, wish)
    troubles: list[Trouble] = []
    for setting in wish.settings:
        path, equals, text = setting.partition("=")
        steps = [step.strip() for step in path.split(".")]
        if not equals or not all(steps):
            raise UsageError(
                f"`--set {setting}` does not say what to set",
                hint="write --set field=value, as in shot.size=wide",
            )
        value, trouble = _parsed(text.strip(), path.strip())
        troubles += [trouble] if trouble else []
        top = steps[0]
        if len(steps) == 1:
            wanted[top] = value
            continue
        if not isinstance(wanted.get(top), dict):
            now = clip.get(top)
            wanted[top] = deepcopy(now) if isinstance(now, dict) else {}
        _put(wanted[top], steps[1:], value)
    return wanted, troubles


def _changed_words(before: Iterable[str], wish: Wish) -> list[str]:
    gone = {word.casefold() for given in wish.remove_keywords for word in _split(given)}
    words = [word for word in before if word.casefold() not in gone]
    known = {word.casefold() for word in words}
    for given in wish.add_keywords:
        for word in _split(given):
            if word.casefold() not in known:
                known.add(word.casefold())
                words.append(word)
    return words


def absent_keywords(wish: Wish, clip: Mapping[str, Any]) -> list[Trouble]:
    """Keywords that were to be removed and are not there: worth a word, not an error."""
    there = [str(word) for word in clip.get("keywords") or ()]
    known = {word.casefold() for word in there}
    missing = [
        word for given in wish.remove_keywords for word in _split(given) if word.casefold() not in known
    ]
    return [
        Trouble(f"`{word}` is not among the keywords", f"did you mean `{near}`?" if near else None)
        for word in missing
        for near in [closest(word, there)]
    ]


def _parsed(text: str, name: str) -> tuple[Any, Trouble | None]:
    """A value; lists and mappings are written as in a manifest, `[a, b]` and `{city: Porto}`."""
    if not text.startswith(("[", "{")):
        return text, None
    from paletta_cli.manifests.schema import as_plain
    from paletta_cli.manifests.source import parse

    document = parse(text.encode("utf-8", "replace"), name)
    if document.root is None or document.problems:
        problem = document.problems[0]
        return None, Trouble(f"`{name}`: {problem.message}", problem.hint)
    return as_plain(document.root), None


def _put(mapping: dict[str, Any], steps: Sequence[str], value: Any) -> None:
    for step in steps[:-1]:
        inner = mapping.get(step)
        if not isinstance(inner, dict):
            inner = mapping[step] = {}
        mapping = inner
    mapping[steps[-1]] = value


def _typed(name: str, value: Any, now: Any, checker: Any, report: Any) -> Any:
    """The value as the service takes it; what was emptied is false, an empty text or null, after its kind."""
    from paletta_cli.manifests.loader import merged

    typed = merged({}, {name: checker(_node(value), report)}).get(name)
    if typed is not None and typed != {}:
        return typed
    return False if isinstance(now, bool) else "" if name == "description" else None


def _node(value: Any) -> "Node":
    """A value as the node that the manifest's reader would have made of it."""
    from paletta_cli.manifests.nodes import MappingNode, SequenceNode

    if isinstance(value, Mapping):
        mapping = MappingNode(0, 0, True, 0)
        mapping.entries = {
            str(key): (_scalar(str(key)), _node(child)) for key, child in value.items() if child is not None
        }
        return mapping
    if isinstance(value, list | tuple):
        sequence = SequenceNode(0, 0, True, 0)
        sequence.items = [_node(child) for child in value]
        return sequence
    if isinstance(value, bool):
        return _scalar("true" if value else "false")
    return _scalar("" if value is None else str(value))


def _scalar(text: str) -> "ScalarNode":
    from paletta_cli.manifests.nodes import ScalarNode

    return ScalarNode(text, _Mark(), not text)  # only nothing at all counts as left out


def _split(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]
