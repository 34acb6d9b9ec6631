"""`paletta-server aws check`: whether an installation is as it should be, by requests that only read.

It runs with the credentials of whoever asks. What these may not see is `unknown`, with the right that is missing.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from paletta_server.aws import clients
from paletta_server.aws.checks import edges, messages, running, store
from paletta_server.aws.checks.base import Check, Finding, Missing, Problem, Unknown, run
from paletta_server.aws.checks.target import Target, describe, from_settings, from_stack, stands
from paletta_server.aws.tables import WIDTH
from paletta_server.core.settings import Settings

Client = Callable[[str], Any]


def run_check(settings: Settings, *, stack: str | None, as_json: bool) -> int:
    """Print the findings; 0 when all is well, 1 with a problem, 6 where something is unknown."""
    from paletta_server.commands import terminal

    findings = examine(settings, stack)
    outcomes = {finding.outcome for finding in findings}
    if as_json:
        report = {"healthy": outcomes == {"ok"}, "findings": [asdict(finding) for finding in findings]}
        terminal.result(json.dumps(report, indent=2))
    else:
        terminal.result("\n".join(_lines(findings)))
    if "problem" in outcomes:
        return 1
    return 6 if "unknown" in outcomes else 0


def examine(settings: Settings, stack: str | None, client: Client | None = None) -> list[Finding]:
    """Every check's finding in a fixed order."""
    from botocore.exceptions import BotoCoreError

    try:
        return _examine(settings, stack, client or _clients(settings))
    except BotoCoreError as error:
        # Clients cannot even be made: a profile that does not exist, a broken configuration file.
        why = next(iter(str(error).splitlines()), type(error).__name__)
        return [Finding("credentials", "unknown", why, "check AWS_PROFILE and ~/.aws/config")]


def _examine(settings: Settings, stack: str | None, client: Client) -> list[Finding]:
    first: list[Finding] = []
    target = from_settings(settings)
    if stack is not None:
        # Without its outputs nothing else is known: they are the first thing to mend.
        try:
            description = describe(client("cloudformation"), stack)
            target = from_stack(settings, description)
        except Missing:
            return [
                Finding("stack", "problem", f"there is no stack `{stack}`", "check its name and the region")
            ]
        except Problem as problem:
            return [Finding("stack", "problem", str(problem), problem.fix)]
        except Unknown as unknown:
            return [Finding("stack", "unknown", str(unknown), unknown.fix)]
        first = list(run({"stack": lambda: stands(description)}))
    return first + list(run(_checks(client, target)))


def _checks(client: Client, target: Target) -> dict[str, Check]:
    return {
        **running.checks(client, target),
        **store.checks(client("s3"), target),
        **messages.checks(client, target),
        **edges.delivery(client("cloudfront"), target),
        **edges.mail(client, target),
        **edges.database(client("rds"), target),
    }


def _clients(settings: Settings) -> Client:
    changed: dict[str, Any] = {"aws_endpoint": settings.s3_endpoint or settings.aws_endpoint}
    if "s3_region" in settings.model_fields_set:
        changed["aws_region"] = settings.s3_region
    store_ = settings.model_copy(update=changed)
    return lambda service: clients.quick(store_ if service == "s3" else settings, service)


def _lines(findings: list[Finding]) -> list[str]:
    width = max(len(finding.check) for finding in findings)
    found = []
    for finding in findings:
        start = f"{finding.outcome:8} {finding.check:{width}}  "
        under = " " * len(start)
        found += textwrap.wrap(
            finding.detail, WIDTH, initial_indent=start, subsequent_indent=under, break_on_hyphens=False
        )
        if finding.fix:
            found += textwrap.wrap(
                finding.fix,
                WIDTH,
                initial_indent=f"{under}hint: ",
                subsequent_indent=under,
                break_on_hyphens=False,
            )
    return found
