"""Why clips are turned down, and why they are reported: published lists, in words that contributors understand.

The codes are stable; the words are what the big agencies' reviewers say, put plainly.
"""

from typing import Final

from paletta_server.core.errors import Invalid

REVIEW: Final[dict[str, tuple[str, str]]] = {
    "focus": (
        "soft focus",
        "The picture is out of focus, or smeared by movement, where the viewer looks.",
    ),
    "noise": (
        "noise or compression",
        "There is visible noise, grain, banding or compression damage in the picture.",
    ),
    "exposure": (
        "exposure or colour",
        "The picture is too dark, too bright or off in colour, or changes in it within the shot.",
    ),
    "stabilisation": (
        "unsteady camera",
        "The camera shakes, jerks or drifts: stabilise the shot, or send a steadier take.",
    ),
    "trademark": (
        "brand or artwork",
        "A brand, logo, artwork or other protected design can be seen: remove it, or offer the clip as editorial.",
    ),
    "privacy": (
        "release missing",
        "People or private property can be recognised and no release is named: add it, or offer the clip as editorial.",
    ),
    "keywords": (
        "title or keywords",
        "Title, description or keywords name what the clip does not show, or say the same again and again.",
    ),
    "duplicate": (
        "duplicate",
        "The clip is the same as another that is here already, or too much like it.",
    ),
    "technical": (
        "technical fault",
        "The film has a technical fault, such as dropped, doubled or black frames, interlacing or several shots.",
    ),
    "other": ("something else", ""),
}
"""Code → a label for lists, and what the contributor reads. `other` says nothing by itself."""

REPORTS: Final[dict[str, str]] = {
    "copyright": "somebody else made this",
    "trademark": "a brand, logo or artwork is shown",
    "privacy": "somebody is shown who did not agree",
    "misleading": "it is not what its title and keywords say",
    "offensive": "it is offensive or unlawful",
    "technical": "the film is faulty",
    "other": "something else",
}
"""Code → what somebody says who reports a clip."""


def worded(code: str | None, text: str | None) -> str | None:
    """What the contributor reads: the reason's own words, then the moderator's.

    Raises `Invalid`: `unknown_reason`, or `reason_missing` where neither says anything.
    """
    if code is not None and code not in REVIEW:
        raise unknown(code, REVIEW)
    said = " ".join(part for part in (REVIEW[code][1] if code else "", text or "") if part)
    if code is not None and not said:
        raise Invalid(
            f"the reason `{code}` says nothing by itself",
            code="reason_missing",
            hint="say in `reason` what is wrong with the clip",
        )
    return said or None


def unknown(code: str, known: dict[str, tuple[str, str]] | dict[str, str]) -> Invalid:
    return Invalid(
        f"reason_code: there is no reason `{code}`", code="unknown_reason", hint="one of " + ", ".join(known)
    )
