"""Delivery by CloudFront: previews for everybody and for long, everything else for signed addresses only."""

from __future__ import annotations

from paletta_server.aws.options import Options
from paletta_server.aws.template.environment import key_names
from paletta_server.aws.template.parts import Part, Value, get, ref, sub
from paletta_server.core.delivering import PUBLIC_PATHS

DAY_SECONDS = 24 * 3600
"""How long an edge keeps what it has: a film that is taken down is gone from all of them a day later. What a browser
keeps is for the object's own header to say, which lasts longer."""
QUERIES = ("response-content-disposition", "response-content-type")
"""What a signed address may ask the bucket to answer with: the name under which a film is saved."""


def delivery(options: Options) -> Part:
    part = Part()
    if not options.cloudfront:
        return part
    keys = []
    for key, pem in zip(key_names(options), options.public_keys, strict=True):
        name = f"DeliveryKey{key}"
        part.resource(
            name,
            "CloudFront::PublicKey",
            {
                "PublicKeyConfig": {
                    "CallerReference": sub("${AWS::StackName}-" + key),
                    "Name": sub("${AWS::StackName}-" + key),
                    "EncodedKey": pem,
                }
            },
        )
        part.output(f"{name}Id", ref(name), "The id that goes with this key in PALETTA_CLOUDFRONT_KEYS.")
        keys.append(ref(name))
    part.resource(
        "DeliveryKeys",
        "CloudFront::KeyGroup",
        {"KeyGroupConfig": {"Name": sub("${AWS::StackName}-delivery"), "Items": keys}},
        why="To change the key: add the new one, let the service sign with it, and take the old one out a day later.",
    )
    part.resource(
        "BucketAccess",
        "CloudFront::OriginAccessControl",
        {
            "OriginAccessControlConfig": {
                "Name": sub("${AWS::StackName}-bucket"),
                "OriginAccessControlOriginType": "s3",
                "SigningBehavior": "always",
                "SigningProtocol": "sigv4",
            }
        },
    )
    _cache_policy(part, "PreviewCache", queries=())
    _cache_policy(part, "SaleCache", queries=QUERIES)
    part.resource(
        "PreviewHeaders",
        "CloudFront::ResponseHeadersPolicy",
        {
            "ResponseHeadersPolicyConfig": {
                "Name": sub("${AWS::StackName}-previews"),
                "CorsConfig": {
                    "AccessControlAllowCredentials": False,
                    "AccessControlAllowHeaders": {"Items": ["range"]},
                    "AccessControlAllowMethods": {"Items": ["GET", "HEAD"]},
                    "AccessControlAllowOrigins": {"Items": [sub("https://${Domain}")]},
                    "AccessControlExposeHeaders": {"Items": ["etag", "content-range"]},
                    "AccessControlMaxAgeSec": 3600,
                    "OriginOverride": True,
                },
                "SecurityHeadersConfig": {"ContentTypeOptions": {"Override": True}},
            }
        },
    )
    part.resource("Distribution", "CloudFront::Distribution", {"DistributionConfig": _distribution(options)})
    part.output("DistributionDomain", get("Distribution", "DomainName"), "PALETTA_CLOUDFRONT_DOMAIN.")
    part.output("DistributionId", ref("Distribution"), "The distribution, for CloudFront.")
    part.output("DeliveryKeyGroupId", ref("DeliveryKeys"), "The keys it trusts.")
    return part


def _cache_policy(part: Part, name: str, *, queries: tuple[str, ...]) -> None:
    query: Value = {"QueryStringBehavior": "none"}
    if queries:
        query = {"QueryStringBehavior": "whitelist", "QueryStrings": list(queries)}
    part.resource(
        name,
        "CloudFront::CachePolicy",
        {
            "CachePolicyConfig": {
                "Name": sub("${AWS::StackName}-" + name),
                "MinTTL": 1,
                "DefaultTTL": DAY_SECONDS,
                "MaxTTL": DAY_SECONDS,
                "ParametersInCacheKeyAndForwardedToOrigin": {
                    "CookiesConfig": {"CookieBehavior": "none"},
                    "HeadersConfig": {"HeaderBehavior": "none"},
                    "QueryStringsConfig": query,
                    # Films do not become smaller.
                    "EnableAcceptEncodingGzip": False,
                    "EnableAcceptEncodingBrotli": False,
                },
            }
        },
    )


def _distribution(_options: Options) -> Value:
    previews: Value = {
        "TargetOriginId": "bucket",
        "ViewerProtocolPolicy": "redirect-to-https",
        "AllowedMethods": ["GET", "HEAD", "OPTIONS"],
        "CachedMethods": ["GET", "HEAD"],
        "Compress": False,
        "CachePolicyId": ref("PreviewCache"),
        "ResponseHeadersPolicyId": ref("PreviewHeaders"),
    }
    return {
        "Comment": sub("${AWS::StackName}: films and previews"),
        "Enabled": True,
        "HttpVersion": "http2and3",
        "IPV6Enabled": True,
        "PriceClass": "PriceClass_All",
        "Origins": [
            {
                "Id": "bucket",
                "DomainName": get("Bucket", "RegionalDomainName"),
                "OriginAccessControlId": get("BucketAccess", "Id"),
                "S3OriginConfig": {"OriginAccessIdentity": ""},
            }
        ],
        "CacheBehaviors": [{"PathPattern": pattern, **previews} for pattern in PUBLIC_PATHS],
        # Whatever has no name of a preview is for sale, or an original: only for who has a signed address.
        "DefaultCacheBehavior": {
            "TargetOriginId": "bucket",
            "ViewerProtocolPolicy": "https-only",
            "AllowedMethods": ["GET", "HEAD"],
            "CachedMethods": ["GET", "HEAD"],
            "Compress": False,
            "CachePolicyId": ref("SaleCache"),
            "TrustedKeyGroups": [ref("DeliveryKeys")],
        },
        "ViewerCertificate": {"CloudFrontDefaultCertificate": True},
    }
