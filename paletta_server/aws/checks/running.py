"""Whether what the stack has started does run: ECS' services, and the nodes behind the balancer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from paletta_server.aws.checks.base import Check, Problem, Unknown, ask
from paletta_server.aws.checks.target import Target

DESCRIBED_AT_ONCE = 10
"""The most that DescribeServices takes."""


def checks(client: Callable[[str], Any], target: Target) -> dict[str, Check]:
    if target.cluster is None:
        return {}
    cluster, ecs, balancer = target.cluster, client("ecs"), client("elbv2")
    return {
        "services: running": lambda: services(ecs, cluster),
        "balancer: nodes": lambda: nodes(ecs, balancer, cluster),
    }


def services(ecs: Any, cluster: str) -> str:
    """As many tasks of each run as are wanted, and their last change was not taken back."""
    found = _services(ecs, cluster)
    if not found:
        raise Problem("there is no service in the cluster", "deploy the template again")
    for one in found:
        name, wanted, running = one["serviceName"], one["desiredCount"], one["runningCount"]
        if any(each.get("rolloutState") == "FAILED" for each in one.get("deployments", [])):
            raise Problem(
                f"the last version of `{name}` did not start", "its tasks' log and stop reason say why"
            )
        if wanted == 0:
            raise Problem(
                f"of `{name}` none is wanted, though the stack is started", "look at its scaling, and deploy"
            )
        if running < wanted:
            raise Problem(
                f"of `{name}` {running} of {wanted} tasks run",
                "the service's events in ECS say why; look again",
            )
    return ", ".join(f"{one['serviceName']} {one['runningCount']}" for one in found)


def nodes(ecs: Any, balancer: Any, cluster: str) -> str:
    """The balancer has somebody to send requests to."""
    groups = sorted(
        {
            behind["targetGroupArn"]
            for one in _services(ecs, cluster)
            for behind in one.get("loadBalancers", [])
            if "targetGroupArn" in behind
        }
    )
    if not groups:
        raise Problem("no service is behind a balancer: nobody reaches the API", "deploy the template again")
    healthy = others = 0
    for group in groups:
        states = [
            one.get("TargetHealth", {}).get("State")
            for one in ask(balancer.describe_target_health, TargetGroupArn=group)["TargetHealthDescriptions"]
        ]
        fine = states.count("healthy")
        if not fine:
            said = ", ".join(sorted({str(state) for state in states})) or "none is registered"
            raise Problem(
                f"no node behind the balancer is healthy: {said}", "ask a node for /readyz, read its log"
            )
        healthy, others = healthy + fine, others + len(states) - fine
    return f"{healthy} healthy" + (f", {others} not (yet)" if others else "")


def _services(ecs: Any, cluster: str) -> list[dict[str, Any]]:
    arns: list[str] = []
    more: dict[str, str] = {}
    while True:
        page = ask(ecs.list_services, cluster=cluster, **more)
        arns += page["serviceArns"]
        if not page.get("nextToken"):
            break
        more = {"nextToken": page["nextToken"]}
    found: list[dict[str, Any]] = []
    for start in range(0, len(arns), DESCRIBED_AT_ONCE):
        page = ask(ecs.describe_services, cluster=cluster, services=arns[start : start + DESCRIBED_AT_ONCE])
        if page.get("failures"):
            raise Unknown("ECS does not tell of every service", "look again")
        found += page["services"]
    return sorted(
        (one for one in found if one["status"] == "ACTIVE"), key=lambda one: str(one["serviceName"])
    )
