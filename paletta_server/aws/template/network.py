"""Where everything is: a network of the installation's own, or one that is there already; who may talk to whom."""

from __future__ import annotations

from paletta_server.aws.options import Options
from paletta_server.aws.template.parts import Part, Value, get, is_given, ref, sub, tags, when

API_PORT = 8750
POSTGRES_PORT = 5432
ANYWHERE = "0.0.0.0/0"


def network(options: Options) -> Part:
    part = Part()
    if options.vpc == "new":
        _new(part)
    else:
        _existing(part)
    _security_groups(part, options)
    return part


def vpc_ref(options: Options) -> Value:
    return ref("Vpc") if options.vpc == "new" else ref("VpcId")


def cidr(options: Options) -> Value:
    return get("Vpc", "CidrBlock") if options.vpc == "new" else ref("VpcCidr")


def public_subnets(options: Options) -> Value:
    return [ref("PublicSubnet1"), ref("PublicSubnet2")] if options.vpc == "new" else ref("PublicSubnetIds")


def private_subnets(options: Options) -> Value:
    return [ref("PrivateSubnet1"), ref("PrivateSubnet2")] if options.vpc == "new" else ref("PrivateSubnetIds")


def _existing(part: Part) -> None:
    part.parameter("VpcId", "The network to use.", kind="AWS::EC2::VPC::Id")
    part.parameter(
        "VpcCidr",
        "Its addresses: from there the balancer comes, whose word about a client's address is taken.",
        AllowedPattern=r"\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}/\d{1,2}",
    )
    part.parameter(
        "PublicSubnetIds",
        "Two subnets or more, in different zones, for the balancer.",
        kind="List<AWS::EC2::Subnet::Id>",
    )
    part.parameter(
        "PrivateSubnetIds",
        "Two subnets or more, in different zones, with a way out (NAT) and, better, a gateway endpoint of S3.",
        kind="List<AWS::EC2::Subnet::Id>",
    )


def _new(part: Part) -> None:
    part.parameter(
        "NatPerZone",
        "A NAT gateway per zone keeps both zones apart when one fails; one alone costs half.",
        Default="no",
        AllowedValues=["yes", "no"],
    )
    part.conditions["NatInBothZones"] = {"Fn::Equals": [ref("NatPerZone"), "yes"]}
    part.resource(
        "Vpc",
        "EC2::VPC",
        {
            "CidrBlock": "10.20.0.0/16",
            "EnableDnsHostnames": True,
            "EnableDnsSupport": True,
            "Tags": tags("vpc"),
        },
    )
    part.resource("InternetGateway", "EC2::InternetGateway", {"Tags": tags("internet")})
    part.resource(
        "InternetAttachment",
        "EC2::VPCGatewayAttachment",
        {"VpcId": ref("Vpc"), "InternetGatewayId": ref("InternetGateway")},
    )
    _route_table(part, "PublicRoutes")
    part.resource(
        "PublicRouteOut",
        "EC2::Route",
        {
            "RouteTableId": ref("PublicRoutes"),
            "DestinationCidrBlock": ANYWHERE,
            "GatewayId": ref("InternetGateway"),
        },
        after=["InternetAttachment"],
    )
    for number in (1, 2):
        _zone(part, number)
    part.resource(
        "StoreEndpoint",
        "EC2::VPCEndpoint",
        {
            "VpcId": ref("Vpc"),
            "ServiceName": sub("com.amazonaws.${AWS::Region}.s3"),
            "VpcEndpointType": "Gateway",
            "RouteTableIds": [ref("PrivateRoutes1"), ref("PrivateRoutes2")],
        },
        why="Films go between workers and the bucket for nothing, rather than through NAT at a price per gigabyte.",
    )


def _route_table(part: Part, name: str) -> None:
    part.resource(name, "EC2::RouteTable", {"VpcId": ref("Vpc"), "Tags": tags(name)})


def _zone(part: Part, number: int) -> None:
    """A public subnet with its NAT gateway, and a private one that goes out through it."""
    condition = None if number == 1 else "NatInBothZones"
    for kind, third in (("Public", number - 1), ("Private", 16 * number)):
        part.resource(
            f"{kind}Subnet{number}",
            "EC2::Subnet",
            {
                "VpcId": ref("Vpc"),
                "CidrBlock": f"10.20.{third}.0/{24 if kind == 'Public' else 20}",
                "AvailabilityZone": {"Fn::Select": [number - 1, {"Fn::GetAZs": ""}]},
                "Tags": tags(f"{kind.lower()}-{number}"),
            },
        )
    part.resource(
        f"PublicRoutes{number}",
        "EC2::SubnetRouteTableAssociation",
        {"SubnetId": ref(f"PublicSubnet{number}"), "RouteTableId": ref("PublicRoutes")},
    )
    part.resource(
        f"NatAddress{number}",
        "EC2::EIP",
        {"Domain": "vpc", "Tags": tags(f"nat-{number}")},
        condition=condition,
        after=["InternetAttachment"],
    )
    part.resource(
        f"Nat{number}",
        "EC2::NatGateway",
        {
            "AllocationId": get(f"NatAddress{number}", "AllocationId"),
            "SubnetId": ref(f"PublicSubnet{number}"),
            "Tags": tags(f"nat-{number}"),
        },
        condition=condition,
    )
    _route_table(part, f"PrivateRoutes{number}")
    part.resource(
        f"PrivateRouteOut{number}",
        "EC2::Route",
        {
            "RouteTableId": ref(f"PrivateRoutes{number}"),
            "DestinationCidrBlock": ANYWHERE,
            "NatGatewayId": ref("Nat1") if number == 1 else when("NatInBothZones", ref("Nat2"), ref("Nat1")),
        },
    )
    part.resource(
        f"PrivateRoutesOfSubnet{number}",
        "EC2::SubnetRouteTableAssociation",
        {"SubnetId": ref(f"PrivateSubnet{number}"), "RouteTableId": ref(f"PrivateRoutes{number}")},
    )


def _security_groups(part: Part, options: Options) -> None:
    _group(part, options, "BalancerGroup", "The balancer: everybody, by HTTPS")
    _group(part, options, "ServiceGroup", "API, workers and handlers")
    _group(part, options, "DatabaseGroup", "The database")
    for port in (80, 443):
        part.resource(
            f"BalancerFromAnywhere{port}",
            "EC2::SecurityGroupIngress",
            {
                "GroupId": ref("BalancerGroup"),
                "IpProtocol": "tcp",
                "FromPort": port,
                "ToPort": port,
                "CidrIp": ANYWHERE,
                "Description": "Clients" if port == 443 else "Sent on to HTTPS",
            },
        )
    _let_in(part, "ServiceFromBalancer", "ServiceGroup", "BalancerGroup", API_PORT)
    _let_in(part, "DatabaseFromService", "DatabaseGroup", "ServiceGroup", POSTGRES_PORT)
    part.parameter(
        "MetricsFromGroup",
        "The security group (sg-…) of what reads /metrics of each API node, with the token; empty lets nobody.",
        Default="",
        AllowedPattern=r"^(sg-[0-9a-f]{8,17})?$",
    )
    part.conditions["MetricsAreRead"] = is_given("MetricsFromGroup")
    part.resource(
        "MetricsFromScraper",
        "EC2::SecurityGroupIngress",
        {
            "GroupId": get("ServiceGroup", "GroupId"),
            "SourceSecurityGroupId": ref("MetricsFromGroup"),
            "IpProtocol": "tcp",
            "FromPort": API_PORT,
            "ToPort": API_PORT,
        },
        condition="MetricsAreRead",
    )
    if options.opensearch:
        _group(part, options, "SearchGroup", "The search domain")
        _let_in(part, "SearchFromService", "SearchGroup", "ServiceGroup", 443)


def _group(part: Part, options: Options, name: str, description: str) -> None:
    part.resource(
        name,
        "EC2::SecurityGroup",
        {"GroupDescription": description, "VpcId": vpc_ref(options), "Tags": tags(name)},
    )


def _let_in(part: Part, name: str, group: str, source: str, port: int) -> None:
    part.resource(
        name,
        "EC2::SecurityGroupIngress",
        {
            "GroupId": get(group, "GroupId"),
            "SourceSecurityGroupId": get(source, "GroupId"),
            "IpProtocol": "tcp",
            "FromPort": port,
            "ToPort": port,
        },
    )
