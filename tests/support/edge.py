"""CloudFront's part in delivery: verifies what it is asked as CloudFront does, and fetches from the bucket by itself.

Written from its manual, not with our code: a signature is over the policy that the address implies (its own text
up to our parameters, and Expires), by a key of the group, with RSA and SHA-1.
"""

from __future__ import annotations

import base64
import fnmatch
import json
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, unquote, urlsplit

import urllib3
from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from paletta_server.core.settings import Settings

OURS = ("Expires", "Policy", "Signature", "Key-Pair-Id")
_UNSAFE = str.maketrans("-_~", "+=/")


@dataclass
class Edge:
    """A distribution before `settings`' bucket. `open_paths` anybody may read; all else is behind `keys`."""

    settings: Settings
    open_paths: Sequence[str]
    keys: dict[str, str] = field(default_factory=dict)
    """Public keys (PEM) of the key group, by id."""
    asked: list[tuple[str, int]] = field(default_factory=list)
    """Paths, and how each was answered."""
    cuts: list[int] = field(default_factory=list)
    """Each of the next answers ends after so many bytes, once its address has expired."""

    def __post_init__(self) -> None:
        edge = self
        self._pool = urllib3.PoolManager(maxsize=8)

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                edge._answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.domain = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        path, _, query = request.path.partition("?")
        refusal = self._refusal(path, query)
        if refusal is not None:
            self._reply(
                request, 403, {"content-type": "text/xml"}, f"<Error><Code>{refusal}</Code></Error>".encode()
            )
            return
        kept = "&".join(part for part in query.split("&") if part and part.partition("=")[0] not in OURS)
        wanted = {
            name: request.headers[name]
            for name in ("range", "if-match", "if-none-match")
            if request.headers[name] is not None
        }
        answer = self._pool.request("GET", self._origin(path, kept), headers=wanted, retries=False)
        passed = {
            name: value
            for name, value in answer.headers.items()
            if name.lower()
            in (
                "content-type",
                "content-range",
                "content-disposition",
                "etag",
                "accept-ranges",
                "cache-control",
            )
        }
        if self.cuts and answer.status in (200, 206):
            self._cut(request, answer.status, passed, answer.data, float(dict(parse_qsl(query))["Expires"]))
            return
        self._reply(request, answer.status, passed, answer.data)

    def _cut(
        self, request: BaseHTTPRequestHandler, status: int, headers: dict[str, str], body: bytes, until: float
    ) -> None:
        self.asked.append((request.path, status))
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name, value)
        request.send_header("content-length", str(len(body)))
        request.end_headers()
        request.wfile.write(body[: self.cuts.pop(0)])
        request.wfile.flush()
        while (left := until - time.time()) >= 0:
            time.sleep(left + 0.01)  # an address ends with time, and with nothing else
        request.close_connection = True

    def _reply(
        self, request: BaseHTTPRequestHandler, status: int, headers: dict[str, str], body: bytes
    ) -> None:
        self.asked.append((request.path, status))
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name, value)
        request.send_header("content-length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    def _origin(self, path: str, query: str) -> str:
        """The object in the bucket, asked for with the distribution's own right to it."""
        settings = self.settings
        assert settings.s3_access_key is not None
        assert settings.s3_secret_key is not None
        credentials = Credentials(
            settings.s3_access_key.get_secret_value(), settings.s3_secret_key.get_secret_value()
        )
        url = f"{settings.s3_endpoint}/{settings.s3_bucket}{path}"
        request = AWSRequest("GET", url, params=dict(parse_qsl(query)))
        S3SigV4QueryAuth(credentials, "s3", settings.s3_region, expires=60).add_auth(request)
        return str(request.prepare().url)

    def _refusal(self, path: str, query: str) -> str | None:
        if any(fnmatch.fnmatchcase(unquote(path).lstrip("/"), one) for one in self.open_paths):
            return None
        given = dict(parse_qsl(query))
        if not all(name in given for name in ("Signature", "Key-Pair-Id")):
            return "MissingKey"
        pem = self.keys.get(given["Key-Pair-Id"])
        if pem is None:
            return "InvalidKey"
        resource, policy = self._policy(path, query, given)
        key = load_pem_public_key(pem.encode())
        assert isinstance(key, RSAPublicKey)
        try:
            key.verify(_decoded(given["Signature"]), policy, PKCS1v15(), SHA1())
            (statement,) = json.loads(policy)["Statement"]
            until = statement["Condition"]["DateLessThan"]["AWS:EpochTime"]
        except (InvalidSignature, ValueError, KeyError):
            return "AccessDenied"
        if not fnmatch.fnmatchcase(resource, statement["Resource"].replace("[", "[[]").replace("?", "[?]")):
            return "AccessDenied"
        return "AccessDenied" if time.time() >= until else None

    def _policy(self, path: str, query: str, given: dict[str, str]) -> tuple[str, bytes]:
        kept = "&".join(part for part in query.split("&") if part and part.partition("=")[0] not in OURS)
        resource = f"{self.domain}{path}" + (f"?{kept}" if kept else "")
        if "Policy" in given:
            return resource, _decoded(given["Policy"])
        expires = given.get("Expires", "0")
        policy = (
            f'{{"Statement":[{{"Resource":"{resource}","Condition":'
            f'{{"DateLessThan":{{"AWS:EpochTime":{expires}}}}}}}]}}'
        )
        return resource, policy.encode()


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text.translate(_UNSAFE), validate=True)
    except ValueError:
        return b""


def host(url: str) -> str:
    """Scheme and host of an address."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
