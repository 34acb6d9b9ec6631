"""Values of options that only the service can tell to be wrong, said of the option and not of the API's field."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from paletta_cli.errors import ApiProblem, UsageError

_FIELD = re.compile(r"(?:`(?P<quoted>[a-z_]+)`|(?P<bare>[a-z_]+):) ")
_SHOWN = 30
"""Characters of a value that the service repeats."""


@contextmanager
def told_of(fields: Mapping[str, str], values: Mapping[str, str | None]) -> Iterator[None]:
    """Raise UsageError for a value that the service refuses (422); other problems stay what they are.

    `fields`: the API's name of each → its option. `values`: option → what was given. A problem is an option's that
    begins with its field, or that repeats its value.
    """
    try:
        yield
    except ApiProblem as problem:
        found = _FIELD.match(problem.message)
        option = fields.get(found["quoted"] or found["bare"]) if found else None
        said = problem.message[found.end() :] if found and option else problem.message
        if option is None:
            told = (name for name, value in values.items() if value and f"`{value[:_SHOWN]}`" in said)
            option = next(told, None)
        if problem.status != 422 or option is None:
            raise
        raise UsageError(f"{option}: {said}", hint=_renamed(problem.hint, fields)) from problem


def _renamed(hint: str | None, fields: Mapping[str, str]) -> str | None:
    for field, option in fields.items():
        hint = hint and hint.replace(f"`{field}`", f"`{option}`")
    return hint
