"""Whose fault an error of MediaConvert is, and how to say it.

Their codes: https://docs.aws.amazon.com/mediaconvert/latest/ug/mediaconvert_error_codes.html. Only those that speak of
what is in the file are laid at its door; permissions, settings, disks and all that we do not know are ours, since a
contributor who is told to send the film again must not be told so in vain.
"""

from __future__ import annotations

from paletta_server.ingest.errors import EngineFailed, Finding
from paletta_server.ingest.transcode import REEXPORT

_PLAY = "play it to the end on your computer; copy it from the card again, or export it again"
_OF_THE_FILE = {
    1020: Finding("undecodable", "the transcoder finds no picture in the film", _PLAY),
    1021: Finding("undecodable", "the transcoder finds no sound where the film announces it", REEXPORT),
    1030: Finding(
        "codec_unsupported", "the transcoder does not know this kind of picture or sound", REEXPORT
    ),
    1075: Finding("damaged", "the transcoder cannot follow the film to its end", _PLAY),
    1076: Finding("damaged", "the film ends before it should", _PLAY),
    1092: Finding("undecodable", "the transcoder cannot decode the sound", REEXPORT),
}
_OF_OURS = {
    1010: "the transcoder could not open the film",
    1401: "the transcoder has no access to the store",
    1404: "the transcoder does not find the film in the store",
    **dict.fromkeys((1432, 1433, 1434, 1515), "the transcoder's role is not set up"),
    **dict.fromkeys((1040, 1041, 1042, 1043), "the transcoder does not take our settings"),
    **dict.fromkeys((1050, 1507), "the transcoder ran out of room"),
}
_UNREADABLE = "failed probe/open"


def judge(code: int | None, message: str | None) -> Finding | EngineFailed:
    """A finding where the file is at fault, else an error of ours; their own words are for the log alone."""
    if code == 1010 and _UNREADABLE in (message or "").lower():
        # The other half of this code: it had the bytes, and could make nothing of them.
        return Finding(
            "undecodable", "the transcoder cannot open the film: it is damaged or incomplete", _PLAY
        )
    if code in _OF_THE_FILE:
        return _OF_THE_FILE[code]
    words = _OF_OURS.get(code or 0, "the transcoder failed")
    return EngineFailed(words, f"MediaConvert {code}: {(message or '')[:1000]}")
