"""What a pattern of EventBridge lets through, and what a resource's policy lets in: as AWS reads them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from paletta_server.aws.checks.base import Unknown

Document = Mapping[str, Any]


def passes(pattern: Document, event: Document) -> bool:
    """Whether an event matches. Raises `Unknown` for a kind of comparison that we do not know.

    https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-create-pattern-operators.html
    """
    for name, wanted in pattern.items():
        found = event.get(name)
        if isinstance(wanted, dict):
            if not isinstance(found, dict) or not passes(wanted, found):
                return False
        elif not isinstance(wanted, list):
            raise Unknown(f"its pattern has `{name}` in a way that we do not know", "read the rule's pattern")
        elif not any(_matches(one, found, name) for one in wanted):
            return False
    return True


def _matches(wanted: Any, found: Any, name: str) -> bool:
    if not isinstance(wanted, dict):
        return bool(wanted == found)
    (kind, value), *others = wanted.items()
    if not others and kind == "exists":
        return bool(value) == (found is not None)
    if not others and kind == "prefix" and isinstance(value, str):
        return isinstance(found, str) and found.startswith(value)
    if not others and kind == "anything-but" and isinstance(value, str | list):
        return found is not None and found not in (value if isinstance(value, list) else [value])
    raise Unknown(f"its pattern compares `{name}` in a way that we do not know", "read the rule's pattern")


def may_send(policy: Document, service: str, source: str) -> bool:
    """Whether a queue's policy lets a service send messages on behalf of `source`, an ARN."""
    return any(
        one.get("Effect") == "Allow"
        and _names(one.get("Principal"), f"{service}.amazonaws.com")
        and any(_like(action, "sqs:SendMessage", ignore_case=True) for action in _many(one.get("Action", ())))
        and _for_source(one.get("Condition", {}), source)
        for one in _many(policy.get("Statement", ()))
    )


def _names(principal: Any, service: str) -> bool:
    if isinstance(principal, dict):
        return service in _many(principal.get("Service", ())) or "*" in _many(principal.get("AWS", ()))
    return bool(principal == "*")


def _for_source(conditions: Document, source: str) -> bool:
    """Conditions about other things than who sends are taken to hold."""
    account = source.split(":")[4]
    for operator, keys in conditions.items():
        for key, values in keys.items():
            actual = {"aws:sourcearn": source, "aws:sourceaccount": account}.get(key.lower())
            positive = operator.lower().removesuffix("ifexists") in (
                *("arnequals", "arnlike", "stringequals", "stringlike"),
                "stringequalsignorecase",
            )
            if actual is not None and positive and not any(_like(one, actual) for one in _many(values)):
                return False
    return True


def _like(pattern: str, text: str, *, ignore_case: bool = False) -> bool:
    """With IAM's two wildcards: fnmatch would read brackets too."""
    words = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
    return re.fullmatch(words, text, re.IGNORECASE if ignore_case else 0) is not None


def _many(value: Any) -> Iterable[Any]:
    """One of something may stand without its list."""
    return value if isinstance(value, list | tuple) else (value,)
