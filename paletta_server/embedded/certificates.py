"""The certificate by which the parts of the object store know each other."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from paletta_server.embedded.secretfiles import write_private

_VALID = timedelta(days=36500)
"""A hundred years: it is trusted by one program on one machine, and nobody would renew it."""


def kept_certificate(folder: Path) -> tuple[Path, Path]:
    """Return certificate and key (PEM files, 0600), made once: self-signed, for 127.0.0.1, its own authority."""
    certificate, key = folder / "grpc.crt", folder / "grpc.key"
    if certificate.exists() and key.exists():
        return certificate, key
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    secret = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "paletta object store")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(secret.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))  # a clock that is set back a little
        .not_valid_after(now + _VALID)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .sign(secret, hashes.SHA256())
    )
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    pkcs8 = serialization.PrivateFormat.PKCS8
    write_private(key, secret.private_bytes(pem, pkcs8, plain).decode())
    write_private(certificate, signed.public_bytes(pem).decode())
    return certificate, key
