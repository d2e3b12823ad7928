"""Playing the peers of a given gateway configuration: what they must know, read out of the configuration and from beside its files.

The gateway's configuration holds Alipay+'s public key and the CA to trust; the simulator needs their private mates, which lie beside
them as `NAME.private.pem` where the simulator has made them.
"""

from dataclasses import replace
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from gateway.alipayplus.keyring import read_signing_key
from gateway.alipayplus.keys import ANY_VERSION, KeyFormatError, generate_private_key
from gateway.config import Address, Alipayplus, Api, Config, Session
from gateway.simulator.answers import Signer
from gateway.simulator.arrival import Partner
from gateway.simulator.auth import Auth
from gateway.simulator.certificates import Authority
from gateway.simulator.keys import private_beside
from gateway.simulator.peers import Places, Setup

DEFAULT_VERSION = "1"
"""The key version that is answered with where the configuration has one key for every version."""

_PORTS = {"https": 443, "http": 80}


class CannotPlay(Exception):
    """The peers that a configuration names can't be played; the text says why, and what would be right."""


def setup_for(config: Config, *, fast: bool = False, api: bool = False) -> Setup:
    """Give all that the peers need to know; with `api` the MPP's own API is played too. Raises CannotPlay."""
    alipayplus = config.alipayplus
    urls = _alipayplus_urls(alipayplus)
    names = {url.hostname or "" for url in urls}
    if alipayplus.tls and alipayplus.tls.server_name:
        names.add(alipayplus.tls.server_name)
    version, key = _alipayplus_key(alipayplus)
    auth_url = _auth_url(config.session)
    return Setup(
        Places(tuple(dict.fromkeys(_address(url) for url in urls)), _address(auth_url), _api_address(config.api) if api else None),
        _partner(alipayplus),
        Signer(alipayplus.client_id, version, key, generate_private_key()),
        _authority(alipayplus).server_context(sorted(names)),
        _auth(config.session, auth_url.path or "/"),
        fast=fast,
    )


def _alipayplus_urls(alipayplus: Alipayplus) -> list[SplitResult]:
    hosts = [*alipayplus.host, *(host for scene in alipayplus.scenes.values() for host in scene.host)]
    return [urlsplit(host) for host in hosts]


def _partner(alipayplus: Alipayplus) -> Partner:
    try:
        entries = alipayplus.signing.private_keys.items()
        return Partner(alipayplus.client_id, {version: read_signing_key(entry, version).public for version, entry in entries})
    except (OSError, KeyFormatError) as error:
        raise CannotPlay(f"alipayplus.signing.private_keys: {_text(error)}") from error


def _alipayplus_key(alipayplus: Alipayplus) -> tuple[str, rsa.RSAPrivateKey]:
    public_keys = alipayplus.verification.public_keys
    for version, public in public_keys.items():
        private = private_beside(public)
        if _is_there(private):
            return (DEFAULT_VERSION if version == ANY_VERSION else version), _rsa_key(private)
    looked_for = ", ".join(str(private_beside(public)) for public in public_keys.values())
    raise CannotPlay(
        f"to sign as Alipay+ the private key of its public key is needed: {looked_for} (gateway simulate --dir DIR makes such a pair)"
    )


def _is_there(file: Path) -> bool:
    try:
        return file.is_file()
    except OSError as error:
        raise CannotPlay(f"{file}: {_text(error)}") from error


def _rsa_key(private: Path) -> rsa.RSAPrivateKey:
    try:
        key = load_pem_private_key(private.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise CannotPlay(f"{private}: not a private key that can be read") from error
    if not isinstance(key, rsa.RSAPrivateKey):
        raise CannotPlay(f"{private}: not an RSA key")
    return key


def _authority(alipayplus: Alipayplus) -> Authority:
    ca = alipayplus.tls.ca if alipayplus.tls else None
    if ca is None:
        raise CannotPlay("alipayplus.tls.ca is needed: the CA of the simulated Alipay+ (gateway simulate --dir DIR makes one)")
    try:
        return Authority.read(ca)
    except (OSError, ValueError, TypeError) as error:
        raise CannotPlay(f"{private_beside(ca)}: {_text(error)} (gateway simulate --dir DIR makes a CA with its key)") from error


def _auth_url(session: Session) -> SplitResult:
    checked = session.forward or session.introspection
    assert checked is not None, "the configuration has exactly one of the two"
    url = urlsplit(checked.url)
    if url.scheme != "http":
        raise CannotPlay(f"session: the simulated auth service speaks plain HTTP only, and {checked.url} is {url.scheme}")
    return url


def _auth(session: Session, path: str) -> Auth:
    if session.forward:
        auth = Auth(session_path=path, introspection_path="")
        customer_id = session.forward.customer_id
    else:
        assert session.introspection is not None, "the configuration has exactly one of the two"
        secret = session.introspection.client_secret.reveal()
        auth = Auth(session_path="", introspection_path=path, client_id=session.introspection.client_id, client_secret=secret)
        customer_id = session.introspection.customer_id
    return replace(auth, id_header=customer_id.header or auth.id_header, id_pointer=customer_id.json or auth.id_pointer)


def _api_address(api: Api | None) -> Address:
    upstreams = api.upstreams.values() if api is not None else ()
    plain = [server.url for upstream in upstreams for server in upstream.servers if server.url.startswith("http://")]
    if not plain:
        raise CannotPlay("api: to play the MPP's API a server is needed that begins with http://")
    return _address(urlsplit(plain[0]))


def _address(url: SplitResult) -> Address:
    return Address(url.hostname or "", url.port or _PORTS[url.scheme])


def _text(error: Exception) -> str:
    return (error.strerror or "can't be read").lower() if isinstance(error, OSError) else str(error)
