"""A store whose ETags are no MD5 sums, as Amazon's are under SSE-KMS: the run's own store, behind other names for them.

It takes our requests apart and asks anew with its own signature, for what ETags stand in is signed.
"""

from __future__ import annotations

import hashlib
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import urllib3
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from paletta_server.core.settings import Settings

_KEPT = ("content-type", "range", "if-match", "if-none-match", "x-amz-")
_DROPPED = ("x-amz-date", "x-amz-content-sha256", "x-amz-security-token")


class Opaque:
    """Listens at `address`; `names` has the store's ETags by ours."""

    def __init__(self, settings: Settings) -> None:
        assert settings.s3_access_key is not None
        assert settings.s3_secret_key is not None
        self._credentials = Credentials(
            settings.s3_access_key.get_secret_value(), settings.s3_secret_key.get_secret_value()
        )
        self._settings = settings
        self.names: dict[str, str] = {}
        self._pool = urllib3.PoolManager(maxsize=8)
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _pass(self) -> None:
                outer._pass(self)

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _pass  # noqa: N815 (the library's names)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _pass(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("content-length", "0")))
        path, _, query = request.path.partition("?")
        query = "&".join(part for part in query.split("&") if part and not part.startswith("X-Amz-"))
        headers = {
            name: self._theirs(value)
            for name, value in request.headers.items()
            if name.lower().startswith(_KEPT) and name.lower() not in _DROPPED
        }
        body = self._theirs(body.decode("latin-1")).encode("latin-1") if b"<ETag>" in body else body
        url = f"{self._settings.s3_endpoint}{path}" + (f"?{query}" if query else "")
        asked = AWSRequest(request.command, url, headers=headers, data=body)
        S3SigV4Auth(self._credentials, "s3", self._settings.s3_region).add_auth(asked)
        ready = asked.prepare()
        sent = {
            str(name): value if isinstance(value, str) else value.decode()
            for name, value in ready.headers.items()
        }
        answer = self._pool.request(request.command, ready.url, body=body, headers=sent, retries=False)
        data = answer.data
        if b"<ETag>" in data:
            data = re.sub(rb"<ETag>(.*?)</ETag>", lambda m: b"<ETag>" + self._ours(m[1]) + b"</ETag>", data)
        request.send_response(answer.status)
        for name, value in answer.headers.items():
            if name.lower() == "etag":
                value = self._ours(value.encode()).decode()
            if name.lower() not in ("content-length", "transfer-encoding", "connection", "date", "server"):
                request.send_header(name, value)
        length = answer.headers["content-length"] if request.command == "HEAD" else str(len(data))
        request.send_header("content-length", length)
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(data)

    def _ours(self, etag: bytes) -> bytes:
        plain = etag.decode().replace("&#34;", '"').replace("&quot;", '"').strip('"')
        name = hashlib.sha256(b"kms" + plain.encode()).hexdigest()[:32]
        self.names[name] = plain
        return f'"{name}"'.encode()

    def _theirs(self, text: str) -> str:
        return re.sub(r"[0-9a-f]{32}", lambda found: self.names.get(found[0], found[0]), text)
