"""What a switch stops: a dependency of the whole application, and one for each kind of request.

`read-only` goes by the method, so that a route that is added later is stopped as well, unless it stands on the list
here. The other switches are named by the routes that they are about (`dependencies=[unless(Switch.…)]`).
"""

from collections.abc import Callable
from html import escape
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.responses import HTMLResponse

from paletta_server.core.errors import Unavailable
from paletta_server.core.pages import page
from paletta_server.flags.service import Switch, Switches

READS = frozenset({"GET", "HEAD", "OPTIONS"})
STAY_OPEN = frozenset(
    {
        # In and out, and the way back: only who is logged in freshly can clear the switch.
        "POST /v1/auth/login",
        "POST /v1/auth/logout",
        "POST /v1/auth/confirm",
        "PUT /v1/admin/flags/{name}",
        "DELETE /v1/admin/flags/{name}",
        # Gateways do not ask again for ever: what they tell is stored, and handled by the workers.
        "POST /v1/webhooks/{gateway}",
        # Questions too long for an address: they change nothing.
        "POST /v1/uploads/rehearse",
        "POST /v1/manifest-schema/tags",
        "POST /v1/admin/taxonomy/plan",
        "POST /v1/admin/prices/plan",
        "POST /v1/me/certificates",
    }
)
"""What goes on while the service is read-only, as `METHOD path`."""
RETRY_AFTER_SECONDS = 60
"""For machines. How long a switch stays set nobody knows; people read the message."""


class ServicePaused(Unavailable):
    """An operator switched this off for now; `switch` says which switch it was."""

    code, title = "service_paused", "Paused"

    def __init__(self, message: str, switch: Switch) -> None:
        super().__init__(message, retry_after=RETRY_AFTER_SECONDS, switch=switch.value)


async def _switches(request: Request) -> Switches:
    found: Switches = request.app.state.switches
    return found


SwitchesDep = Annotated[Switches, Depends(_switches)]


async def stop_writes(request: Request, switches: SwitchesDep) -> None:
    """Raises `ServicePaused` for whatever is no question while the service is read-only."""
    if request.method in READS:
        return
    message = switches.message(Switch.READ_ONLY)
    if message is not None and f"{request.method} {request.scope['route'].path}" not in STAY_OPEN:
        raise ServicePaused(message, Switch.READ_ONLY)


def unless(*names: Switch) -> Any:
    """The dependency of a route that is refused while any of these switches is set."""

    async def check(switches: SwitchesDep) -> None:
        for name in names:
            if (message := switches.message(name)) is not None:
                raise ServicePaused(message, name)

    return Depends(_named(check, names))


def _named(check: Callable[..., Any], names: tuple[Switch, ...]) -> Callable[..., Any]:
    """Let tests find out what a route's dependency is about."""
    check.switches = names  # type: ignore[attr-defined]
    return check


def paused_page(error: ServicePaused) -> HTMLResponse:
    """The same for people in a browser."""
    answer = page("One moment", f'<p role="status">{escape(error.detail)}</p>', status=error.status)
    answer.headers.update(error.headers)
    return answer
