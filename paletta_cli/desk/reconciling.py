"""`paletta admin reconcile`: our books against the gateways', page by page."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from paletta_cli.errors import ApiProblem
from paletta_cli.output import Column, Output
from paletta_cli.text import plural

if TYPE_CHECKING:
    from paletta_cli.api import Service

_PER_CALL = 25
_COLUMNS = [
    Column("order", "order"),
    Column("payment", "payment"),
    Column("gateway", "at"),
    Column("what", "what", wrap=True),
    Column("ours", "ours", show=lambda value: value or "–"),
    Column("theirs", "theirs", show=lambda value: value or "–"),
    Column("fixed", "", show=lambda value: "settled" if value else ""),
]


def reconcile(
    service: "Service", out: Output, *, since: str | None, order: str | None, gateways: list[str], fix: bool
) -> bool:
    """Compare, print every difference, and tell whether none is left."""
    compared, differences = 0, []
    wanted = {"since": since, "order": order, "fix": fix, "limit": _PER_CALL}
    for page in _pages(service, "payments", wanted):
        compared += page["compared"]
        differences += page["differences"]
        out.note(f"{plural(compared, 'payment')} compared")
    if since is not None and order is None:
        for gateway in gateways:
            differences += _listed(service, out, gateway, since, fix=fix)
    if order is None:
        for page in _pages(service, "ledgers", {"since": since}):
            differences += page["differences"]
    left = [one for one in differences if not one["fixed"]]
    if out.mode == "json":
        out.data({"compared": compared, "differences": differences, "left": len(left)})
    else:
        out.table(differences, _COLUMNS)
    fixed = len(differences) - len(left)
    out.note(
        f"{plural(len(left), 'difference')} left" + (f", {fixed:,} settled" if fixed else "")
        if differences
        else "the books agree"
    )
    if left and not fix:
        out.hint("--fix settles what differs")
    elif left:
        out.hint("`paletta admin orders attention` lists what needs a person")
    return not left


def _listed(service: "Service", out: Output, gateway: str, since: str, *, fix: bool) -> list[Any]:
    """What a gateway lists and we do not have. One that this service does not use is left out."""
    found: list[Any] = []
    try:
        for page in _pages(service, "listing", {"gateway": gateway, "since": since, "fix": fix}):
            found += page["differences"]
    except ApiProblem as problem:
        if problem.code != "gateway_unavailable":
            raise
        out.warn(f"{gateway} could not be asked for its list: {problem.message}")
        found.append(
            {
                "order": None, "payment": None, "gateway": gateway, "what": "list", "ours": None,
                "theirs": "the gateway does not answer", "fixed": False,
            }
        )  # fmt: skip
    return found


def _pages(service: "Service", what: str, body: dict[str, Any]) -> Iterator[Any]:
    cursor: str | None = None
    while True:
        more = {"cursor": cursor} if cursor else {}
        page = service.post(f"/v1/admin/reconcile/{what}", {**body, **more}, idempotent=True)
        yield page
        cursor = page["next_cursor"]
        if not cursor:
            return
