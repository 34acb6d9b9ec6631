"""The services on ECS Fargate: one image, one command each; what prepares the database; how many of them run."""

from __future__ import annotations

from collections.abc import Sequence

from paletta_server.aws.options import Options
from paletta_server.aws.template import access
from paletta_server.aws.template.data import DATABASE_OWNER
from paletta_server.aws.template.environment import (
    KEY_FOLDER,
    SIGNS,
    WORK_FOLDER,
    Service,
    database_url,
    key_secrets,
    of_migration,
    of_service,
    secrets_of_service,
    variables,
)
from paletta_server.aws.template.network import API_PORT, private_subnets
from paletta_server.aws.template.parts import NOTHING, STARTED, Part, Value, get, is_given, ref, sub, when

STOP_SECONDS: dict[Service, int] = {
    # Leaving the balancer (DRAIN_SECONDS of edge.py), then what is in flight; Fargate allows 120.
    "api": 80,
    # Jobs have 3 s (`core.jobs.STOP_SECONDS`), ffmpeg is ended with them; the next worker begins again.
    "worker": 30,
    # A message in hand is finished, or the last poll ends and is given back; at worst it comes again.
    "completions": 60,
    "mail-events": 60,
}
LOG_DAYS = 30
SIZES = (("Api", 1024, 4096), ("Worker", 4096, 8192), ("Completions", 512, 1024), ("MailHandler", 256, 512))
"""CPU units and MiB of a task."""
METRICS_NAMESPACE = "Paletta"
GRACE_SECONDS, MOST_GRACE_SECONDS = 3600, 3 * 3600
"""How long a new API node may take for its index: an hour is twice what five million clips take on one vCPU
(`deploy/README.md`, "How long a node takes to come up"). CloudFormation itself waits three hours for a service."""
WAITING_PER_WORKER = 5
"""Films waiting for each worker that runs, at which more of them are started."""


def compute(options: Options) -> Part:
    part = Part()
    _parameters(part, options)
    _image(part)
    part.resource(
        "Cluster",
        "ECS::Cluster",
        {"ClusterSettings": [{"Name": "containerInsights", "Value": "enabled"}]},
        why="Container Insights counts running workers, without which their number cannot follow the queue.",
    )
    part.resource(
        "ClusterCapacity",
        "ECS::ClusterCapacityProviderAssociations",
        {
            "Cluster": ref("Cluster"),
            "CapacityProviders": ["FARGATE", "FARGATE_SPOT"],
            "DefaultCapacityProviderStrategy": [{"CapacityProvider": "FARGATE", "Weight": 1}],
        },
    )
    for log in [*(access.LOGS[service] for service in services(options)), access.SETUP_LOG]:
        part.resource(log, "Logs::LogGroup", {"RetentionInDays": LOG_DAYS})
    for service in services(options):
        _task(part, options, service)
        _service(part, options, service)
    _setup(part, options)
    _scale_api(part)
    _scale_workers(part)
    return part


def services(options: Options) -> tuple[Service, ...]:
    found: tuple[Service, ...] = ("api", "worker", "mail-events")
    return (*found, "completions") if options.mediaconvert else found


def named(service: Service) -> str:
    """How the service's resources begin."""
    return "MailHandler" if service == "mail-events" else service.title()


def _parameters(part: Part, options: Options) -> None:
    part.parameter(
        "Start",
        "`no` until the image is pushed, the secrets are filled in and both setup tasks have run.",
        Default="no",
        AllowedValues=["yes", "no"],
    )
    part.conditions[STARTED] = {"Fn::Equals": [ref("Start"), "yes"]}
    part.parameter("ImageTag", "Which image of the repository to run.", Default="0.1.0")
    part.parameter(
        "MigrateImageTag",
        "Which image prepares and migrates the database, while the services still run another; empty is ImageTag.",
        Default="",
    )
    part.conditions["MigrateImageTagGiven"] = is_given("MigrateImageTag")
    part.parameter("OperatorEmails", "Who hears of what needs a person, comma between.", Default="")
    part.parameter(
        "Architecture", "What the image was built for.", Default="ARM64", AllowedValues=["ARM64", "X86_64"]
    )
    for service, cpu, memory in SIZES:
        if service == "Completions" and not options.mediaconvert:
            continue
        part.parameter(f"{service}Cpu", "CPU units of a task; 1024 are one vCPU.", kind="Number", Default=cpu)
        part.parameter(f"{service}MemoryMiB", "Memory of a task.", kind="Number", Default=memory)
    part.parameter("ApiLeast", "API nodes at least.", kind="Number", Default=2, MinValue=1)
    part.parameter("ApiMost", "API nodes at most.", kind="Number", Default=8, MinValue=1)
    part.parameter(
        "ApiGraceSeconds",
        "How long a new API node may build its search index before ECS replaces it for not being ready. Until it "
        "is, the balancer sends it nothing. What it costs: a node that hangs as it starts is replaced only then.",
        kind="Number",
        Default=GRACE_SECONDS,
        MinValue=120,
        MaxValue=MOST_GRACE_SECONDS,
    )
    part.parameter("WorkersLeast", "Workers at least.", kind="Number", Default=1, MinValue=1)
    part.parameter("WorkersMost", "Workers at most.", kind="Number", Default=20, MinValue=1)
    part.parameter(
        "WorkersOnSpot",
        "Workers on spare capacity cost about a third; one that is taken away begins its film again elsewhere.",
        Default="yes",
        AllowedValues=["yes", "no"],
    )
    part.conditions["SpotWorkers"] = {"Fn::Equals": [ref("WorkersOnSpot"), "yes"]}
    part.parameter(
        "WorkerDiskGiB",
        "Room for the films in work: source and outputs.",
        kind="Number",
        Default=50,
        MinValue=21,
        MaxValue=200,
    )


def _image(part: Part) -> None:
    part.resource(
        "Repository",
        "ECR::Repository",
        {
            "ImageTagMutability": "IMMUTABLE",
            "ImageScanningConfiguration": {"ScanOnPush": True},
            "EncryptionConfiguration": {"EncryptionType": "AES256"},
        },
        keep="Retain",
        why="Build `paletta_server/deploy/Containerfile` and push it here. A tag means the same image for good.",
    )
    part.output("RepositoryUri", get("Repository", "RepositoryUri"), "Where to push the image.")


def _container(name: str, command: list[str], *, environment: list[Value], log: str) -> dict[str, Value]:
    """What all containers have: no root, nothing to write to but two volumes, an init that reaps."""
    return {
        "Name": name,
        "Image": sub("${Repository.RepositoryUri}:${ImageTag}"),
        "Essential": True,
        "Command": command,
        "Environment": environment,
        "ReadonlyRootFilesystem": True,
        "LinuxParameters": {"InitProcessEnabled": True, "Capabilities": {"Drop": ["ALL"]}},
        "MountPoints": [
            {"SourceVolume": "work", "ContainerPath": WORK_FOLDER, "ReadOnly": False},
            {"SourceVolume": "tmp", "ContainerPath": "/tmp", "ReadOnly": False},  # noqa: S108 (the container's)
        ],
        "LogConfiguration": {
            "LogDriver": "awslogs",
            "Options": {
                "awslogs-group": ref(log),
                "awslogs-region": ref("AWS::Region"),
                "awslogs-stream-prefix": name,
                "mode": "non-blocking",
                "max-buffer-size": "4m",
            },
        },
    }


def _definition(
    part: Part,
    name: str,
    container: dict[str, Value],
    *,
    cpu: Value,
    memory: Value,
    role: str,
    before: Sequence[Value] = (),
    **more: Value,
) -> None:
    part.resource(
        name,
        "ECS::TaskDefinition",
        {
            "Family": sub("${AWS::StackName}-" + container["Name"]),
            "RequiresCompatibilities": ["FARGATE"],
            "NetworkMode": "awsvpc",
            "RuntimePlatform": {"CpuArchitecture": ref("Architecture"), "OperatingSystemFamily": "LINUX"},
            "Cpu": cpu,
            "Memory": memory,
            "ExecutionRoleArn": get("ExecutionRole", "Arn"),
            "TaskRoleArn": get(role, "Arn"),
            "Volumes": [{"Name": "work"}, {"Name": "tmp"}],
            "ContainerDefinitions": [container, *before],
            **more,
        },
    )


def _task(part: Part, options: Options, service: Service) -> None:
    command: list[str] = [service]
    if service == "api":
        command += ["--host", "0.0.0.0", "--port", str(API_PORT)]  # noqa: S104 (behind the balancer's group)
    container = _container(
        service, command, environment=of_service(options, service), log=access.LOGS[service]
    )
    container["StopTimeout"] = STOP_SECONDS[service]
    if wanted := secrets_of_service(options, service):
        container["Secrets"] = wanted
    if service == "api":
        container["PortMappings"] = [{"ContainerPort": API_PORT, "Protocol": "tcp"}]
        container["HealthCheck"] = {
            "Command": ["CMD", "python", "-m", "paletta_server.alive"],
            "Interval": 15,
            "Timeout": 5,
            "Retries": 3,
            "StartPeriod": 60,
        }
    before = []
    if service == "api" and options.cloudfront:
        before.append(when(SIGNS, _key(options), NOTHING))
        container["DependsOn"] = when(SIGNS, [{"ContainerName": "keys", "Condition": "SUCCESS"}], NOTHING)
    more = {"EphemeralStorage": {"SizeInGiB": ref("WorkerDiskGiB")}} if service == "worker" else {}
    _definition(
        part,
        f"{named(service)}Task",
        container,
        cpu=ref(f"{named(service)}Cpu"),
        memory=ref(f"{named(service)}MemoryMiB"),
        role=access.service_role(service),
        before=before,
        **more,
    )


def _key(options: Options) -> Value:
    """Runs before the API: ECS gives secrets as variables, and the API reads private keys from files.

    Only the key that signs: the secret of one that was added as the next is still empty.
    """
    container = _container(
        "keys", ["aws", "write-keys", "--to", KEY_FOLDER], environment=[], log=access.LOGS["api"]
    )
    container["Essential"] = False
    key, resource = next(iter(key_secrets(options).items()))
    container["Secrets"] = [{"Name": f"DELIVERY_KEY_{key}", "ValueFrom": ref(resource)}]
    return container


def _network(options: Options) -> Value:
    return {
        "AwsvpcConfiguration": {
            "AssignPublicIp": "DISABLED",
            "Subnets": private_subnets(options),
            "SecurityGroups": [get("ServiceGroup", "GroupId")],
        }
    }


def _service(part: Part, options: Options, service: Service) -> None:
    # A number would be set anew by every deployment, and take away what scaling has added: whoever scales says it.
    least = {"api": NOTHING, "worker": NOTHING, "completions": 2, "mail-events": 1}[service]
    properties: dict[str, Value] = {
        "Cluster": ref("Cluster"),
        "TaskDefinition": ref(f"{named(service)}Task"),
        "DesiredCount": when(STARTED, least, 0),
        "NetworkConfiguration": _network(options),
        "EnableECSManagedTags": True,
        "PropagateTags": "SERVICE",
        "DeploymentConfiguration": {
            "MinimumHealthyPercent": 100,
            "MaximumPercent": 200,
            # A version that does not start is put back by itself.
            "DeploymentCircuitBreaker": {"Enable": True, "Rollback": True},
        },
    }
    after = ["ClusterCapacity"]
    if service == "api":
        properties["LaunchType"] = "FARGATE"
        # The next one would begin its index from nothing, and be as late.
        properties["HealthCheckGracePeriodSeconds"] = ref("ApiGraceSeconds")
        properties["LoadBalancers"] = [
            {"ContainerName": "api", "ContainerPort": API_PORT, "TargetGroupArn": ref("ApiTargets")}
        ]
        after.append("HttpsListener")
    elif service == "worker":
        # One of them is never on spare capacity: mail and payments wait for no zone to have some.
        spare = [
            {"CapacityProvider": "FARGATE", "Base": 1, "Weight": 0},
            {"CapacityProvider": "FARGATE_SPOT", "Weight": 1},
        ]
        # ECS changes a strategy only together with a new deployment.
        properties["ForceNewDeployment"] = {"EnableForceNewDeployment": True}
        properties["CapacityProviderStrategy"] = when(
            "SpotWorkers", spare, [{"CapacityProvider": "FARGATE", "Weight": 1}]
        )
    else:
        properties["LaunchType"] = "FARGATE"
    part.resource(f"{named(service)}Service", "ECS::Service", properties, after=after)


def _setup(part: Part, options: Options) -> None:
    """Two one-off tasks before the first start; the second one before each new version as well."""
    owner = variables(
        {
            "database_url": database_url(DATABASE_OWNER),
            "env": "production",
            "log_format": "json",
            "public_url": sub("https://${Domain}"),
        }
    )
    prepare = _container("prepare", ["aws", "prepare-database"], environment=owner, log=access.SETUP_LOG)
    # libpq takes the password from here where an address has none.
    prepare["Secrets"] = [
        {"Name": "PGPASSWORD", "ValueFrom": sub("${Database.MasterUserSecret.SecretArn}:password::")}
    ]
    migrate = _container("migrate", ["migrate"], environment=of_migration(options), log=access.SETUP_LOG)
    for name, container in (("PrepareTask", prepare), ("MigrateTask", migrate)):
        container["Image"] = when(
            "MigrateImageTagGiven", sub("${Repository.RepositoryUri}:${MigrateImageTag}"), container["Image"]
        )
        _definition(part, name, container, cpu="512", memory="1024", role="SetupRole")
    part.output("PrepareTaskArn", ref("PrepareTask"), "Run once: makes the service's role in the database.")
    part.output(
        "MigrateTaskArn", ref("MigrateTask"), "Run before each new version: brings the schema up to date."
    )
    part.output("ClusterName", ref("Cluster"), "Where tasks run.")
    subnets = private_subnets(options)
    part.output("TaskSubnets", {"Fn::Join": [",", subnets]}, "The subnets of tasks that are run by hand.")
    part.output("TaskGroup", get("ServiceGroup", "GroupId"), "Their security group.")


def _target(part: Part, service: Service, *, least: Value, most: Value) -> None:
    part.resource(
        f"{named(service)}Scaling",
        "ApplicationAutoScaling::ScalableTarget",
        {
            "ServiceNamespace": "ecs",
            "ScalableDimension": "ecs:service:DesiredCount",
            "ResourceId": sub(f"service/${{Cluster}}/${{{named(service)}Service.Name}}"),
            "MinCapacity": when(STARTED, least, 0),
            "MaxCapacity": when(STARTED, most, 0),
        },
        why="AWS's own role for services scales; nothing of it is ours to give.",
    )


def _scale_api(part: Part) -> None:
    _target(part, "api", least=ref("ApiLeast"), most=ref("ApiMost"))
    part.resource(
        "ApiScalingByCpu",
        "ApplicationAutoScaling::ScalingPolicy",
        {
            "PolicyName": "cpu",
            "PolicyType": "TargetTrackingScaling",
            "ScalingTargetId": ref("ApiScaling"),
            "TargetTrackingScalingPolicyConfiguration": {
                "TargetValue": 60,
                "ScaleInCooldown": 300,
                "ScaleOutCooldown": 60,
                "PredefinedMetricSpecification": {"PredefinedMetricType": "ECSServiceAverageCPUUtilization"},
            },
        },
    )


def _scale_workers(part: Part) -> None:
    _target(part, "worker", least=ref("WorkersLeast"), most=ref("WorkersMost"))
    part.resource(
        "FilmsWaiting",
        "Logs::MetricFilter",
        {
            "LogGroupName": ref("WorkerLog"),
            "FilterPattern": '{ ($.message = "jobs wait") && ($.queue = "ingest") && ($.waiting = *) }',
            "MetricTransformations": [
                {
                    "MetricNamespace": namespace(),
                    "MetricName": "FilmsWaiting",
                    "MetricValue": "$.waiting",
                }
            ],
        },
        why="A worker counts the queue once a minute and logs it; the queue itself is in PostgreSQL.",
    )
    part.resource(
        "WorkerScalingByQueue",
        "ApplicationAutoScaling::ScalingPolicy",
        {
            "PolicyName": "queue",
            "PolicyType": "TargetTrackingScaling",
            "ScalingTargetId": ref("WorkerScaling"),
            "TargetTrackingScalingPolicyConfiguration": {
                "TargetValue": WAITING_PER_WORKER,
                "ScaleInCooldown": 600,
                "ScaleOutCooldown": 60,
                "CustomizedMetricSpecification": {"Metrics": _waiting_per_worker()},
            },
        },
    )


def _waiting_per_worker() -> list[Value]:
    waiting = {"Namespace": namespace(), "MetricName": "FilmsWaiting"}
    running = {
        "Namespace": "ECS/ContainerInsights",
        "MetricName": "RunningTaskCount",
        "Dimensions": [
            {"Name": "ClusterName", "Value": ref("Cluster")},
            {"Name": "ServiceName", "Value": get("WorkerService", "Name")},
        ],
    }
    return [
        {"Id": "waiting", "MetricStat": {"Metric": waiting, "Stat": "Maximum"}, "ReturnData": False},
        {"Id": "running", "MetricStat": {"Metric": running, "Stat": "Average"}, "ReturnData": False},
        {
            "Id": "each",
            "Expression": "waiting / running",
            "Label": "Films for each worker",
            "ReturnData": True,
        },
    ]


def namespace() -> Value:
    """Where metrics of ours are."""
    return sub(METRICS_NAMESPACE + "/${AWS::StackName}")
