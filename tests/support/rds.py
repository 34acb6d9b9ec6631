"""RDS's part in a login: TLS, and a token in place of a password; behind it a real PostgreSQL."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ssl
import struct
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from urllib.parse import parse_qsl, quote

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

TLS, CLEARTEXT = 80877103, struct.pack("!cII", b"R", 8, 3)


@dataclass
class Gate:
    """Listens where an RDS instance would. `secret` is the key that tokens are to be signed with."""

    socket: Path
    certificate: Path
    key: Path
    secret: str
    region: str
    tokens: list[str] = field(default_factory=list)
    refused: int = 0
    skew: timedelta = timedelta()
    """How far its clock is ahead."""
    port: int = 0
    _relays: set[asyncio.Task[None]] = field(default_factory=set)

    async def start(self) -> None:
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(self.certificate, self.key)
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        self._server.close()
        for task in list(self._relays):
            task.cancel()
        await asyncio.gather(*self._relays, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._relays.add(task)
        task.add_done_callback(self._relays.discard)
        try:
            await self._login(reader, writer)
        except (OSError, asyncio.IncompleteReadError, ssl.SSLError):
            pass
        finally:
            writer.close()

    async def _login(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _, code = struct.unpack("!II", await reader.readexactly(8))
        if code != TLS:
            return  # RDS with rds.force_ssl: nothing without TLS
        writer.write(b"S")
        await writer.start_tls(self._tls)
        head = await reader.readexactly(4)
        startup = head + await reader.readexactly(struct.unpack("!I", head)[0] - 4)
        words = startup[8:].rstrip(b"\0").split(b"\0")
        user = dict(zip(words[::2], words[1::2], strict=False))[b"user"].decode()
        writer.write(CLEARTEXT)
        await writer.drain()
        kind, length = struct.unpack("!cI", await reader.readexactly(5))
        token = (await reader.readexactly(length - 4)).rstrip(b"\0").decode()
        if kind != b"p" or not self._good(token, user):
            self.refused += 1
            body = b"SFATAL\0C28P01\0MPAM authentication failed\0\0"
            writer.write(struct.pack("!cI", b"E", len(body) + 4) + body)
            await writer.drain()
            return
        self.tokens.append(token)
        back_reader, back_writer = await asyncio.open_unix_connection(self.socket)
        try:
            back_writer.write(startup)
            both = [
                asyncio.ensure_future(_copy(reader, back_writer)),
                asyncio.ensure_future(_copy(back_reader, writer)),
            ]
            try:
                await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for one in both:
                    one.cancel()
        finally:
            back_writer.close()

    def _good(self, token: str, user: str) -> bool:
        """Whether AWS would take the token: Signature Version 4 over host, port and user, within its 15 minutes."""
        host, _, query = token.partition("/?")
        given = dict(parse_qsl(query))
        made = datetime.strptime(given.get("X-Amz-Date", "20000101T000000Z"), "%Y%m%dT%H%M%S%z")
        age = datetime.now(UTC) + self.skew - made
        if not timedelta(seconds=-60) <= age <= timedelta(seconds=int(given.get("X-Amz-Expires", "0"))):
            return False
        if (
            host != f"localhost:{self.port}"
            or given.get("DBUser") != user
            or given.get("Action") != "connect"
        ):
            return False
        signature = given.pop("X-Amz-Signature", "")
        canonical = "&".join(f"{name}={quote(value, safe='-_.~')}" for name, value in sorted(given.items()))
        nothing = hashlib.sha256(b"").hexdigest()
        request = f"GET\n/\n{canonical}\nhost:{host}\n\nhost\n{nothing}"
        day = given["X-Amz-Date"][:8]
        scope = f"{day}/{self.region}/rds-db/aws4_request"
        hashed = hashlib.sha256(request.encode()).hexdigest()
        to_sign = f"AWS4-HMAC-SHA256\n{given['X-Amz-Date']}\n{scope}\n{hashed}"
        key = f"AWS4{self.secret}".encode()
        for part in (day, self.region, "rds-db", "aws4_request"):
            key = hmac.digest(key, part.encode(), "sha256")
        return hmac.compare_digest(hmac.new(key, to_sign.encode(), "sha256").hexdigest(), signature)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


def certify(folder: Path, name: str, *, host: str = "localhost") -> tuple[Path, Path, Path]:
    """An authority of its own, and a certificate for `host`: the authority's file, the certificate's, its key's."""
    authority_key, server_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    authority = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{name} authority")])
    now = datetime.now(UTC)
    made: list[x509.Certificate] = []
    for subject, key in ((authority, authority_key), (x509.Name([]), server_key)):
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(authority)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=5))
            .not_valid_after(now + timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=subject == authority, path_length=None), critical=True)
        )
        if subject != authority:
            names = [x509.DNSName(host), x509.IPAddress(IPv4Address("127.0.0.9"))]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=True)
        made.append(builder.sign(authority_key, hashes.SHA256()))
    files = [folder / f"{name}-{kind}.pem" for kind in ("ca", "server", "key")]
    for path, certificate in zip(files, made, strict=False):
        path.write_bytes(certificate.public_bytes(Encoding.PEM))
    files[2].write_bytes(server_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return files[0], files[1], files[2]
