"""TLS towards upstreams: contexts from the configuration."""

import ssl
from pathlib import Path
from typing import Protocol


class _Tls(Protocol):
    @property
    def ca(self) -> Path | None: ...
    @property
    def certificate(self) -> Path | None: ...
    @property
    def private_key(self) -> Path | None: ...


def client_context(tls: _Tls | None) -> ssl.SSLContext:
    """Return a context that verifies chain and host name: by the given CA only, else by the system's. TLS 1.2 or newer.

    Raises OSError (ssl.SSLError is one) where a file can't be read; `check` says so beforehand.
    """
    context = ssl.create_default_context(cafile=str(tls.ca) if tls is not None and tls.ca is not None else None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if tls is not None and tls.certificate is not None:
        context.load_cert_chain(tls.certificate, tls.private_key)
    return context
