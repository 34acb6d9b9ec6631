"""What CloudFormation makes of a template's conditions; functions other than `Fn::If` are left for the reader."""

from __future__ import annotations

from typing import Any

NO_VALUE = {"Ref": "AWS::NoValue"}


def decided(template: dict[str, Any], **parameters: str) -> dict[str, Any]:
    """The template as it is deployed with these parameters, all others having their defaults.

    Resources whose condition does not hold are left out, and every `Fn::If` is what it comes to. Raises KeyError for a
    parameter that the template does not have, or one without a value.
    """
    known = template["Parameters"]
    assert parameters.keys() <= known.keys(), parameters.keys() - known.keys()

    def value(node: Any) -> Any:
        if not isinstance(node, dict):
            return str(node)
        return parameters.get(node["Ref"], str(known[node["Ref"]].get("Default")))

    def holds(node: dict[str, Any]) -> bool:
        ((function, arguments),) = node.items()
        if function == "Fn::Equals":
            return bool(value(arguments[0]) == value(arguments[1]))
        if function == "Fn::Not":
            return not holds(arguments[0])
        assert function == "Condition", function
        return holds(template["Conditions"][arguments])

    def told(node: Any) -> Any:
        if isinstance(node, list):
            return [one for one in map(told, node) if one != NO_VALUE]
        if not isinstance(node, dict):
            return node
        if "Fn::If" in node:
            condition, then, otherwise = node["Fn::If"]
            return told(then if holds(template["Conditions"][condition]) else otherwise)
        made = {name: told(one) for name, one in node.items()}
        return {name: one for name, one in made.items() if one != NO_VALUE}

    resources = {
        name: told(resource)
        for name, resource in template["Resources"].items()
        if "Condition" not in resource or holds(template["Conditions"][resource["Condition"]])
    }
    return {**template, "Resources": resources}
