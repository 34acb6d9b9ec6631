"""`paletta-server aws …`: an installation on AWS, from the plan to the check."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from paletta_server.aws.options import Options

app = typer.Typer(no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]


class VpcChoice(StrEnum):
    """Where everything is put."""

    NEW = "new"
    EXISTING = "existing"


class OriginalsClass(StrEnum):
    """S3's classes. From the last two an original is asked back when somebody buys it, which takes hours."""

    STANDARD = "STANDARD"
    INTELLIGENT = "INTELLIGENT_TIERING"
    GLACIER_INSTANT = "GLACIER_IR"
    GLACIER = "GLACIER"
    DEEP_ARCHIVE = "DEEP_ARCHIVE"


Domain = Annotated[str, typer.Option(help="Where people reach the API.")]
Bucket = Annotated[str | None, typer.Option(help="Name of the bucket.", show_default="by account and region")]
Region = Annotated[str, typer.Option(help="Where everything is.")]
Vpc = Annotated[VpcChoice, typer.Option(help="A network of its own, or one that is there.")]
OpenSearch = Annotated[bool, typer.Option("--opensearch/--no-opensearch", help="Search by OpenSearch.")]
MediaConvert = Annotated[bool, typer.Option("--mediaconvert/--ffmpeg", help="Who transcodes.")]
Kms = Annotated[bool, typer.Option("--kms/--no-kms", help="A key of KMS for bucket and database.")]
Originals = Annotated[OriginalsClass, typer.Option(help="Class in which originals are kept.")]
Zone = Annotated[str | None, typer.Option(help="Zone of Route 53 in which to make records.", metavar="ID")]
Dmarc = Annotated[bool, typer.Option("--dmarc/--no-dmarc", help="Make the zone's record `_dmarc` as well.")]
Keys = Annotated[
    list[Path] | None,
    typer.Option(
        "--cloudfront-public-key", help="PEM file of a key that signs addresses; repeat it.", metavar="FILE"
    ),
]
Gateways = Annotated[str, typer.Option(help="What customers pay with, comma between: stripe, invoice.")]


def _options(
    domain: str,
    bucket: str | None,
    region: str,
    vpc: VpcChoice,
    opensearch: bool,
    mediaconvert: bool,
    kms: bool,
    originals: OriginalsClass,
    zone: str | None,
    dmarc: bool,
    keys: list[Path] | None,
    gateways: str,
) -> Options:
    from paletta_server.aws.options import Options, OptionsRefused, read_public_keys
    from paletta_server.commands import terminal

    try:
        return Options(
            domain=domain,
            bucket=bucket,
            region=region,
            vpc=vpc.value,
            opensearch=opensearch,
            transcoder="mediaconvert" if mediaconvert else "ffmpeg",
            kms=kms,
            originals_class=originals.value,
            hosted_zone=zone,
            dmarc=dmarc,
            public_keys=read_public_keys(keys or ()),
            gateways=tuple(word.strip() for word in gateways.split(",") if word.strip()),
        )
    except OptionsRefused as error:
        terminal.error(str(error))
        raise typer.Exit(2) from error


@app.callback()
def aws() -> None:
    """An installation on AWS."""


@app.command()
def plan(
    domain: Domain = "paletta.example.com",
    bucket: Bucket = None,
    region: Region = "us-east-1",
    vpc: Vpc = VpcChoice.NEW,
    opensearch: OpenSearch = False,
    mediaconvert: MediaConvert = True,
    kms: Kms = False,
    originals_class: Originals = OriginalsClass.INTELLIGENT,
    hosted_zone: Zone = None,
    dmarc: Dmarc = False,
    cloudfront_public_key: Keys = None,
    gateways: Gateways = "stripe,invoice",
    as_json: Json = False,
) -> None:
    """Print what an installation needs: services, quotas, what to have ready, settings and secrets."""
    from paletta_server.aws import plan as planning
    from paletta_server.aws.tables import sections
    from paletta_server.commands import terminal

    options = _options(
        *(domain, bucket, region, vpc, opensearch, mediaconvert, kms),
        *(originals_class, hosted_zone, dmarc, cloudfront_public_key, gateways),
    )
    if as_json:
        terminal.result(json.dumps(planning.as_json(options), indent=2))
        return
    terminal.result(sections((need.kind, need.name, need.value) for need in planning.plan(options)))


@app.command()
def template(
    domain: Domain = "paletta.example.com",
    bucket: Bucket = None,
    region: Region = "us-east-1",
    vpc: Vpc = VpcChoice.NEW,
    opensearch: OpenSearch = False,
    mediaconvert: MediaConvert = True,
    kms: Kms = False,
    originals_class: Originals = OriginalsClass.INTELLIGENT,
    hosted_zone: Zone = None,
    dmarc: Dmarc = False,
    cloudfront_public_key: Keys = None,
    gateways: Gateways = "stripe,invoice",
    deployed: Annotated[
        typer.FileText | None,
        typer.Option(
            help="What `aws cloudformation get-template` prints of the stack, `-` for standard input: refuse options "
            "that would replace what it has made."
        ),
    ] = None,
    stack_policy: Annotated[
        bool, typer.Option("--stack-policy", help="Print the policy for `set-stack-policy` instead.")
    ] = False,
) -> None:
    """Print a CloudFormation template of the whole installation. The same options give the same text."""
    from paletta_server.aws.options import OptionsRefused
    from paletta_server.aws.template import render, standing, to_yaml
    from paletta_server.commands import terminal

    options = _options(
        *(domain, bucket, region, vpc, opensearch, mediaconvert, kms),
        *(originals_class, hosted_zone, dmarc, cloudfront_public_key, gateways),
    )
    if deployed is not None:
        try:
            standing.refuse_replacing(deployed.read(), options)
        except (OptionsRefused, UnicodeDecodeError) as error:
            terminal.error(str(error))
            raise typer.Exit(2) from error
    made = render(options)
    if stack_policy:
        terminal.result(json.dumps(standing.stack_policy(made), indent=2))
        return
    terminal.result(to_yaml(made).rstrip("\n"))


@app.command("prepare-database")
def prepare_database() -> None:
    """Make the role as which the service logs in with IAM tokens. Run as RDS's first user; again changes nothing."""
    import psycopg

    from paletta_server.aws.database_role import NotRds, prepare
    from paletta_server.commands import terminal
    from paletta_server.core.logging import mask
    from paletta_server.core.settings import get_settings

    settings = get_settings()
    try:
        done = prepare(settings)
    except NotRds as error:
        terminal.error(
            "the database has no role `rds_iam`, so it is not RDS\n"
            "hint: elsewhere make a role with a password yourself, and set PALETTA_DATABASE_URL"
        )
        raise typer.Exit(1) from error
    except psycopg.Error as error:
        reason = mask(next(iter(str(error).strip().splitlines()), type(error).__name__))
        terminal.error(
            f"the database at {mask(settings.libpq_url)}: {reason}\n"
            "hint: PALETTA_DATABASE_URL has to name the first user, PGPASSWORD its password"
        )
        raise typer.Exit(1) from error
    for line in done or ["nothing to do"]:
        terminal.say(line)


@app.command("write-keys")
def write_keys(
    to: Annotated[
        Path, typer.Option(help="The folder, made where it is missing, for this user's eyes only.")
    ],
) -> None:
    """Write the private keys in DELIVERY_KEY_NAME to NAME.pem, each of them: secrets come as variables."""
    from paletta_server.aws.keyfiles import KeysRefused, write
    from paletta_server.commands import terminal

    try:
        written = write(to)
    except KeysRefused as error:
        terminal.error(str(error))
        raise typer.Exit(1) from error
    terminal.say(f"wrote {len(written)} key{'s' if len(written) > 1 else ''} to {to}")


@app.command()
def check(
    stack: Annotated[
        str | None, typer.Option(help="Look at what this stack's outputs name, rather than at the settings.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Look at an installation, changing nothing. Exit code 1 where something is wrong, 6 where it cannot be known."""
    from paletta_server.aws.checks import run_check
    from paletta_server.core.settings import get_settings

    raise typer.Exit(run_check(get_settings(), stack=stack, as_json=as_json))


@app.command()
def cost(
    clips: Annotated[int, typer.Option(min=1, help="Clips in the shop.")] = 100_000,
    new_clips: Annotated[
        int | None,
        typer.Option(min=0, help="Clips that come in each month.", show_default="3 in 100 of them"),
    ] = None,
    sales: Annotated[
        int | None, typer.Option(min=0, help="Clips sold each month.", show_default="2 in 100 of them")
    ] = None,
    prices: Annotated[
        Path | None, typer.Option(help="Your own prices and assumptions (YAML), over ours.", exists=True)
    ] = None,
    as_json: Json = False,
) -> None:
    """Add up what a month costs on AWS, by the formulas of `deploy/README.md`. List prices: check them."""
    from paletta_server.aws.cost import run_cost

    raise typer.Exit(run_cost(clips=clips, new_clips=new_clips, sales=sales, prices=prices, as_json=as_json))
