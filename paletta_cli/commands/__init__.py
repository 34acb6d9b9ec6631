"""One module per noun, one function per verb. At module level only typer is imported; the work is imported in
the body.

Options that many commands share are declared here, so that they read the same everywhere.
"""

from enum import StrEnum
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="print the result as JSON on stdout")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="do not ask")]
CheckMedia = Annotated[
    bool,
    typer.Option("--check-media/--no-check-media", help="open every clip, to find what ingest would refuse"),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="show what would happen and stop there")]


class Tier(StrEnum):
    """What is sold of a clip; a higher one includes the lower."""

    HD = "hd"
    UHD4K = "uhd4k"
    ORIGINAL = "original"


class Licence(StrEnum):
    """Who may use it, and how widely."""

    INDIVIDUAL = "individual"
    BUSINESS = "business"
    PREMIUM = "premium"
