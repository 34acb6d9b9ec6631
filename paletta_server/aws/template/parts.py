"""The words of CloudFormation as plain data, and how parts of a template are put together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Value = Any
"""Strings, numbers, booleans, lists and mappings of them, intrinsic functions included."""


@dataclass
class Part:
    """What one concern adds to the template. Names are unique over all parts."""

    parameters: dict[str, Value] = field(default_factory=dict)
    conditions: dict[str, Value] = field(default_factory=dict)
    resources: dict[str, Value] = field(default_factory=dict)
    outputs: dict[str, Value] = field(default_factory=dict)

    def resource(
        self,
        name: str,
        kind: str,
        properties: Mapping[str, Value] | None = None,
        *,
        why: str = "",
        condition: str | None = None,
        after: Iterable[str] = (),
        keep: Literal["Retain", "Snapshot"] | None = None,
    ) -> Value:
        """Add a resource; a reference to it. `why` is what a reader should know, `keep` what becomes of its data."""
        made: dict[str, Value] = {"Type": f"AWS::{kind}"}
        if condition:
            made["Condition"] = condition
        if depends := list(after):
            made["DependsOn"] = depends
        if keep:
            # What a creation that failed leaves behind is empty, and its name would be taken in the next one.
            made["DeletionPolicy"] = "RetainExceptOnCreate" if keep == "Retain" else keep
            made["UpdateReplacePolicy"] = keep
        if why:
            made["Metadata"] = {"Why": why}
        if properties:
            made["Properties"] = dict(properties)
        assert name not in self.resources, name
        self.resources[name] = made
        return ref(name)

    def parameter(self, name: str, description: str, *, kind: str = "String", **more: Value) -> Value:
        """Add a parameter; a reference to it."""
        self.parameters[name] = {"Type": kind, "Description": description, **more}
        return ref(name)

    def output(self, name: str, value: Value, description: str, *, condition: str | None = None) -> None:
        made = {"Condition": condition} if condition else {}
        self.outputs[name] = {**made, "Description": description, "Value": value}


def ref(name: str) -> Value:
    return {"Ref": name}


def get(name: str, attribute: str) -> Value:
    return {"Fn::GetAtt": [name, attribute]}


def sub(text: str, **names: Value) -> Value:
    """`text` with `${Name}` of resources, parameters, or of `names`."""
    return {"Fn::Sub": [text, names]} if names else {"Fn::Sub": text}


def when(condition: str, then: Value, otherwise: Value) -> Value:
    return {"Fn::If": [condition, then, otherwise]}


def is_given(parameter: str) -> Value:
    """A condition: the parameter is not empty."""
    return {"Fn::Not": [{"Fn::Equals": [ref(parameter), ""]}]}


STARTED = "Started"
"""A condition: the installation is set up, and its services are to run."""
NOTHING: Value = {"Ref": "AWS::NoValue"}


def tags(name: str) -> list[Value]:
    return [{"Key": "Name", "Value": sub("${AWS::StackName}-" + name)}]
