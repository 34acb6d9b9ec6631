"""The taxonomy as a file: what an apply would read back without a change."""

import json
import re
from collections.abc import Mapping
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from paletta_server.taxonomy.apply import category_rows, tag_rows

HEAD = """\
# The operator's categories and tags. `paletta admin taxonomy plan FILE` shows what this file would change.
paletta_taxonomy: 1
"""

# What YAML readers take for text without quotes: a letter first, nothing with a meaning of its own inside.
_PLAIN = re.compile(r"[^\W\d_](?:[\w /&+()'’.-]*[\w)+.])?\Z")
_WORDS = frozenset({"true", "false", "yes", "no", "on", "off", "null", "y", "n", "nan", "inf"})


async def export(session: AsyncSession) -> str:
    """The operator's part of the taxonomy as YAML. What contributors own is theirs and stays out."""
    categories = [row for row in (await category_rows(session)).values() if row.owner_id is None]
    tags = [row for row in (await tag_rows(session)).values() if row.owner_id is None]
    lines = [HEAD, "categories:" if categories else "categories: []"]
    for category in categories:
        lines.append(f"- slug: {_scalar(category.key)}")
        lines.append(f"  name: {_scalar(category.name)}")
        if category.description:
            lines.append(f"  description: {_scalar(category.description)}")
        if category.parent:
            lines.append(f"  parent: {_scalar(category.parent)}")
        if category.agencies:
            lines.append(f"  agencies: {_pairs(category.agencies)}")
    lines.append("\ntags:" if tags else "\ntags: []")
    for tag in tags:
        if tag.synonyms:
            synonyms = ", ".join(map(_scalar, tag.synonyms))
            lines.append(f"- {{name: {_scalar(tag.key)}, synonyms: [{synonyms}]}}")
        else:
            lines.append(f"- {_scalar(tag.key)}")
    return "\n".join(lines) + "\n"


def _pairs(values: Mapping[str, Any]) -> str:
    return (
        "{"
        + ", ".join(f"{_scalar(key)}: {_scalar(str(value))}" for key, value in sorted(values.items()))
        + "}"
    )


def _scalar(text: str) -> str:
    """Text as YAML: as it is where that is safe everywhere, else in double quotes (JSON's are YAML's)."""
    if _PLAIN.match(text) and text.casefold() not in _WORDS:
        return text
    return json.dumps(text, ensure_ascii=False)
