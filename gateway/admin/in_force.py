"""What an edition of the configuration puts in force, as the status page shows it: keys, certificates, limits, routes.

Nothing secret is in it: of a key its version, its public half's fingerprint and the age of its file, of the configuration only the keys
that stand in `_LIMITS`. Made once for each edition.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

from msgspec import Struct

from gateway.alipayplus.keyring import read_signing_key, read_verification_key
from gateway.alipayplus.keys import KeyFormatError, VerificationKey
from gateway.config import ApiRoute, Config, PrivateKey
from gateway.config.faults import dotted
from gateway.config.files import named_files
from gateway.config.shape import keys_of
from gateway.config.written import plain

Use = Literal["signing", "next", "verification"]


class KeyShown(Struct, frozen=True):
    """A key. `next` is one of ours that is ready and does not sign. `changed` is when its file was written (UNIX seconds)."""

    use: Use
    version: str
    fingerprint: str
    bits: int
    file: str
    changed: float | None


class CertificateShown(Struct, frozen=True):
    """A certificate file, by the configuration's key that names it; `ends` in UNIX seconds."""

    key: str
    file: str
    ends: float


class LimitShown(Struct, frozen=True):
    """A limit: its key in the configuration, its value as written there, and what it means."""

    key: str
    value: str
    meaning: str


class RouteShown(Struct, frozen=True):
    """A route of the MPP's API. No host or no method means any."""

    prefix: str
    upstream: str
    host: tuple[str, ...]
    methods: tuple[str, ...]
    session: str
    strip_prefix: bool


class InForce(Struct, frozen=True):
    """All of it. `holds_back_key`: the file of the signing key holds another key than is used, until SIGHUP."""

    keys: tuple[KeyShown, ...] = ()
    holds_back_key: bool = False
    certificates: tuple[CertificateShown, ...] = ()
    limits: tuple[LimitShown, ...] = ()
    routes: tuple[RouteShown, ...] = ()


_LIMITS: Final[tuple[tuple[str, ...], ...]] = (
    ("server", "limits"),
    ("server", "accept_grace"),
    ("server", "drain_timeout"),
    ("session", "forward", "timeout"),
    ("session", "forward", "max_in_flight"),
    ("session", "introspection", "timeout"),
    ("session", "introspection", "max_in_flight"),
    ("session", "cache"),
    ("alipayplus", "max_in_flight"),
    ("alipayplus", "queue_timeout"),
    ("alipayplus", "connect_timeout"),
    ("alipayplus", "timeout"),
    ("alipayplus", "max_response"),
    ("sdk_proxy", "max_body"),
)
_OF_UPSTREAMS: Final = ("connections", "connect_timeout", "response_timeout", "idle_timeout")


def in_force(config: Config, copied: Config, *, ends: Mapping[str, float], holds_back_key: bool) -> InForce:
    """Return what a configuration puts in force. Reads the key files of `copied`, the same with other paths, and looks at its own.

    `ends` says of each certificate file when it ends.
    """
    return InForce(
        tuple(_keys(config, copied)),
        holds_back_key,
        tuple(_certificates(config, ends)),
        (*(limit for path in _LIMITS for limit in _limits(config, path)), *_limits_of_upstreams(config)),
        tuple(map(_route, config.api.routes)) if config.api is not None else (),
    )


def _keys(config: Config, copied: Config) -> Iterator[KeyShown]:
    signing, copies = config.alipayplus.signing, copied.alipayplus
    for version, entry in signing.private_keys.items():
        read = partial(_public_half, copies.signing.private_keys[version], version)
        yield from _key("signing" if version == signing.key_version else "next", version, entry.file, read)
    for version, file in config.alipayplus.verification.public_keys.items():
        yield from _key("verification", version, file, partial(read_verification_key, copies.verification.public_keys[version]))


def _certificates(config: Config, ends: Mapping[str, float]) -> Iterator[CertificateShown]:
    for path, file in named_files(config).items():
        if str(file) in ends:
            yield CertificateShown(dotted(path), str(file), ends[str(file)])


def _key(use: Use, version: str, file: Path, read: Callable[[], VerificationKey]) -> Iterator[KeyShown]:
    try:
        key = read()
    except (KeyFormatError, OSError):  # the checks have read it a moment before
        return
    yield KeyShown(use, version, key.fingerprint, key.bits, str(file), _changed(file))


def _public_half(entry: PrivateKey, version: str) -> VerificationKey:
    return read_signing_key(entry, version, is_checked=True).public


def _changed(file: Path) -> float | None:
    try:
        return file.stat().st_mtime
    except OSError:
        return None


def _limits(section: Struct, path: tuple[str, ...], above: tuple[str, ...] = ()) -> Iterator[LimitShown]:
    """Give the limit at a path below a section, or all of them where a section stands there; none where it is absent."""
    key = next(key for key in keys_of(type(section)) if key.name == path[0])
    value: Any = getattr(section, key.name)
    here = (*above, key.name)
    if value is None:
        return
    if not isinstance(value, Struct):
        yield LimitShown(dotted(here), str(plain(value)), key.meaning)
        return
    for name in path[1:2] or tuple(one.name for one in keys_of(type(value))):
        yield from _limits(value, (name, *path[2:]), here)


def _limits_of_upstreams(config: Config) -> Iterator[LimitShown]:
    for name, upstream in config.api.upstreams.items() if config.api is not None else ():
        for key in _OF_UPSTREAMS:
            yield from _limits(upstream, (key,), ("api", "upstreams", name))


def _route(route: ApiRoute) -> RouteShown:
    hosts, methods = tuple(route.host or ()), tuple(route.methods or ())
    return RouteShown(route.prefix, route.upstream, hosts, methods, route.session, route.strip_prefix)
