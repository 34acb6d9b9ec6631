"""Alarms: what a person should look at. Each says in its description what to do."""

from __future__ import annotations

from paletta_server.aws.options import Options
from paletta_server.aws.template.compute import named, namespace, services
from paletta_server.aws.template.edge import certificate
from paletta_server.aws.template.parts import Part, Value, get, is_given, ref, sub
from paletta_server.aws.template.policies import document, service_sends

GIB = 1024**3


def alarms(options: Options) -> Part:
    part = Part()
    part.parameter("AlarmEmail", "Who is mailed when something is wrong; empty for nobody.", Default="")
    part.conditions["AlarmsAreMailed"] = is_given("AlarmEmail")
    part.resource("Alarms", "SNS::Topic", {"DisplayName": "Paletta alarms"})
    part.resource(
        "AlarmsPolicy",
        "SNS::TopicPolicy",
        {
            "Topics": [ref("Alarms")],
            "PolicyDocument": document(service_sends("cloudwatch", "sns:Publish", to=ref("Alarms"))),
        },
    )
    part.resource(
        "AlarmsByMail",
        "SNS::Subscription",
        {"TopicArn": ref("Alarms"), "Protocol": "email", "Endpoint": ref("AlarmEmail")},
        condition="AlarmsAreMailed",
    )
    _queues(part, options)
    _balancer(part)
    _services(part, options)
    _database(part)
    _jobs(part)
    _mail(part)
    _certificate(part, options)
    if options.opensearch:
        _search(part)
    return part


def _alarm(
    part: Part,
    name: str,
    what_to_do: str,
    *,
    metric: tuple[Value, str],
    above: float | None = None,
    below: float | None = None,
    of: dict[str, Value] | None = None,
    stat: str = "Maximum",
    minutes: int = 5,
    times: int = 1,
    silent: str = "notBreaching",
    condition: str | None = None,
) -> None:
    """`metric` is (namespace, name); it must pass the limit in `times` spans of `minutes` one after the other."""
    limit = above if above is not None else below
    assert limit is not None
    part.resource(
        f"{name}Alarm",
        "CloudWatch::Alarm",
        {
            "AlarmDescription": what_to_do,
            "Namespace": metric[0],
            "MetricName": metric[1],
            "Dimensions": [{"Name": key, "Value": value} for key, value in (of or {}).items()],
            "Statistic": stat,
            "Period": minutes * 60,
            "EvaluationPeriods": times,
            "Threshold": limit,
            "ComparisonOperator": "GreaterThanThreshold" if above is not None else "LessThanThreshold",
            "TreatMissingData": silent,
            "AlarmActions": [ref("Alarms")],
            "OKActions": [ref("Alarms")],
        },
        condition=condition,
    )


def _queues(part: Part, options: Options) -> None:
    dead = ["MailEventsQueueDead"]
    if options.mediaconvert:
        dead += ["CompletionsDead", "CompletionsUndelivered"]
        _alarm(
            part,
            "CompletionsLate",
            "News of transcoding waits for more than a quarter of an hour: look at the completion handlers' log.",
            metric=("AWS/SQS", "ApproximateAgeOfOldestMessage"),
            of={"QueueName": get("Completions", "QueueName")},
            above=900,
        )
    for name in dead:
        _alarm(
            part,
            f"{name}NotEmpty",
            "Messages were given up: read them, mend what could not handle them, and redrive the queue.",
            metric=("AWS/SQS", "ApproximateNumberOfMessagesVisible"),
            of={"QueueName": get(name, "QueueName")},
            above=0,
        )


def _balancer(part: Part) -> None:
    of = {"LoadBalancer": get("Balancer", "LoadBalancerFullName")}
    targets = {**of, "TargetGroup": get("ApiTargets", "TargetGroupFullName")}
    application = "AWS/ApplicationELB"
    _alarm(
        part,
        "ApiErrors",
        "The API answers 5xx: its log says why, a crash with its traceback; ask a node's /readyz what does not answer.",
        metric=(application, "HTTPCode_Target_5XX_Count"),
        of=of,
        stat="Sum",
        above=10,
    )
    _alarm(
        part,
        "BalancerErrors",
        "The balancer finds no API node that answers: look at the service's events and at /readyz.",
        metric=(application, "HTTPCode_ELB_5XX_Count"),
        of=of,
        stat="Sum",
        above=10,
    )
    _alarm(
        part,
        "ApiNodesUnready",
        "A node has not come up for ten minutes: its log and /readyz say what is missing. "
        "An index of millions of clips takes longer.",
        metric=(application, "UnHealthyHostCount"),
        of=targets,
        above=0,
        times=2,
    )


def _services(part: Part, options: Options) -> None:
    for service in services(options):
        # Workers are meant to be busy; what tells there is the queue.
        if service in ("worker", "mail-events"):
            continue
        _alarm(
            part,
            f"{named(service)}Cpu",
            f"All of {service} is busy for a quarter of an hour: allow more of them.",
            metric=("AWS/ECS", "CPUUtilization"),
            of={"ClusterName": ref("Cluster"), "ServiceName": get(f"{named(service)}Service", "Name")},
            stat="Average",
            above=85,
            times=3,
        )


def _database(part: Part) -> None:
    of = {"DBInstanceIdentifier": ref("Database")}
    _alarm(
        part,
        "DatabaseCpu",
        "The database is busy for a quarter of an hour: Performance Insights names the queries.",
        metric=("AWS/RDS", "CPUUtilization"),
        of=of,
        stat="Average",
        above=80,
        times=3,
    )
    _alarm(
        part,
        "DatabaseStorage",
        "Less than 10 GiB are free: storage has not grown by itself, so raise DatabaseMostGiB.",
        metric=("AWS/RDS", "FreeStorageSpace"),
        of=of,
        stat="Minimum",
        below=10 * GIB,
    )
    _alarm(
        part,
        "DatabaseMemory",
        "Less than 256 MiB are free: take a larger class, or fewer connections.",
        metric=("AWS/RDS", "FreeableMemory"),
        of=of,
        stat="Minimum",
        below=GIB / 4,
        times=3,
    )


def _jobs(part: Part) -> None:
    part.resource(
        "JobsGivenUp",
        "Logs::MetricFilter",
        {
            "LogGroupName": ref("WorkerLog"),
            "FilterPattern": '{ $.message = "job given up" }',
            "MetricTransformations": [
                {"MetricNamespace": namespace(), "MetricName": "JobsGivenUp", "MetricValue": "1"}
            ],
        },
    )
    _alarm(
        part,
        "JobsDead",
        "A job failed for good: `paletta-server jobs list --status failed` says why.",
        metric=(namespace(), "JobsGivenUp"),
        stat="Sum",
        above=0,
    )
    _alarm(
        part,
        "JobsUncounted",
        "No worker has counted the queue for half an hour: none runs, or none reaches the database.",
        metric=(namespace(), "FilmsWaiting"),
        stat="SampleCount",
        below=1,
        minutes=30,
        silent="breaching",
        condition="Started",
    )
    _alarm(
        part,
        "FilmsLate",
        "More than a thousand films wait for two hours: allow more workers.",
        metric=(namespace(), "FilmsWaiting"),
        above=1000,
        minutes=60,
        times=2,
    )


def _mail(part: Part) -> None:
    for name, metric, limit in (
        ("MailBounces", "Reputation.BounceRate", 0.05),
        ("MailComplaints", "Reputation.ComplaintRate", 0.001),
    ):
        _alarm(
            part,
            name,
            "SES puts accounts under review at this rate: find out who is mailed in vain.",
            metric=("AWS/SES", metric),
            stat="Average",
            above=limit,
            minutes=60,
        )


def _certificate(part: Part, options: Options) -> None:
    _alarm(
        part,
        "CertificateEnds",
        "The certificate ends within three weeks and has not been renewed: is its DNS record still there?",
        metric=("AWS/CertificateManager", "DaysToExpiry"),
        of={"CertificateArn": certificate(options)},
        stat="Minimum",
        below=21,
        minutes=24 * 60,
    )


def _search(part: Part) -> None:
    of = {"DomainName": ref("SearchDomain"), "ClientId": sub("${AWS::AccountId}")}
    _alarm(
        part,
        "SearchRed",
        "The index has lost a part: search works on what is left; `search reindex` builds it anew.",
        metric=("AWS/ES", "ClusterStatus.red"),
        of=of,
        above=0,
    )
    _alarm(
        part,
        "SearchStorage",
        "Less than 20 GiB are free on a search node: raise SearchGiB.",
        metric=("AWS/ES", "FreeStorageSpace"),  # in MiB
        of=of,
        stat="Minimum",
        below=20 * 1024,
    )
