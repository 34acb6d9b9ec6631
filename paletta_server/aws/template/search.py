"""Search by OpenSearch, where one index per API node is not enough."""

from __future__ import annotations

from paletta_server.aws.options import Options
from paletta_server.aws.template.access import service_role
from paletta_server.aws.template.network import private_subnets
from paletta_server.aws.template.parts import NOTHING, Part, Value, get, ref, sub
from paletta_server.aws.template.policies import allow, document

ZONES = 2
ACTIONS = ("es:ESHttpDelete", "es:ESHttpGet", "es:ESHttpHead", "es:ESHttpPost", "es:ESHttpPut")


def search(options: Options) -> Part:
    part = Part()
    if not options.opensearch:
        return part
    part.parameter("SearchClass", "Size of a search node.", Default="m7g.large.search")
    part.parameter(
        "SearchNodes", "Search nodes, spread over two zones.", kind="Number", Default=2, MinValue=2
    )
    part.parameter("SearchGiB", "Storage of each.", kind="Number", Default=100, MinValue=20)
    part.resource(
        "SearchDomain",
        "OpenSearchService::Domain",
        {
            "EngineVersion": "OpenSearch_2.19",
            "ClusterConfig": {
                "InstanceType": ref("SearchClass"),
                "InstanceCount": ref("SearchNodes"),
                "ZoneAwarenessEnabled": True,
                "ZoneAwarenessConfig": {"AvailabilityZoneCount": ZONES},
            },
            "EBSOptions": {"EBSEnabled": True, "VolumeType": "gp3", "VolumeSize": ref("SearchGiB")},
            "EncryptionAtRestOptions": {
                "Enabled": True,
                "KmsKeyId": get("Key", "Arn") if options.kms else NOTHING,
            },
            "NodeToNodeEncryptionOptions": {"Enabled": True},
            "DomainEndpointOptions": {
                "EnforceHTTPS": True,
                "TLSSecurityPolicy": "Policy-Min-TLS-1-2-PFS-2023-10",
            },
            "SoftwareUpdateOptions": {"AutoSoftwareUpdateEnabled": True},
            "AccessPolicies": document(
                {
                    "Effect": "Allow",
                    "Principal": {"AWS": get(service_role("api"), "Arn")},
                    "Action": list(ACTIONS),
                    "Resource": sub("arn:${AWS::Partition}:es:${AWS::Region}:${AWS::AccountId}:domain/*"),
                }
            ),
            "VPCOptions": {
                "SubnetIds": _two_of(private_subnets(options)),
                "SecurityGroupIds": [get("SearchGroup", "GroupId")],
            },
        },
        why="Only the services' security group reaches it, and only the API's role may ask, which searches and keeps "
        "the index: requests are signed. What is in it can be built again from the database.",
    )
    part.resource(
        "SearchRights",
        "IAM::Policy",
        {
            "PolicyName": "search",
            "Roles": [ref(service_role("api"))],
            "PolicyDocument": document(allow(*ACTIONS, on=sub("${SearchDomain.Arn}/*"))),
        },
        why="Not in the role itself: the domain names the role, so that one cannot name the domain.",
    )
    part.output("SearchAddress", sub("https://${SearchDomain.DomainEndpoint}"), "PALETTA_OPENSEARCH_URL.")
    return part


def _two_of(subnets: Value) -> list[Value]:
    """A domain over two zones takes two subnets exactly."""
    return [{"Fn::Select": [number, subnets]} for number in range(ZONES)]
