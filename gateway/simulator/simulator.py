"""`Simulator`: the peers with keys, certificates and a folder for them, for tests and for the commands."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, Self

from gateway.alipayplus.keys import SigningKey, VerificationKey
from gateway.config.values import Address
from gateway.simulator.answers import Signer
from gateway.simulator.arrival import Partner
from gateway.simulator.auth import Login
from gateway.simulator.behaviour import Behaviour
from gateway.simulator.certificates import LIFETIME, LOCAL_NAMES, Authority
from gateway.simulator.configuration import Ports, render
from gateway.simulator.keys import Keys
from gateway.simulator.mpp import Mpp
from gateway.simulator.peer import KEEP, Peer
from gateway.simulator.peers import Peers, Places, Setup

CLIENT_ID: Final = "T_000000000000000001"
KEY_VERSION: Final = "1"
HOST: Final = "127.0.0.1"


class CannotWrite(Exception):
    """A file can't be written; the text names it and says why."""


@contextmanager
def temporary_folder(prefix: str) -> Iterator[Path]:
    """Give a new folder, and remove it at the end. Raises CannotWrite."""
    try:
        folder = TemporaryDirectory(prefix=prefix)
    except OSError as error:
        raise CannotWrite(f"a temporary folder cannot be made: {(error.strerror or 'not possible').lower()}") from error
    with folder as path:
        yield Path(path)


class Simulator:
    """Alipay+, an auth service and an MPP API on `ports`; an async context manager. Entering it raises CannotListen and CannotWrite.

    When the peers listen, `directory` (made if need be) gets keys/mpp-1.pem (the gateway's private key), keys/alipayplus-1.pem (Alipay+'s
    public one), tls/ca.pem (the CA of the server certificate, which holds for `names` and for `lifetime`; a negative one has expired),
    and what `write_configuration` writes. New keys take some tenths of a second: tests pass theirs. `known` are further public keys of
    the gateway that Alipay+ knows, by version. `keep` bounds the records, `fast` is for load generators: nothing is verified, scripted or
    kept.
    """

    def __init__(
        self,
        directory: Path,
        *,
        ports: Ports | None = None,
        keys: Keys | None = None,
        known: Mapping[str, VerificationKey] | None = None,
        names: Iterable[str] = LOCAL_NAMES,
        lifetime: timedelta = LIFETIME,
        keep: int = KEEP,
        fast: bool = False,
    ) -> None:
        self.directory = directory
        self.keys = keys or Keys.generate()
        self._ports = ports or Ports.any()
        self._authority = Authority.generate()
        self._peers = Peers(
            Setup(
                Places((Address(HOST, self._ports.alipayplus),), Address(HOST, self._ports.auth), Address(HOST, self._ports.mpp)),
                Partner(CLIENT_ID, {KEY_VERSION: SigningKey.of(self.keys.mpp, KEY_VERSION).public, **(known or {})}),
                Signer(CLIENT_ID, KEY_VERSION, self.keys.alipayplus, self.keys.stranger),
                self._authority.server_context(names, lifetime),
                keep=keep,
                fast=fast,
            )
        )

    async def __aenter__(self) -> Self:
        await self._peers.__aenter__()
        try:
            self._write()
        except OSError as error:
            await self._peers.__aexit__()
            raise self._cannot_write(error) from error
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._peers.__aexit__(*error)

    @property
    def alipayplus(self) -> Peer[Behaviour]:
        """The simulated Alipay+."""
        return self._peers.alipayplus

    @property
    def auth(self) -> Peer[Login]:
        """The simulated auth service."""
        return self._peers.auth

    @property
    def mpp(self) -> Mpp:
        """The simulated MPP API."""
        return self._peers.mpp

    @property
    def ca(self) -> Path:
        """The file with the CA certificate that Alipay+'s server certificate is verified with."""
        return self.directory / "tls" / "ca.pem"

    @property
    def ports(self) -> Ports:
        """The ports in use; those of gateway and admin listener are the ones asked for."""
        return Ports(self._ports.gateway, self._ports.admin, self.alipayplus.port, self.auth.port, self.mpp.port)

    def write_configuration(self, changes: Mapping[str, Any] | None = None, *, name: str = "gateway.yaml") -> Path:
        """Write the configuration of a gateway that runs against this simulator into `directory`; give its path.

        `changes` is merged into conf/demo.yaml, mapping by mapping; None takes a key away. To be called when the simulator runs.
        Raises CannotWrite.
        """
        path = self.directory / name
        try:
            path.write_text(render(self.ports, changes))
        except OSError as error:
            raise self._cannot_write(error) from error
        return path

    def _write(self) -> None:
        for folder in ("keys", "tls"):
            (self.directory / folder).mkdir(parents=True, exist_ok=True)
        self.keys.write(self.directory / "keys")
        self._authority.write(self.ca)

    def _cannot_write(self, error: OSError) -> CannotWrite:
        return CannotWrite(f"{error.filename or self.directory}: {(error.strerror or 'cannot be written').lower()}")
