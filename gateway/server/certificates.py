"""When the certificates that a configuration names end, for `gateway_certificate_expiry_timestamp_seconds`."""

from collections.abc import Iterator, Mapping
from typing import Final

from gateway.config import Config
from gateway.config.files import named_files
from gateway.upstream.tls import certificates_in

_CHAINS: Final = ("certificate",)
_BUNDLES: Final = ("ca", "client_ca")


def expiries(config: Config, contents: Mapping[str, bytes]) -> dict[str, float]:
    """Return for each certificate file, by its path, when it ends (UNIX seconds).

    Of a chain the first certificate to end counts, of a bundle of CAs the last: it holds old ones too.
    """
    return dict(_expiries(config, contents))


def _expiries(config: Config, contents: Mapping[str, bytes]) -> Iterator[tuple[str, float]]:
    for path, file in named_files(config).items():
        ends = _ends(contents.get(str(file), b"")) if path[-1] in (*_CHAINS, *_BUNDLES) else []
        if ends:
            yield str(file), min(ends) if path[-1] in _CHAINS else max(ends)


def _ends(data: bytes) -> list[float]:
    try:
        return [certificate.not_valid_after_utc.timestamp() for certificate in certificates_in(data)]
    except ValueError:
        return []
