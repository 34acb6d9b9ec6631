"""The CloudFormation template of an installation, as data: one module for each concern.

`render` puts the parts together, `to_yaml` writes them. The same options give the same text.
"""

from __future__ import annotations

from typing import Any

from paletta_server.aws.options import Options
from paletta_server.aws.template.parts import Part, Value
from paletta_server.aws.template.standing import shape

MOST_INLINE_BYTES, MOST_BYTES = 51_200, 1_000_000
"""What CloudFormation takes in a request, and from a bucket."""


def render(options: Options) -> dict[str, Value]:
    """The whole template. Raises ValueError where two parts use one name."""
    parts = _parts(options)
    found: dict[str, Value] = {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": "Paletta, a marketplace for stock video clips: API, workers, database, bucket, delivery, mail",
        "Metadata": {"Options": shape(options), "OnEveryResource": _reasons()},
    }
    for section in ("parameters", "conditions", "resources", "outputs"):
        merged: dict[str, Value] = {}
        for part in parts:
            more: dict[str, Value] = getattr(part, section)
            if twice := merged.keys() & more.keys():
                raise ValueError(f"{section}: {sorted(twice)[0]} is there twice")
            merged.update(more)
        if merged:
            found[section.title()] = merged
    return found


def to_yaml(template: dict[str, Value]) -> str:
    """The template's text, in the order of its parts."""
    import yaml

    class Plain(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:
            return True  # CloudFormation reads no anchors

    text: str = yaml.dump(template, Dumper=Plain, sort_keys=False, width=110, allow_unicode=True)
    return text


def _parts(options: Options) -> list[Part]:
    from paletta_server.aws.template.access import access
    from paletta_server.aws.template.alarms import alarms
    from paletta_server.aws.template.compute import compute
    from paletta_server.aws.template.data import data
    from paletta_server.aws.template.delivery import delivery
    from paletta_server.aws.template.edge import edge
    from paletta_server.aws.template.environment import choices, secret_resources
    from paletta_server.aws.template.mail import mail
    from paletta_server.aws.template.media import media
    from paletta_server.aws.template.network import network
    from paletta_server.aws.template.search import search

    makers = (
        edge,
        network,
        data,
        media,
        delivery,
        mail,
        secret_resources,
        choices,
        access,
        compute,
        search,
        alarms,
    )
    return [make(options) for make in makers]


def _reasons() -> dict[str, str]:
    from paletta_server.aws.template.policies import ON_ANYTHING

    return dict(ON_ANYTHING)
