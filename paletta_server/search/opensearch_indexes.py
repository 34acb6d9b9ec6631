"""The indexes behind the alias: making one, putting it in place of the live one, removing what is left over."""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING, Any

from paletta_server.search.opensearch_client import WRITE_SECONDS, Missing, Refused, asking
from paletta_server.search.opensearch_schema import mapping, settings
from paletta_server.search.opensearch_writing import writing

if TYPE_CHECKING:
    from opensearchpy import OpenSearch

_SLOWLY: dict[str, Any] = {"request_timeout": WRITE_SECONDS}


def create(client: OpenSearch, alias: str) -> str:
    """A new, empty index that nobody searches yet; its name."""
    name = f"{alias}-{secrets.token_hex(6)}"
    body = {"settings": settings(), "mappings": mapping(), "aliases": {writing(name): {}}}
    with asking():
        client.indices.create(index=name, body=body, params=_SLOWLY)
    return name


def live(client: OpenSearch, alias: str) -> str | None:
    """The index that the alias names. Raises `Refused` where it is not an alias for one of ours."""
    try:
        with asking():
            found: list[str] = list(client.indices.get_alias(name=alias))
    except Missing:
        return None
    if len(found) != 1 or not _ours(found[0], alias):
        raise Refused(f"the alias `{alias}` is for {', '.join(sorted(found))[:200]}, which we did not make")
    return found[0]


def publish(client: OpenSearch, alias: str, name: str) -> None:
    """Let the alias name this index: whoever searches meets the old one or this, never both and never none."""
    actions: list[dict[str, Any]] = [{"add": {"index": name, "alias": alias}}]
    old = live(client, alias)
    if old is not None and old != name:
        actions.append({"remove": {"index": old, "alias": alias}})
    with asking():
        client.indices.update_aliases(body={"actions": actions}, params=_SLOWLY)


def drop(client: OpenSearch, name: str) -> None:
    try:
        with asking():
            client.indices.delete(index=name, params=_SLOWLY)
    except Missing:
        pass


def left_over(client: OpenSearch, alias: str) -> list[str]:
    """Indexes of ours that are not live: an earlier one, or one whose build died."""
    try:
        with asking():
            found = client.indices.get_alias(index=f"{alias}-*")
    except Missing:
        return []
    return sorted(
        name for name, one in found.items() if _ours(name, alias) and alias not in one.get("aliases", {})
    )


def _ours(name: str, alias: str) -> bool:
    """Others' names may begin alike: nothing of theirs is ever removed."""
    return re.fullmatch(re.escape(alias) + "-[0-9a-f]{12}", name) is not None
