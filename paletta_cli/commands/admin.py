"""`paletta admin`: what only admins may do. Each noun is a module of its own, which imports nothing but typer."""

import typer

from paletta_cli.commands import (
    admin_applications,
    admin_clips,
    admin_flags,
    admin_prices,
    admin_taxonomy,
    admin_uploads,
)

app = typer.Typer(no_args_is_help=True)
app.add_typer(admin_taxonomy.app, name="taxonomy")
app.add_typer(admin_clips.app, name="clips")
app.add_typer(admin_applications.app, name="applications")
app.add_typer(admin_prices.app, name="prices")
app.add_typer(admin_flags.app, name="flags")
app.add_typer(admin_uploads.app, name="uploads")
