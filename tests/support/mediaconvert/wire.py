"""The REST API of the simulated service: over HTTP, or straight into a boto3 client, with the faults of a network."""

from __future__ import annotations

import json
import threading
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import boto3
from botocore.awsrequest import AWSResponse
from botocore.config import Config
from botocore.exceptions import ReadTimeoutError

from tests.support.mediaconvert import model
from tests.support.mediaconvert.service import REGION, Conflict, NoSuchJob, Service

JOBS = "/2017-08-29/jobs"
Answer = tuple[int, dict[str, Any]]


class Lost(Exception):
    """The request was carried out, and its answer never arrives."""


class Wire:
    """Answers requests. `faults` says how the next ones go wrong: ``throttle``, ``error``, ``denied``, ``lost``,
    ``fine``, or ``unheard``: done, and then, the client having tried again by itself, throttled."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.faults: deque[str] = deque()
        self.calls: list[str] = []

    def answer(self, method: str, url: str, body: bytes) -> Answer:
        fault = self.faults.popleft() if self.faults else "fine"
        if fault == "throttle":
            return _error(429, "TooManyRequestsException", "slow down")
        if fault == "error":
            return _error(500, "InternalServerErrorException", "something broke")
        if fault == "denied":
            return _error(403, "ExpiredTokenException", "the token has run out")
        answer = self._do(method, url, body)
        if fault == "lost":
            raise Lost
        if fault == "unheard":
            return _error(429, "TooManyRequestsException", "slow down")
        return answer

    def _do(self, method: str, url: str, body: bytes) -> Answer:
        address = urlsplit(url)
        query = {name: values[0] for name, values in parse_qs(address.query).items()}
        job_id = unquote(address.path.removeprefix(JOBS).strip("/"))
        self.calls.append(f"{method} {'job' if job_id else 'jobs'}")
        try:
            if method == "POST" and not job_id:
                job = self.service.create(json.loads(body))
                return 201, model.write("CreateJob", {"Job": job.shown()})
            if method == "GET" and job_id:
                return 200, model.write("GetJob", {"Job": self.service.get(job_id).shown()})
            if method == "GET":
                return self._list(query)
            if method == "DELETE" and job_id:
                self.service.cancel(job_id)
                return 202, {}
        except model.BadRequest as error:
            return _error(400, "BadRequestException", str(error))
        except NoSuchJob as error:
            return _error(404, "NotFoundException", str(error))
        except Conflict as error:
            return _error(409, "ConflictException", str(error))
        return _error(404, "NotFoundException", f"{method} {address.path}")

    def _list(self, query: dict[str, str]) -> Answer:
        if unknown := set(query) - {"order", "maxResults", "nextToken", "queue", "status"}:
            raise model.BadRequest(f"unknown {sorted(unknown)}")
        jobs, after = self.service.listed(
            newest_first=query.get("order") == "DESCENDING",
            queue=query.get("queue"),
            start=int(query.get("nextToken", "0")),
        )
        token = None if after is None else str(after)
        return 200, model.write("ListJobs", {"Jobs": [job.shown() for job in jobs], "NextToken": token})


def _error(status: int, code: str, message: str) -> Answer:
    return status, {"__type": code, "message": message}


def client(wire: Wire) -> Any:
    """A boto3 client whose requests end here instead of in a socket. It does not try again by itself."""
    made = boto3.client(
        "mediaconvert",
        region_name=REGION,
        aws_access_key_id="a-test",
        aws_secret_access_key="a-test",
        config=Config(retries={"mode": "standard", "total_max_attempts": 1}),
    )

    def send(request: Any, **_: Any) -> AWSResponse:
        body = request.body or b""
        try:
            status, found = wire.answer(request.method, request.url, body)
        except Lost as error:
            raise ReadTimeoutError(endpoint_url=request.url) from error
        headers = {"content-type": "application/json"}
        if status >= 400:
            headers["x-amzn-errortype"] = found["__type"]
        return AWSResponse(request.url, status, headers, _Raw(json.dumps(found).encode()))

    made.meta.events.register("before-send.mediaconvert.*", send)
    return made


class _Raw:
    """What urllib3 would hand over."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def stream(self, *_: Any, **__: Any) -> Any:
        yield self._body


class Server:
    """The API on 127.0.0.1. A context manager."""

    def __init__(self, wire: Wire) -> None:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _any(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                try:
                    status, found = wire.answer(self.command, self.path, body)
                except Lost:
                    self.close_connection = True
                    return
                data = json.dumps(found).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                if status >= 400:
                    self.send_header("x-amzn-errortype", found["__type"])
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_DELETE = _any  # noqa: N815 (the names are the base class's)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Server:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
