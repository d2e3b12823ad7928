"""TLS towards upstreams: contexts from the configuration, and what is wrong with the files that it names."""

import ssl
import warnings
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from errno import EFBIG, EINVAL
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.utils import CryptographyDeprecationWarning

from gateway.config.draft import readable
from gateway.config.faults import Fault, KeyPath
from gateway.config.model import Tls

SOON: Final = timedelta(days=30)
MAX_FILE: Final = 1 << 20
"""Bytes. No bundle of CAs is larger; a device or a log file named by mistake is not read to its end."""


def client_context(tls: Tls | None) -> ssl.SSLContext:
    """Return a context that verifies chain and host name: by the given CA only, else by the system's. TLS 1.2 or newer.

    Raises OSError (ssl.SSLError is one) where a file can't be read; `check` says so beforehand.
    """
    context = verifying_context(tls.ca if tls is not None else None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if tls is not None and tls.certificate is not None:
        # The password is never asked for on a terminal: an encrypted key is an error.
        context.load_cert_chain(tls.certificate, tls.private_key, password="")
    return context


def verifying_context(ca: Path | None) -> ssl.SSLContext:
    """Return a context of a client that trusts these certificates only, else the system's. Raises OSError.

    Chains are judged alike under every Python, and as by other proxies: since 3.13 its default is to refuse a CA without a key usage,
    as many of an organisation's own are, and to take a CA that is itself issued by another one.
    """
    context = ssl.create_default_context(cafile=ca)
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def check(tls: Tls, path: KeyPath, *, now: datetime | None = None) -> Iterator[Fault]:
    """Yield what is wrong with the files of `tls`, which stands at `path` in the configuration: missing, expired, unpaired, of no use."""
    now = now or datetime.now(UTC)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if (ca := tls.ca) is not None:
        place = (*path, "ca")
        yield from readable(_check_use(_check_certificates(ca, place, now, every=False), place, lambda: context.load_verify_locations(ca)))
    if (certificate := tls.certificate) is not None and (key := tls.private_key) is not None:
        found = _check_pair(certificate, key, path, now)
        yield from _check_use(found, (*path, "certificate"), lambda: context.load_cert_chain(certificate, key, password=""))


def _check_use(faults: Iterator[Fault], path: KeyPath, load: Callable[[], None]) -> Iterator[Fault]:
    """Try files that have no faults but warnings: OpenSSL refuses some that can be read, such as weak keys and bundles that are cut off."""
    found = []
    for fault in faults:
        found.append(fault)
        yield fault
    if not all(fault.warning for fault in found):
        return
    try:
        load()
    except OSError as error:
        reason = error.reason if isinstance(error, ssl.SSLError) else error.strerror
        yield Fault(path, f"OpenSSL takes it not: {reason or 'malformed'}")


def _check_certificates(file: Path, path: KeyPath, now: datetime, *, every: bool) -> Iterator[Fault]:
    """Demand that every certificate of a file is valid, or one at least: bundles of authorities hold old ones too."""
    found = _certificates(file)
    if isinstance(found, str):
        yield Fault(path, found)
    else:
        judged = max if every else min
        yield from judged((list(_check_dates(certificate, path, now)) for certificate in found), key=_gravity)


def _check_pair(certificate: Path, private_key: Path, path: KeyPath, now: datetime) -> Iterator[Fault]:
    yield from readable(_check_certificates(certificate, (*path, "certificate"), now, every=True))
    key = _key(private_key)
    if isinstance(key, str):
        yield Fault((*path, "private_key"), key)
        return
    chain = _certificates(certificate)
    if not isinstance(chain, str) and not _are_pair(chain[0], key):
        yield Fault((*path, "private_key"), "this is not the private key of the certificate")


def _are_pair(certificate: x509.Certificate, key: PrivateKeyTypes) -> bool:
    try:
        return certificate.public_key() == key.public_key()
    except (ValueError, UnsupportedAlgorithm):  # it is for another kind of key than those that can be read
        return False


def _check_dates(certificate: x509.Certificate, path: KeyPath, now: datetime) -> Iterator[Fault]:
    end = certificate.not_valid_after_utc
    if end <= now:
        yield Fault(path, f"expired on {end:%Y-%m-%d}")
    elif certificate.not_valid_before_utc > now:
        yield Fault(path, f"not valid before {certificate.not_valid_before_utc:%Y-%m-%d}")
    elif end - now < SOON:
        yield Fault(path, f"expires on {end:%Y-%m-%d}", warning=True)


def _gravity(faults: list[Fault]) -> int:
    return sum(1 if fault.warning else 2 for fault in faults)


def certificates_in(content: bytes) -> list[x509.Certificate]:
    """Return the certificates in PEM form, at least one. Raises ValueError, and x509.InvalidVersion.

    A serial number of zero or below (RFC 5280 section 4.1.2.2 forbids it), as older roots in the bundles of systems have, is fine.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Parsed a serial number", CryptographyDeprecationWarning)
        return x509.load_pem_x509_certificates(content)


def _certificates(file: Path) -> list[x509.Certificate] | str:
    """Return the certificates of a file, at least one, or what is wrong with it."""
    try:
        return certificates_in(_content(file))
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    except ValueError:
        return "holds no certificates in PEM form"
    except x509.InvalidVersion:
        return "holds a certificate of an unknown version"


def _key(file: Path) -> PrivateKeyTypes | str:
    try:
        return load_pem_private_key(_content(file), None)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    except TypeError:
        return "is encrypted; a key without a password is needed here"
    except (ValueError, UnsupportedAlgorithm):
        return "holds no private key in PEM form"


def _content(file: Path) -> bytes:
    if file.exists() and not file.is_file():
        raise OSError(EINVAL, "not a regular file")  # a pipe could block for ever
    with file.open("rb") as stream:
        content = stream.read(MAX_FILE + 1)
    if len(content) > MAX_FILE:
        raise OSError(EFBIG, "too large for certificates and keys")
    return content
