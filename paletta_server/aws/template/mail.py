"""Mail by SES: the identity with its signatures, and what bounces or annoys, by SNS into a queue."""

from __future__ import annotations

from paletta_server.aws.options import Options
from paletta_server.aws.template.media import queue_pair
from paletta_server.aws.template.parts import Part, get, ref, sub
from paletta_server.aws.template.policies import document, service_sends

DKIM_RECORDS = (1, 2, 3)
DMARC = '"v=DMARC1; p=quarantine"'


def mail(options: Options) -> Part:
    part = Part()
    part.resource(
        "MailSettings",
        "SES::ConfigurationSet",
        {
            "DeliveryOptions": {"TlsPolicy": "REQUIRE"},
            "ReputationOptions": {"ReputationMetricsEnabled": True},
            "SendingOptions": {"SendingEnabled": True},
            "SuppressionOptions": {"SuppressedReasons": ["BOUNCE", "COMPLAINT"]},
        },
    )
    part.resource(
        "MailIdentity",
        "SES::EmailIdentity",
        {
            "EmailIdentity": ref("Domain"),
            "ConfigurationSetAttributes": {"ConfigurationSetName": ref("MailSettings")},
            "DkimAttributes": {"SigningEnabled": True},
            "DkimSigningAttributes": {"NextSigningKeyLength": "RSA_2048_BIT"},
            "MailFromAttributes": {
                "MailFromDomain": sub("bounce.${Domain}"),
                "BehaviorOnMxFailure": "USE_DEFAULT_VALUE",
            },
        },
    )
    part.resource("MailEvents", "SNS::Topic", {"DisplayName": "Bounces and complaints"})
    part.resource(
        "MailEventsPolicy",
        "SNS::TopicPolicy",
        {
            "Topics": [ref("MailEvents")],
            "PolicyDocument": document(service_sends("ses", "sns:Publish", to=ref("MailEvents"))),
        },
    )
    part.resource(
        "MailEventsOfSettings",
        "SES::ConfigurationSetEventDestination",
        {
            "ConfigurationSetName": ref("MailSettings"),
            "EventDestination": {
                "Name": "bounces-and-complaints",
                "Enabled": True,
                "MatchingEventTypes": ["bounce", "complaint", "reject"],
                "SnsDestination": {"TopicARN": ref("MailEvents")},
            },
        },
        after=["MailEventsPolicy"],
    )
    queue_pair(part, "MailEventsQueue", sender="sns", from_=ref("MailEvents"))
    part.resource(
        "MailEventsSubscription",
        "SNS::Subscription",
        {
            "TopicArn": ref("MailEvents"),
            "Protocol": "sqs",
            "Endpoint": get("MailEventsQueue", "Arn"),
            "RedrivePolicy": {"deadLetterTargetArn": get("MailEventsQueueDead", "Arn")},
        },
        after=["MailEventsQueuePolicy", "MailEventsQueueDeadPolicy"],
    )
    part.resource(
        "MailEventsQueueDeadPolicy",
        "SQS::QueuePolicy",
        {
            "Queues": [ref("MailEventsQueueDead")],
            "PolicyDocument": document(
                service_sends(
                    "sns", "sqs:SendMessage", to=get("MailEventsQueueDead", "Arn"), from_=ref("MailEvents")
                )
            ),
        },
        why="A message that SNS cannot deliver is put there by SNS itself.",
    )
    _records(part, options)
    part.output("MailSettingsName", ref("MailSettings"), "PALETTA_SES_CONFIGURATION_SET.")
    part.output("MailEventsQueueUrl", ref("MailEventsQueue"), "PALETTA_MAIL_EVENTS_QUEUE_URL.")
    return part


def _records(part: Part, options: Options) -> None:
    """The DNS records of mail: made where the zone is ours, else printed for who keeps it."""
    exchanger = sub("10 feedback-smtp.${AWS::Region}.amazonses.com")
    spf = '"v=spf1 include:amazonses.com -all"'
    if options.hosted_zone is None:
        for number in DKIM_RECORDS:
            value = sub(
                "${Name} CNAME ${Value}",
                Name=get("MailIdentity", f"DkimDNSTokenName{number}"),
                Value=get("MailIdentity", f"DkimDNSTokenValue{number}"),
            )
            part.output(f"DkimRecord{number}", value, "A record that the domain's zone needs.")
        part.output(
            "BounceRecords",
            sub("bounce.${Domain} MX ${Exchanger}; TXT ${Spf}", Exchanger=exchanger, Spf=spf),
            "Records that the domain's zone needs.",
        )
        return
    records = [
        {
            "Name": get("MailIdentity", f"DkimDNSTokenName{number}"),
            "Type": "CNAME",
            "TTL": "1800",
            "ResourceRecords": [get("MailIdentity", f"DkimDNSTokenValue{number}")],
        }
        for number in DKIM_RECORDS
    ]
    records += [
        {"Name": sub("bounce.${Domain}"), "Type": "MX", "TTL": "1800", "ResourceRecords": [exchanger]},
        {"Name": sub("bounce.${Domain}"), "Type": "TXT", "TTL": "1800", "ResourceRecords": [spf]},
    ]
    if options.dmarc:
        records.append(
            {"Name": sub("_dmarc.${Domain}"), "Type": "TXT", "TTL": "1800", "ResourceRecords": [DMARC]}
        )
    part.resource(
        "MailRecords",
        "Route53::RecordSetGroup",
        {"HostedZoneId": options.hosted_zone, "RecordSets": records},
    )
