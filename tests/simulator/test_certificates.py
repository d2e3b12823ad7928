import asyncio
import ssl
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from gateway.simulator.certificates import Authority


@asynccontextmanager
async def served(context: ssl.SSLContext) -> AsyncIterator[int]:
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def connect(port: int, ca: Path, name: str) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=ssl.create_default_context(cafile=str(ca)), server_hostname=name)
    writer.transport.abort()


@pytest.fixture
def ca(tmp_path: Path) -> Path:
    return tmp_path / "ca.pem"


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1"])
async def test_the_certificate_holds_for_the_local_names(ca: Path, name: str) -> None:
    authority = Authority.generate()
    authority.write(ca)
    async with served(authority.server_context()) as port:
        await connect(port, ca, name)


@pytest.mark.parametrize(
    ("names", "lifetime", "says"),
    [(["other.example"], timedelta(days=1), "IP address mismatch"), (["127.0.0.1"], timedelta(days=-1), "certificate has expired")],
)
async def test_wrong_certificates_are_recognised(ca: Path, names: list[str], lifetime: timedelta, says: str) -> None:
    authority = Authority.generate()
    authority.write(ca)
    async with served(authority.server_context(names, lifetime)) as port:
        with pytest.raises(ssl.SSLCertVerificationError, match=says):
            await connect(port, ca, "127.0.0.1")


async def test_an_authority_that_was_written_is_read_again(ca: Path) -> None:
    Authority.generate().write(ca)
    async with served(Authority.read(ca).server_context()) as port:
        await connect(port, ca, "localhost")


def test_openssl_accepts_the_authority_strictly(ca: Path) -> None:
    Authority.generate().write(ca)
    command = ["openssl", "verify", "-x509_strict", "-CAfile", str(ca), str(ca)]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_an_authority_without_its_key_can_not_be_read(ca: Path) -> None:
    Authority.generate().write(ca)
    ca.with_name("ca.private.pem").unlink()
    with pytest.raises(FileNotFoundError):
        Authority.read(ca)


def test_a_server_context_needs_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    assert Authority.generate().server_context().get_ciphers()
