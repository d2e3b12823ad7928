"""The commands as a user types them, without a process of their own."""

import shlex
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.alipayplus.keys import generate_private_key, private_pem, public_pem
from gateway.cli import main


@dataclass(frozen=True)
class Outcome:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str


Command = Callable[..., Outcome]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """Run `gateway` with a line of words, and with further words as they are."""

    def run(line: str, *words: object) -> Outcome:
        capsys.readouterr()
        try:
            code = main([*shlex.split(line), *map(str, words)])
        except SystemExit as ended:  # argparse, for wrong usage
            code = int(ended.code or 0)
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def key_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with private.pem, public.pem, other.pem and other-public.pem."""
    folder = tmp_path_factory.mktemp("keys")
    for private, public in (("private.pem", "public.pem"), ("other.pem", "other-public.pem")):
        key = generate_private_key()
        (folder / private).write_bytes(private_pem(key))
        (folder / private).chmod(0o600)
        (folder / public).write_bytes(public_pem(key))
    return folder


@pytest.fixture(scope="session")
def openssl() -> str:
    """The openssl command, as a witness from outside."""
    return shutil.which("openssl") or pytest.skip("the openssl command is missing")
