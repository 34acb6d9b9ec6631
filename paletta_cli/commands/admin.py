"""`paletta admin`: what only admins may do. Each noun is a module of its own, which imports nothing but typer."""

import typer

from paletta_cli.commands import (
    admin_applications,
    admin_clips,
    admin_contributors,
    admin_disputes,
    admin_flags,
    admin_logs,
    admin_mail,
    admin_orders,
    admin_payouts,
    admin_prices,
    admin_reconcile,
    admin_refunds,
    admin_reports,
    admin_review,
    admin_royalties,
    admin_stats,
    admin_taxonomy,
    admin_uploads,
    admin_users,
)

app = typer.Typer(no_args_is_help=True)
app.add_typer(admin_taxonomy.app, name="taxonomy")
app.add_typer(admin_clips.app, name="clips")
app.add_typer(admin_applications.app, name="applications")
app.add_typer(admin_prices.app, name="prices")
app.command("review")(admin_review.review)
app.add_typer(admin_reports.app, name="reports")
app.add_typer(admin_contributors.app, name="contributors")
app.add_typer(admin_users.app, name="users")
app.add_typer(admin_logs.app, name="logs")
app.add_typer(admin_mail.app, name="mail")
app.add_typer(admin_payouts.app, name="payouts")
app.add_typer(admin_royalties.app, name="royalties")
app.add_typer(admin_flags.app, name="flags")
app.add_typer(admin_uploads.app, name="uploads")
app.add_typer(admin_orders.app, name="orders")
app.add_typer(admin_refunds.app, name="refunds")
app.add_typer(admin_disputes.app, name="disputes")
app.command()(admin_reconcile.reconcile)
app.command("stats")(admin_stats.stats)
