"""The way in: the balancer with its certificate, its health checks and its access logs."""

from __future__ import annotations

from paletta_server.aws.options import Options
from paletta_server.aws.template.network import API_PORT, public_subnets, vpc_ref
from paletta_server.aws.template.parts import NOTHING, STARTED, Part, Value, get, ref, sub, when
from paletta_server.aws.template.policies import document, only_by_tls

IDLE_SECONDS = 60
"""Longer than the longest poll (55 s), shorter than the API keeps connections (`commands.serve.KEEP_ALIVE_SECONDS`)."""
DRAIN_SECONDS = 65
"""A node that leaves gets no new requests and finishes its own, long polls of 55 s included."""
ACCESS_LOG_DAYS = 90
TLS_POLICY = "ELBSecurityPolicy-TLS13-1-2-2021-06"


def edge(options: Options) -> Part:
    part = Part()
    _certificate(part, options)
    _logs(part)
    part.resource(
        "Balancer",
        "ElasticLoadBalancingV2::LoadBalancer",
        {
            "Type": "application",
            "Scheme": "internet-facing",
            "Subnets": public_subnets(options),
            "SecurityGroups": [get("BalancerGroup", "GroupId")],
            "LoadBalancerAttributes": [
                *_attributes(
                    {
                        "deletion_protection.enabled": when(STARTED, "true", "false"),
                        "idle_timeout.timeout_seconds": str(IDLE_SECONDS),
                        "routing.http.drop_invalid_header_fields.enabled": "true",
                        "routing.http.desync_mitigation_mode": "strictest",
                    }
                ),
                # Where logs go a file is written at once, to try it, and no bucket that has one can be taken back.
                *(
                    when(STARTED, one, NOTHING)
                    for one in _attributes(
                        {"access_logs.s3.enabled": "true", "access_logs.s3.bucket": ref("AccessLogs")}
                    )
                ),
            ],
        },
        after=["AccessLogsPolicy", *(["InternetAttachment"] if options.vpc == "new" else [])],
    )
    part.resource(
        "ApiTargets",
        "ElasticLoadBalancingV2::TargetGroup",
        {
            "VpcId": vpc_ref(options),
            "TargetType": "ip",
            "Protocol": "HTTP",
            "Port": API_PORT,
            "HealthCheckPath": "/startupz",
            "HealthCheckIntervalSeconds": 10,
            "HealthCheckTimeoutSeconds": 5,
            "HealthyThresholdCount": 2,
            "UnhealthyThresholdCount": 3,
            "Matcher": {"HttpCode": "200"},
            "TargetGroupAttributes": _attributes(
                {
                    "deregistration_delay.timeout_seconds": str(DRAIN_SECONDS),
                    "load_balancing.algorithm.type": "least_outstanding_requests",
                }
            ),
        },
        why="ECS replaces a task that this finds wanting, so that it asks whether a node has come up, and not "
        "whether database and store answer it (/readyz): no other node would be better off.",
    )
    part.resource(
        "HttpsListener",
        "ElasticLoadBalancingV2::Listener",
        {
            "LoadBalancerArn": ref("Balancer"),
            "Port": 443,
            "Protocol": "HTTPS",
            "SslPolicy": TLS_POLICY,
            "Certificates": [{"CertificateArn": certificate(options)}],
            "DefaultActions": [{"Type": "forward", "TargetGroupArn": ref("ApiTargets")}],
        },
    )
    part.resource(
        "MetricsRule",
        "ElasticLoadBalancingV2::ListenerRule",
        {
            "ListenerArn": ref("HttpsListener"),
            "Priority": 1,
            "Conditions": [{"Field": "path-pattern", "PathPatternConfig": {"Values": ["/metrics"]}}],
            "Actions": [
                {
                    "Type": "fixed-response",
                    "FixedResponseConfig": {"StatusCode": "404", "ContentType": "text/plain"},
                }
            ],
        },
        why="Metrics are for the inside, where their token is asked for as well.",
    )
    part.resource(
        "HttpListener",
        "ElasticLoadBalancingV2::Listener",
        {
            "LoadBalancerArn": ref("Balancer"),
            "Port": 80,
            "Protocol": "HTTP",
            "DefaultActions": [
                {
                    "Type": "redirect",
                    "RedirectConfig": {"Protocol": "HTTPS", "Port": "443", "StatusCode": "HTTP_301"},
                }
            ],
        },
    )
    if options.hosted_zone is not None:
        part.resource(
            "Address",
            "Route53::RecordSet",
            {
                "HostedZoneId": options.hosted_zone,
                "Name": ref("Domain"),
                "Type": "A",
                "AliasTarget": {
                    "DNSName": get("Balancer", "DNSName"),
                    "HostedZoneId": get("Balancer", "CanonicalHostedZoneID"),
                },
            },
        )
    part.output("BalancerAddress", get("Balancer", "DNSName"), "What the domain's record points to.")
    return part


def certificate(options: Options) -> Value:
    return ref("Certificate") if options.hosted_zone else ref("CertificateArn")


def _certificate(part: Part, options: Options) -> None:
    part.parameter("Domain", "Where people reach the API.", Default=options.domain)
    if options.hosted_zone is None:
        part.parameter(
            "CertificateArn",
            "A certificate of ACM for the domain, in this region.",
            AllowedPattern=r"arn:aws[a-z-]*:acm:[a-z0-9-]+:\d{12}:certificate/[A-Za-z0-9-]+",
        )
        return
    part.resource(
        "Certificate",
        "CertificateManager::Certificate",
        {
            "DomainName": ref("Domain"),
            "ValidationMethod": "DNS",
            "DomainValidationOptions": [{"DomainName": ref("Domain"), "HostedZoneId": options.hosted_zone}],
        },
    )


def _logs(part: Part) -> None:
    part.resource(
        "AccessLogs",
        "S3::Bucket",
        {
            "PublicAccessBlockConfiguration": {
                "BlockPublicAcls": True,
                "BlockPublicPolicy": True,
                "IgnorePublicAcls": True,
                "RestrictPublicBuckets": True,
            },
            "OwnershipControls": {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]},
            "BucketEncryption": {
                "ServerSideEncryptionConfiguration": [
                    {"ServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
                ]
            },
            "LifecycleConfiguration": {
                "Rules": [{"Id": "old", "Status": "Enabled", "ExpirationInDays": ACCESS_LOG_DAYS}]
            },
        },
        keep="Retain",
        why="Balancers write with S3's own key only. Addresses of people are in there: they go after three months.",
    )
    part.resource(
        "AccessLogsPolicy",
        "S3::BucketPolicy",
        {
            "Bucket": ref("AccessLogs"),
            "PolicyDocument": document(
                {
                    "Effect": "Allow",
                    "Principal": {"Service": "logdelivery.elasticloadbalancing.amazonaws.com"},
                    "Action": ["s3:PutObject"],
                    "Resource": sub("${AccessLogs.Arn}/AWSLogs/${AWS::AccountId}/*"),
                },
                only_by_tls("s3:*", on=[get("AccessLogs", "Arn"), sub("${AccessLogs.Arn}/*")]),
            ),
        },
    )


def _attributes(pairs: dict[str, Value]) -> list[Value]:
    return [{"Key": key, "Value": value} for key, value in pairs.items()]
