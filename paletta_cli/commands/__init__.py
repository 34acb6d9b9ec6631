"""One module per noun, one function per verb. At module level only typer is imported; the work is imported in
the body.

Options that many commands share are declared here, so that they read the same everywhere.
"""

from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="print the result as JSON on stdout")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="do not ask")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="show what would happen and stop there")]
