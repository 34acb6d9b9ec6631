"""`paletta admin`: what only admins may do. Each noun is a module of its own, which imports nothing but typer."""

import typer

from paletta_cli.commands import admin_applications, admin_clips, admin_prices, admin_stats, admin_taxonomy

app = typer.Typer(no_args_is_help=True)
app.add_typer(admin_taxonomy.app, name="taxonomy")
app.add_typer(admin_clips.app, name="clips")
app.add_typer(admin_applications.app, name="applications")
app.add_typer(admin_prices.app, name="prices")
app.command("stats")(admin_stats.stats)
