"""botocore's model of the API, read from the server's side: requests off the wire, checked, and answers onto it."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import cache
from typing import Any

import botocore.session
from botocore.validate import ParamValidator


class BadRequest(Exception):
    """What the real service answers 400 to."""


@cache
def api() -> Any:
    return botocore.session.get_session().get_service_model("mediaconvert")


LARGEST_H264 = (4096, 2160)
"""Pixels of an H.264 output, either way round; AWS's page of the largest output resolutions by codec."""


def read(operation: str, body: dict[str, Any]) -> dict[str, Any]:
    """A request's body by the names of Python's SDK. Raises `BadRequest` for all that the model does not know, and for
    pictures that the encoder does not make."""
    shape = api().operation_model(operation).input_shape
    found: dict[str, Any] = _read(shape, body, "$")
    report = ParamValidator().validate(found, shape)
    if report.has_errors():
        raise BadRequest(report.generate_report())
    if operation == "CreateJob":
        _hold_pictures(found["Settings"])
    return found


def _hold_pictures(settings: dict[str, Any]) -> None:
    for group in settings.get("OutputGroups", ()):
        for output in group["Outputs"]:
            video = output["VideoDescription"]
            size = sorted((video["Width"], video["Height"]), reverse=True)
            too_large = any(side > most for side, most in zip(size, LARGEST_H264, strict=True))
            if video["CodecSettings"]["Codec"] == "H_264" and too_large:
                raise BadRequest(f"{output['NameModifier']}: {size} is more than {LARGEST_H264} of H.264")


def _read(shape: Any, value: Any, at: str) -> Any:
    if shape.type_name == "structure":
        if not isinstance(value, dict):
            raise BadRequest(f"{at} is no object")
        names = {member.serialization.get("name", name): name for name, member in shape.members.items()}
        if unknown := set(value) - set(names):
            raise BadRequest(f"{at}: unknown {sorted(unknown)}")
        return {
            names[key]: _read(shape.members[names[key]], one, f"{at}.{key}") for key, one in value.items()
        }
    if shape.type_name == "list":
        return [_read(shape.member, one, f"{at}[{number}]") for number, one in enumerate(value)]
    if shape.type_name == "map":
        return {key: _read(shape.value, one, f"{at}.{key}") for key, one in value.items()}
    _hold(shape, value, at)
    return value


def _hold(shape: Any, value: Any, at: str) -> None:
    """What botocore's validator leaves to the service: enumerations, ranges and patterns."""
    if (enum := getattr(shape, "enum", None)) and value not in enum:
        raise BadRequest(f"{at}: `{value}` is none of {enum}")
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    size = len(value) if isinstance(value, str) else value
    if (least is not None and size < least) or (most is not None and size > most):
        raise BadRequest(f"{at}: {value} is not within {least} and {most}")
    pattern = shape.metadata.get("pattern")
    if pattern and not re.match(pattern, value):
        raise BadRequest(f"{at}: `{value}` does not match {pattern}")


def write(operation: str, answer: dict[str, Any]) -> dict[str, Any]:
    """An answer as it goes over the wire."""
    found: dict[str, Any] = _write(api().operation_model(operation).output_shape, answer)
    return found


def _write(shape: Any, value: Any) -> Any:
    if shape.type_name == "structure":
        return {
            shape.members[name].serialization.get("name", name): _write(shape.members[name], one)
            for name, one in value.items()
            if one is not None
        }
    if shape.type_name == "list":
        return [_write(shape.member, one) for one in value]
    if shape.type_name == "map":
        return {key: _write(shape.value, one) for key, one in value.items()}
    if isinstance(value, datetime):
        return value.astimezone(UTC).timestamp()
    return value
