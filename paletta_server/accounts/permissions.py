"""Who may do what: one table, which reads like the role table of the mission.

A contributor has everything that a customer has; an admin has everything. A route names the one permission
that it needs (`require(Permission.…)`), and a test walks every route against every role.
"""

from enum import StrEnum
from typing import Final

CUSTOMER, CONTRIBUTOR, ADMIN = "customer", "contributor", "admin"
EVERYONE = frozenset({CUSTOMER, CONTRIBUTOR, ADMIN})
CONTRIBUTORS = frozenset({CONTRIBUTOR, ADMIN})
ADMINS = frozenset({ADMIN})


class Permission(StrEnum):
    """What a route may need. The value doubles as the scope that a restricted token carries."""

    MANAGE_PROFILE = "profile"
    SEARCH = "search"
    BUY = "orders"
    DOWNLOAD = "downloads"
    REPORT_CLIPS = "reports"
    CREATE_TAXONOMY = "taxonomy:create"
    UPLOAD = "uploads"
    MANAGE_OWN_CLIPS = "clips"
    SEE_EARNINGS = "earnings"
    MANAGE_USERS = "admin:users"
    MANAGE_TAXONOMY = "admin:taxonomy"
    SEE_ALL_UPLOADS = "admin:uploads"
    MODERATE = "admin:moderate"
    MANAGE_PRICES = "admin:prices"
    MANAGE_ORDERS = "admin:orders"
    MANAGE_PAYOUTS = "admin:payouts"
    SEE_LOGS = "admin:logs"
    MANAGE_FLAGS = "admin:flags"
    SEE_ANALYTICS = "admin:analytics"


PERMISSIONS: Final[dict[Permission, frozenset[str]]] = {
    Permission.MANAGE_PROFILE: EVERYONE,
    Permission.SEARCH: EVERYONE,
    Permission.BUY: EVERYONE,
    Permission.DOWNLOAD: EVERYONE,
    Permission.REPORT_CLIPS: EVERYONE,
    Permission.CREATE_TAXONOMY: CONTRIBUTORS,
    Permission.UPLOAD: CONTRIBUTORS,
    Permission.MANAGE_OWN_CLIPS: CONTRIBUTORS,
    Permission.SEE_EARNINGS: CONTRIBUTORS,
    Permission.MANAGE_USERS: ADMINS,
    Permission.MANAGE_TAXONOMY: ADMINS,
    Permission.SEE_ALL_UPLOADS: ADMINS,
    Permission.MODERATE: ADMINS,
    Permission.MANAGE_PRICES: ADMINS,
    Permission.MANAGE_ORDERS: ADMINS,
    Permission.MANAGE_PAYOUTS: ADMINS,
    Permission.SEE_LOGS: ADMINS,
    Permission.MANAGE_FLAGS: ADMINS,
    Permission.SEE_ANALYTICS: ADMINS,
}


def allowed(role: str, scopes: tuple[str, ...], permission: Permission) -> bool:
    """Whether the role has the permission and the token's scopes (none: all of the role's) include it."""
    return role in PERMISSIONS[permission] and (not scopes or permission.value in scopes)
