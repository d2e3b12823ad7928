"""`gateway keys`: what is written and shown, and what is refused."""

import os
import stat
import subprocess
import sys
from base64 import b64decode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.alipayplus.keys import load_private_key, load_public_key
from tests.commands.conftest import Outcome

Command = Callable[..., Any]


def test_a_pair_is_made_that_belongs_together(command: Command, tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "keys"
    done = command("keys generate", folder)
    assert (done.code, done.err) == (0, "")
    private = load_private_key((folder / "mpp-private.pem").read_bytes(), None, "1")
    assert private.public.bits == 2048
    assert load_public_key((folder / "mpp-public.pem").read_bytes()) == private.public
    assert load_public_key((folder / "mpp-public.txt").read_bytes()) == private.public
    assert private.public.fingerprint in done.out


def test_the_private_key_is_pkcs8_and_its_owners_alone(command: Command, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        command("keys generate", tmp_path / "keys")
    finally:
        os.umask(before)
    file = tmp_path / "keys" / "mpp-private.pem"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert file.read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----\n")


def test_the_portal_gets_base64_of_the_der_on_one_line(openssl: str, command: Command, tmp_path: Path) -> None:
    command("keys generate", tmp_path)
    (line,) = (tmp_path / "mpp-public.txt").read_text().splitlines()
    der = subprocess.run(
        [openssl, "pkey", "-pubin", "-in", tmp_path / "mpp-public.pem", "-outform", "DER"], check=True, capture_output=True
    ).stdout
    assert b64decode(line, validate=True) == der


def test_it_says_what_to_do_next_with_names_that_can_be_pasted(command: Command, tmp_path: Path) -> None:
    out = command("keys generate", tmp_path).out
    assert f'private_keys: {{"1": {tmp_path / "mpp-private.pem"}}}' in out
    assert "gateway check" in out
    assert "PRIVATE KEY" not in out


@pytest.mark.parametrize("bits", [3072, 4096])
def test_larger_keys_are_made(command: Command, tmp_path: Path, bits: int) -> None:
    assert command(f"keys generate --bits {bits}", tmp_path).code == 0
    assert load_public_key((tmp_path / "mpp-public.pem").read_bytes()).bits == bits


@pytest.mark.parametrize("name", ["mpp-private.pem", "mpp-public.pem", "mpp-public.txt"])
def test_no_file_is_ever_overwritten(command: Command, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("precious")
    done = command("keys generate", tmp_path)
    assert (done.code, done.out) == (1, "")
    assert done.err == f"gateway: {tmp_path / name} exists already and is not overwritten\n"
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [(name, "precious")]


def test_a_dangling_link_is_not_followed(command: Command, tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "mpp-private.pem").symlink_to(tmp_path / "elsewhere")
    assert command("keys generate", tmp_path / "keys").code == 1
    assert not (tmp_path / "elsewhere").exists()


def test_a_file_that_cannot_be_written_leaves_none_behind(tmp_path: Path) -> None:
    line = f"ulimit -f 1; exec {sys.executable} -m gateway keys generate {tmp_path}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"gateway: {tmp_path}: File too large\n")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_one_clear_line(command: Command, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = command("keys generate", tmp_path / "file" / "keys")
    assert (done.code, done.out) == (1, "")
    assert done.err == f"gateway: {tmp_path / 'file' / 'keys'}: Not a directory\n"


def test_a_file_in_place_of_the_folder_is_one_clear_line(command: Command, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    assert command("keys generate", file) == Outcome(1, "", f"gateway: {file}: Not a directory\n")


def test_a_name_that_is_too_long_is_one_clear_line(command: Command, tmp_path: Path) -> None:
    folder = tmp_path / ("a" * 300)
    assert command("keys generate", folder) == Outcome(1, "", f"gateway: {folder}: File name too long\n")


@pytest.mark.parametrize("line", ["keys", "keys generate", "keys generate --bits 1024 x", "keys show", "keys unknown"])
def test_wrong_usage_is_2(command: Command, line: str) -> None:
    assert command(line).code == 2


@pytest.fixture
def configuration(tmp_path: Path, key_files: Path) -> Path:
    file = tmp_path / "gateway.yaml"
    file.write_text(f"""
session:
  forward:
    url: http://127.0.0.1:1/session
    customer_id: {{header: X-Customer-Id}}
alipayplus:
  client_id: T_1
  host: https://alipayplus.example
  signing:
    key_version: "2"
    private_keys:
      "1": {key_files / "other.pem"}
      "2": {key_files / "private.pem"}
  verification:
    public_keys:
      "*": {key_files / "other-public.pem"}
""")
    return file


def test_show_lists_every_key_with_its_use_and_fingerprint(command: Command, configuration: Path, key_files: Path) -> None:
    done = command("keys show -c", configuration)
    assert (done.code, done.err) == (0, "")
    rows = [line.split("  ") for line in done.out.splitlines()]
    cells = [[cell.strip() for cell in row if cell.strip()] for row in rows]
    ours = load_public_key((key_files / "public.pem").read_bytes()).fingerprint
    theirs = load_public_key((key_files / "other-public.pem").read_bytes()).fingerprint
    assert cells == [
        ["use", "version", "bits", "fingerprint (SHA-256)", "file"],
        ["signing (ready)", "1", "2048", theirs, str(key_files / "other.pem")],
        ["signing (active)", "2", "2048", ours, str(key_files / "private.pem")],
        ["verification", "*", "2048", theirs, str(key_files / "other-public.pem")],
    ]


def test_show_says_which_key_cannot_be_read(command: Command, configuration: Path, tmp_path: Path, key_files: Path) -> None:
    (tmp_path / "empty").write_text("")
    text = (
        configuration.read_text().replace(str(key_files / "other.pem"), "missing.pem").replace(str(key_files / "other-public.pem"), "empty")
    )
    configuration.write_text(text)
    done = command("keys show -c", configuration)
    assert done.code == 1
    assert "can't be read: No such file or directory" in done.out
    assert "not a public key" in done.out


def test_show_lists_the_faults_of_a_configuration_that_is_not_valid(command: Command, configuration: Path) -> None:
    configuration.write_text(configuration.read_text().replace('key_version: "2"', 'key_version: "3"'))
    done = command("keys show -c", configuration)
    assert (done.code, done.out) == (3, "")
    assert "alipayplus.signing.key_version" in done.err


def test_show_of_a_missing_file_is_3(command: Command, tmp_path: Path) -> None:
    assert command("keys show -c", tmp_path / "missing.yaml").code == 3
