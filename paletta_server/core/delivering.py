"""How bytes of ours reach other people's machines: straight from the store, or through CloudFront.

Originals and everything else that is sold need an address that was signed for one file and ends in minutes. Previews
are watermarked, and meant to be looked at by whoever comes by: through CloudFront they have plain addresses that never
change (a key is never used twice), so that its edges and every browser may keep them for a year. A preview's address
cannot be guessed, for the attempt that made it has a random id in it; whoever was shown one keeps it, until the clip is
taken down: its previews are withheld then, but from what edges and browsers keep.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Protocol
from urllib.parse import quote, urlencode

from paletta_server.core.settings import Settings
from paletta_server.core.signing import Signer

PUBLIC_PATHS = (
    "media/*/comp.mp4",
    "media/*/loop.mp4",
    "media/*/poster-*.jpg",
    "media/*/storyboard.jpg",
    "media/*/storyboard.vtt",
)
"""What the distribution gives to anybody; all else is behind its key group. The template has a behaviour for each.
A preview under another name gets a signed address, and works too."""
LABEL, WITHHELD = "paletta-access", "withheld"
"""The tag, and its value, of an object that the distribution does not give to anybody any more (`clips.previews`)."""
PREVIEW_SECONDS = 3600
"""How long a signed address of a preview works."""


class Delivery(Protocol):
    """Makes addresses for files of the store. They answer ranged GETs, with the store's own ETag."""

    def file(self, key: str, *, seconds: int, content_type: str, disposition: str) -> str:
        """An address of one sold file, good for `lasting(seconds)`. `disposition`: who calls has made it safe."""

    def preview(self, key: str, *, content_type: str) -> str:
        """An address of something that anybody may look at."""

    def lasting(self, seconds: int) -> int:
        """For how long an address that is to last `seconds` does."""


def delivery(settings: Settings, signer: Signer) -> Delivery:
    """The one that the settings name. Raises `KeysUnreadable`."""
    if settings.cloudfront_domain is None or settings.cloudfront_keys is None:
        return Presigned(signer)
    keys = read_keys(settings.cloudfront_keys.get_secret_value())
    return CloudFront(settings.cloudfront_domain, keys[0])


def is_public(key: str) -> bool:
    """Whether anybody may have what is stored under `key`, for as long as it is there."""
    return any(fnmatchcase(key, pattern) for pattern in PUBLIC_PATHS)


class Presigned:
    """From the store itself."""

    def __init__(self, signer: Signer) -> None:
        self._signer = signer

    def file(self, key: str, *, seconds: int, content_type: str, disposition: str) -> str:
        return self._signer.presign_get(
            key, seconds=seconds, content_type=content_type, disposition=disposition
        )

    def preview(self, key: str, *, content_type: str) -> str:
        return self._signer.presign_get(key, seconds=PREVIEW_SECONDS, content_type=content_type)

    def lasting(self, seconds: int) -> int:
        return self._signer.lasting(seconds)


# ---- CloudFront


class KeysUnreadable(ValueError):
    """PALETTA_CLOUDFRONT_KEYS does not name keys that can sign. Says nothing of what is in them."""


class SigningKey:
    """A key pair of the distribution's key group."""

    def __init__(self, key_id: str, pem: bytes) -> None:
        from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        try:
            found = load_pem_private_key(pem, None)
        except (ValueError, TypeError) as error:  # TypeError: it has a passphrase
            raise KeysUnreadable(f"the key of `{key_id}` is no private key in PEM") from error
        if not isinstance(found, RSAPrivateKey) or found.key_size != 2048:
            raise KeysUnreadable(f"the key of `{key_id}` must be RSA with 2048 bits")
        self.id = key_id
        self._key = found

    def sign(self, message: bytes) -> bytes:
        """RSA-SHA1, which is what CloudFront verifies."""
        from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
        from cryptography.hazmat.primitives.hashes import SHA1

        return self._key.sign(message, PKCS1v15(), SHA1())  # noqa: S303

    def public_pem(self) -> str:
        """What CloudFront is to know of it."""
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        public = self._key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        return public.decode()


def read_keys(setting: str) -> list[SigningKey]:
    """The keys of `KID:path,KID:path`, in that order. Raises `KeysUnreadable`.

    To rotate: add the new one behind, publish it in the key group, put it first, and drop the old one once the
    longest address has ended.
    """
    keys: list[SigningKey] = []
    for part in filter(None, (word.strip() for word in setting.split(","))):
        key_id, colon, path = part.partition(":")
        if not colon or not key_id or not path:
            raise KeysUnreadable("write them as KID:path,KID:path")
        try:
            pem = Path(path).read_bytes()
        except OSError as error:
            raise KeysUnreadable(f"the key of `{key_id}` cannot be read: {error.strerror}") from error
        keys.append(SigningKey(key_id, pem))
    if not keys:
        raise KeysUnreadable("it names no key")
    if len({key.id for key in keys}) < len(keys):
        raise KeysUnreadable("it names a key twice")
    return keys


class CloudFront:
    """Through a distribution that reads the bucket by itself (origin access), which nobody else needs to reach."""

    def __init__(self, domain: str, key: SigningKey) -> None:
        from botocore.signers import CloudFrontSigner

        self._base = (domain if "://" in domain else f"https://{domain}").rstrip("/")
        self._signer = CloudFrontSigner(key.id, key.sign)

    def file(self, key: str, *, seconds: int, content_type: str, disposition: str) -> str:
        # The query is part of what is signed: nobody can make another name, or another type, of it.
        query = {"response-content-disposition": disposition, "response-content-type": content_type}
        return self._signed(f"{self._address(key)}?{urlencode(query, safe='', quote_via=quote)}", seconds)

    def preview(self, key: str, *, content_type: str) -> str:
        if is_public(key):
            return self._address(key)  # its type was stored with it
        return self._signed(self._address(key), PREVIEW_SECONDS)

    def lasting(self, seconds: int) -> int:
        return seconds  # a key pair does not end by itself

    def _address(self, key: str) -> str:
        return f"{self._base}/{quote(key)}"

    def _signed(self, url: str, seconds: int) -> str:
        """With a canned policy: this very address, until then. It is a third shorter than one that is spelled out."""
        until = datetime.now(UTC) + timedelta(seconds=seconds)
        signed: str = self._signer.generate_presigned_url(url, date_less_than=until)
        return signed
