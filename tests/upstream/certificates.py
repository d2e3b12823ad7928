"""Certificates for tests: good, expired, for another name, of another authority."""

import datetime as dt
import ipaddress
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

_SIGNS = x509.KeyUsage(
    key_cert_sign=True,
    crl_sign=True,
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    encipher_only=False,
    decipher_only=False,
)
"""What an authority's certificate is for; Python 3.13's own clients demand that it is said."""


@dataclass(frozen=True)
class Pair:
    """A certificate and its private key, as files."""

    certificate: Path
    private_key: Path

    def server_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.private_key)
        return context


class Authority:
    """Makes certificates. All of one authority are trusted through its file `ca`."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.ca = folder / f"{name}.pem"
        basic = x509.BasicConstraints(ca=True, path_length=None)
        certificate = _builder(self._name, self._name, self._key.public_key(), 365).add_extension(basic, critical=True)
        self._signed = certificate.add_extension(_SIGNS, critical=True).sign(self._key, hashes.SHA256())
        self.ca.write_bytes(self._signed.public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str, *hosts: str, days: int = 60, since: int = 90) -> Pair:
        """Issue a certificate for names and addresses that began `since` days ago and is good for `days` more."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = _builder(subject, self._name, key.public_key(), days, since)
        names = x509.SubjectAlternativeName([_general_name(host) for host in hosts or (name,)])
        key_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        signed = builder.add_extension(names, critical=False).add_extension(key_id, critical=False).sign(self._key, hashes.SHA256())
        pair = Pair(self._folder / f"{name}.crt", self._folder / f"{name}.key")
        pair.certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        pair.private_key.write_bytes(
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )
        return pair


def spoiled(certificate: Path, good: bytes, bad: bytes) -> bytes:
    """Return a certificate in DER with these bytes in place of those."""
    der = ssl.PEM_cert_to_DER_cert(certificate.read_text())
    assert der.count(good) == 1
    return der.replace(good, bad)


VERSION_3: Final = bytes.fromhex("a003020102")
VERSION_2: Final = bytes.fromhex("a003020101")
"""How the version stands in a certificate; OpenSSL takes every one, and cryptography none but the first and the third."""


def weak_pair(folder: Path) -> Pair:
    """Make a certificate of its own issuer whose key OpenSSL finds too small."""
    key = rsa.generate_private_key(65537, 1024)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "weak")])
    signed = _builder(name, name, key.public_key(), 60).sign(key, hashes.SHA256())
    pair = Pair(folder / "weak.crt", folder / "weak.key")
    pair.certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    pair.private_key.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return pair


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey, days: int, since: int = 90
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=since))
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
