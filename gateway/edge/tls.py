"""TLS towards clients: the context from the configuration, what is wrong with its files, and who a client's certificate names."""

import asyncio
import re
import ssl
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

from cryptography import x509

from gateway.config import Config, Fault, ServerTls, Tls
from gateway.upstream import tls as files

CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2: with forward secrecy and authenticated encryption only. Those of TLS 1.3 all are so."""
_SECTION: Final = ("server", "tls")
_UNSAFE: Final = re.compile(r"\\\\|\\ |[^ -~]")  # an escaped backslash is left; an escaped space at an end would get lost in a header


class HandshakeFailed(ssl.SSLError):
    """A handshake failed; `alert` is what the client is to be sent for it, as bytes on the wire."""

    def __init__(self, error: ssl.SSLError, alert: bytes) -> None:
        super().__init__(*error.args)
        self.reason = error.reason
        self.alert = alert


class _Session(ssl.SSLObject):
    """A session that gives its alert to whoever sees its handshake fail: the event loops throw it away."""

    outgoing: ssl.MemoryBIO

    def do_handshake(self) -> None:
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as error:
            raise HandshakeFailed(error, self.outgoing.read()) from error


class _Context(ssl.SSLContext):
    """Makes such sessions."""

    sslobject_class = _Session

    def wrap_bio(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, *args: Any, **kwargs: Any) -> _Session:
        session = super().wrap_bio(incoming, outgoing, *args, **kwargs)
        assert isinstance(session, _Session)
        session.outgoing = outgoing
        return session


def server_context(settings: ServerTls) -> ssl.SSLContext:
    """Return the context towards clients. With `client_ca`, clients are asked for a certificate, but need not have one.

    Raises OSError (ssl.SSLError is one) where a file can't be used; `check_server_tls` says so beforehand.
    """
    context = _Context(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_ciphers(CIPHERS)
    context.set_alpn_protocols(["http/1.1"])
    # The password is never asked for on a terminal: an encrypted key is an error.
    context.load_cert_chain(settings.certificate, settings.private_key, password="")
    if settings.client_ca is not None:
        context.load_verify_locations(settings.client_ca)
        context.verify_mode = ssl.CERT_OPTIONAL
    return context


def check_server_tls(config: Config) -> Iterator[Fault]:
    """Yield what is wrong with the files of `server.tls`: missing, unreadable, not belonging together, expired or soon to be."""
    settings = config.server.tls
    if settings is None:
        return
    named = Tls(ca=settings.client_ca, certificate=settings.certificate, private_key=settings.private_key)
    for fault in files.check(named, _SECTION):
        yield replace(fault, path=(*_SECTION, "client_ca")) if fault.path == (*_SECTION, "ca") else fault


def subject(transport: asyncio.BaseTransport) -> str | None:
    """Return the subject of the client's certificate as RFC 4514 writes it, in visible ASCII; None if it has shown none, or an empty one.

    A certificate that could not be verified has ended the handshake.
    """
    session = transport.get_extra_info("ssl_object")
    shown = session.getpeercert(binary_form=True) if session is not None else None
    if shown is None:
        return None
    try:
        name = x509.load_der_x509_certificate(shown).subject.rfc4514_string()
    except (ValueError, x509.InvalidVersion):  # OpenSSL is less strict
        return None
    return _UNSAFE.sub(_escape, name) or None


def _escape(match: re.Match[str]) -> str:
    if match[0] == "\\\\":
        return match[0]
    return "".join(f"\\{byte:02x}" for byte in match[0].removeprefix("\\").encode())
