"""Every model, imported once, so that the metadata that migrations compare with is whole."""

from paletta_server.accounts import models as _accounts  # noqa: F401
from paletta_server.analytics import models as _analytics  # noqa: F401
from paletta_server.audit import models as _audit  # noqa: F401
from paletta_server.clips import models as _clips  # noqa: F401
from paletta_server.collections import models as _collections  # noqa: F401
from paletta_server.core import holds as _holds  # noqa: F401
from paletta_server.core import identity as _identity  # noqa: F401
from paletta_server.core import job_records as _job_records  # noqa: F401
from paletta_server.core import mail as _mail  # noqa: F401
from paletta_server.core import suppression as _suppression  # noqa: F401
from paletta_server.core.database import Base
from paletta_server.delivery import models as _delivery  # noqa: F401
from paletta_server.earnings import models as _earnings  # noqa: F401
from paletta_server.flags import models as _flags  # noqa: F401
from paletta_server.ingest import models as _ingest  # noqa: F401
from paletta_server.likeness import models as _likeness  # noqa: F401
from paletta_server.moderation import models as _moderation  # noqa: F401
from paletta_server.orders import models as _orders  # noqa: F401
from paletta_server.payments import models as _payments  # noqa: F401
from paletta_server.payments.sandbox import models as _sandbox  # noqa: F401
from paletta_server.search import models as _search  # noqa: F401
from paletta_server.taxonomy import models as _taxonomy  # noqa: F401
from paletta_server.uploads import models as _uploads  # noqa: F401

metadata = Base.metadata
