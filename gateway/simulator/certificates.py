"""A certificate authority made on the spot, and the TLS certificates that it gives to simulated servers."""

import ipaddress
import os
import ssl
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gateway.simulator.keys import private_beside, write_private

LOCAL_NAMES: Final = ("localhost", "127.0.0.1", "::1")
LIFETIME: Final = timedelta(days=365)

_NAME: Final = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "alipayplus-gateway simulator")])
_MARGIN: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate authority; clients trust `certificate`."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)

    @classmethod
    def generate(cls) -> "Authority":
        """Make a new one, valid for `LIFETIME`."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(_NAME, key.public_key(), LIFETIME)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(_usage(signs_certificates=True), critical=True)
        return cls(builder.sign(key, SHA256()), key)

    @classmethod
    def read(cls, certificate: Path) -> "Authority":
        """Read one that `write` wrote. Raises OSError and ValueError."""
        key = load_pem_private_key(private_beside(certificate).read_bytes(), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError("not a key of the simulator")  # noqa: TRY004  as all other faults of the file
        return cls(x509.load_pem_x509_certificate(certificate.read_bytes()), key)

    def write(self, certificate: Path) -> None:
        """Write the certificate, and the key beside it."""
        certificate.write_bytes(self.certificate.public_bytes(Encoding.PEM))
        write_private(private_beside(certificate), _pem(self.key))

    def server_context(self, names: Iterable[str] = LOCAL_NAMES, lifetime: timedelta = LIFETIME) -> ssl.SSLContext:
        """Make the TLS context of a server whose certificate holds for these DNS names and IP addresses.

        With a negative lifetime the certificate has expired.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._issue(key, [_alternative(name) for name in names], lifetime)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with os.fdopen(os.memfd_create("server.pem"), "wb", buffering=0) as file:  # ssl reads certificates from files only
            file.write(certificate.public_bytes(Encoding.PEM) + _pem(key))
            context.load_cert_chain(f"/proc/self/fd/{file.fileno()}")
        return context

    def _issue(self, key: ec.EllipticCurvePrivateKey, names: list[x509.GeneralName], lifetime: timedelta) -> x509.Certificate:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "simulated peer")])
        builder = _builder(subject, key.public_key(), lifetime)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_usage(signs_certificates=False), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        return builder.add_extension(identifier, critical=False).sign(self.key, SHA256())


def _builder(subject: x509.Name, key: ec.EllipticCurvePublicKey, lifetime: timedelta) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    begins, ends = sorted((now - _MARGIN, now + lifetime))
    return (
        x509.CertificateBuilder(issuer_name=_NAME, subject_name=subject, public_key=key, serial_number=x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
