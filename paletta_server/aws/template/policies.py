"""Rights: statements of policies, each naming its actions one by one and the resources they are for."""

from __future__ import annotations

from collections.abc import Sequence

from paletta_server.aws.template.parts import Value, sub

ON_ANYTHING = {
    "ecr:GetAuthorizationToken": "a login to the registry; AWS knows no resource for it",
}
"""The actions that a policy here may grant on `*`, and why; anything else is refused while the template is made."""


def allow(*actions: str, on: Value | Sequence[Value], if_: Value | None = None) -> Value:
    """A statement of a role's policy. No wildcard in an action; `*` as resource only for `ON_ANYTHING`."""
    for action in actions:
        if "*" in action:
            raise ValueError(f"`{action}`: name the actions")
        if on == "*" and action not in ON_ANYTHING:
            raise ValueError(f"`{action}` on every resource has no reason in ON_ANYTHING")
    made: dict[str, Value] = {"Effect": "Allow", "Action": list(actions), "Resource": on}
    if if_:
        made["Condition"] = if_
    return made


def document(*statements: Value) -> Value:
    return {"Version": "2012-10-17", "Statement": list(statements)}


def policy(name: str, *statements: Value) -> Value:
    """An inline policy."""
    return {"PolicyName": name, "PolicyDocument": document(*statements)}


def trusted_by(service: str) -> Value:
    """Who may take a role: one service, on behalf of this account only."""
    return document(
        {
            "Effect": "Allow",
            "Principal": {"Service": f"{service}.amazonaws.com"},
            "Action": ["sts:AssumeRole"],
            "Condition": {"StringEquals": {"aws:SourceAccount": sub("${AWS::AccountId}")}},
        }
    )


def service_sends(service: str, action: str, *, to: Value, from_: Value | None = None) -> Value:
    """A resource's own policy: a service of this account may send to it, on behalf of `from_` alone where given."""
    condition: Value = {"StringEquals": {"aws:SourceAccount": sub("${AWS::AccountId}")}}
    if from_ is not None:
        condition = {"ArnEquals": {"aws:SourceArn": from_}}
    return {
        "Effect": "Allow",
        "Principal": {"Service": f"{service}.amazonaws.com"},
        "Action": [action],
        "Resource": to,
        "Condition": condition,
    }


def only_by_tls(action: str, *, on: Value | Sequence[Value]) -> Value:
    """Refuses what comes in the clear."""
    return {
        "Effect": "Deny",
        "Principal": {"AWS": "*"},
        "Action": [action],
        "Resource": on,
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
