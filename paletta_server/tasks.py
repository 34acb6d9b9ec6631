"""Every module that registers jobs, imported once: whoever defers or works needs all of them."""

from paletta_server.accounts import tasks as _accounts  # noqa: F401
from paletta_server.analytics import tasks as _analytics  # noqa: F401
from paletta_server.audit import tasks as _audit  # noqa: F401
from paletta_server.clips import previews as _previews  # noqa: F401
from paletta_server.clips import tasks as _clips  # noqa: F401
from paletta_server.core import mail as _mail  # noqa: F401
from paletta_server.delivery import tasks as _delivery  # noqa: F401
from paletta_server.earnings import tasks as _earnings  # noqa: F401
from paletta_server.ingest import tasks as _ingest  # noqa: F401
from paletta_server.ingest.mediaconvert import tasks as _mediaconvert  # noqa: F401
from paletta_server.likeness import tasks as _likeness  # noqa: F401
from paletta_server.operations import tasks as _operations  # noqa: F401
from paletta_server.payments import tasks as _payments  # noqa: F401
from paletta_server.payments.sandbox import tasks as _sandbox  # noqa: F401
from paletta_server.search import tasks as _search  # noqa: F401
from paletta_server.uploads import tasks as _uploads  # noqa: F401
