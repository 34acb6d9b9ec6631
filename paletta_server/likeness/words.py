"""What a contributor is told of a clip that looks like another."""

from collections.abc import Sequence

from paletta_server.likeness.service import Alike

_MOST_NAMED = 3


def why_wait(alike: Sequence[Alike], owner_id: int) -> str | None:
    """Why a moderator looks at the clip first, where it looks like somebody else's, or like one that was taken down;
    of others' clips only listed ones are named.

    Others' clips that came after a like one of the same contributor's are copies of that, and no reason.
    """
    own = [one.clip for one in alike if one.clip.owner_id == owner_id and one.clip.taken_down]
    if own:
        what = _listed([clip.uid for clip in own])
        return f"looks like {what}, which was taken down: a moderator has a look at it first"
    first = min((one.clip_id for one in alike if one.clip.owner_id == owner_id), default=None)
    strange = [
        one for one in alike if one.clip.owner_id != owner_id and (first is None or one.clip_id < first)
    ]
    if not strange:
        return None
    named = [one.clip.uid for one in strange if one.clip.listed]
    what = _listed(named) if named else "a clip that somebody else sent before"
    return f"looks like {what}: a moderator has a look at it first"


def of_own(alike: Sequence[Alike], owner_id: int) -> str | None:
    """A warning of a clip that the same contributor has already."""
    own = [one.clip.uid for one in alike if one.clip.owner_id == owner_id]
    return f"looks like {_listed(own)}, which you sent before" if own else None


def _listed(uids: Sequence[str]) -> str:
    more = f" and {len(uids) - _MOST_NAMED} more" if len(uids) > _MOST_NAMED else ""
    return ", ".join(uids[:_MOST_NAMED]) + more
