"""`gateway keys rotate`: the next pair, the proof that both keys work, what people are told, and what is refused."""

import os
import resource
import stat
from pathlib import Path

import pytest

from gateway.alipayplus.keys import generate_private_key, load_private_key, load_public_key, private_pem
from gateway.config import load
from tests.commands.conftest import Command

TEXT = """
session:
  forward:
    url: http://127.0.0.1:1/session
    customer_id: {{header: X-Customer-Id}}
alipayplus:
  client_id: T_1
  host: https://alipayplus.example
  signing:
    key_version: "{version}"
    private_keys:
      "{version}": {key}
  verification:
    public_keys:
      "*": {theirs}
"""


@pytest.fixture
def folder(tmp_path: Path, key_files: Path) -> Path:
    """Give a folder with gateway.yaml and keys/active.pem."""
    (tmp_path / "keys").mkdir()
    active = tmp_path / "keys" / "active.pem"
    active.write_bytes((key_files / "private.pem").read_bytes())
    active.chmod(0o600)
    write(tmp_path, key_files, "keys/active.pem")
    return tmp_path


def write(folder: Path, key_files: Path, key: str, version: str = "1") -> None:
    (folder / "gateway.yaml").write_text(TEXT.format(version=version, key=key, theirs=key_files / "other-public.pem"))


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in (folder / "keys").iterdir())


def test_the_next_pair_belongs_together_and_nothing_else_changes(command: Command, folder: Path) -> None:
    before = (folder / "gateway.yaml").read_bytes(), (folder / "keys" / "active.pem").read_bytes()
    done = command("keys rotate -c", folder / "gateway.yaml")
    assert (done.code, done.err) == (0, "")
    assert names(folder) == ["active.pem", "mpp-2-private.pem", "mpp-2-public.pem", "mpp-2-public.txt"]
    key = load_private_key((folder / "keys" / "mpp-2-private.pem").read_bytes(), None, "2")
    assert load_public_key((folder / "keys" / "mpp-2-public.pem").read_bytes()) == key.public
    assert load_public_key((folder / "keys" / "mpp-2-public.txt").read_bytes()) == key.public
    assert stat.S_IMODE((folder / "keys" / "mpp-2-private.pem").stat().st_mode) == 0o600
    assert key.public.fingerprint in done.out
    assert "PRIVATE KEY" not in done.out
    assert ((folder / "gateway.yaml").read_bytes(), (folder / "keys" / "active.pem").read_bytes()) == before


def test_both_keys_are_proved_and_the_steps_are_told(command: Command, folder: Path) -> None:
    out = command("keys rotate -c", folder / "gateway.yaml").out
    assert 'version "1" (active) signs and verifies; version "2" (next) signs and verifies' in out
    assert '"2": keys/mpp-2-private.pem' in out
    assert 'key_version: "2"' in out
    assert "a former generation has ended" in out


def test_whoever_has_a_pid_file_is_told_to_reload(command: Command, folder: Path) -> None:
    file = folder / "gateway.yaml"
    assert "gateway reload" not in command("keys rotate -c", file).out
    file.write_text(f"{file.read_text()}\nserver: {{pid_file: gateway.pid}}\n")
    assert f"gateway check -c {file} && gateway reload -c {file}" in command("keys rotate --version 3 -c", file).out


@pytest.mark.parametrize("switched", [False, True])
def test_what_it_says_is_a_valid_configuration_before_and_after_the_switch(command: Command, folder: Path, *, switched: bool) -> None:
    command("keys rotate -c", folder / "gateway.yaml")
    file = folder / "gateway.yaml"
    text = file.read_text().replace('"1": keys/active.pem', '"1": keys/active.pem\n      "2": keys/mpp-2-private.pem')
    file.write_text(text.replace('key_version: "1"', 'key_version: "2"') if switched else text)
    assert command("check -c", file).code == 0
    assert list(load(file).config.alipayplus.signing.private_keys) == ["1", "2"]


def test_an_encrypted_key_is_followed_by_one_with_the_same_password(command: Command, folder: Path, key_files: Path) -> None:
    (folder / "keys" / "active.pem").write_bytes(private_pem(generate_private_key(), "sesame"))
    write(folder, key_files, "{file: keys/active.pem, password: sesame}")
    done = command("keys rotate -c", folder / "gateway.yaml")
    assert done.code == 0
    content = (folder / "keys" / "mpp-2-private.pem").read_bytes()
    assert content.startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
    load_private_key(content, "sesame", "2")
    assert "sesame" not in done.out


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_the_next_key_is_for_those_who_may_read_the_present_one(command: Command, folder: Path, umask: int) -> None:
    owner, group = (12345, 23456) if os.geteuid() == 0 else (os.geteuid(), os.getegid())
    os.chown(folder / "keys" / "active.pem", owner, group)
    (folder / "keys" / "active.pem").chmod(0o640)
    before = os.umask(umask)
    try:
        command("keys rotate -c", folder / "gateway.yaml")
    finally:
        os.umask(before)
    made = (folder / "keys" / "mpp-2-private.pem").stat()
    assert (stat.S_IMODE(made.st_mode), made.st_uid, made.st_gid) == (0o640, owner, group)


def test_version_size_and_directory_can_be_named(command: Command, folder: Path) -> None:
    (folder / "next").mkdir()
    done = command("keys rotate --version b --bits 3072 --directory", folder / "next", "-c", folder / "gateway.yaml")
    assert done.code == 0
    assert load_public_key((folder / "next" / "mpp-b-public.pem").read_bytes()).bits == 3072


@pytest.mark.parametrize("name", ["mpp-2-private.pem", "mpp-2-public.pem", "mpp-2-public.txt"])
def test_no_file_is_overwritten_and_none_is_left_behind(command: Command, folder: Path, name: str) -> None:
    (folder / "keys" / name).symlink_to(folder / "nowhere")
    done = command("keys rotate -c", folder / "gateway.yaml")
    assert (done.code, done.out) == (1, "")
    exists = "exists already and is not overwritten: go on with what was said when it was made, or name another --version"
    assert done.err == f"gateway: {folder / 'keys' / name} {exists}\n"
    assert names(folder) == ["active.pem", name]
    assert not (folder / "nowhere").exists()


def test_a_disk_without_room_is_one_clear_line_and_nothing_is_left_behind(command: Command, folder: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        done = command("keys rotate -c", folder / "gateway.yaml")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (done.code, done.out) == (1, "")
    assert done.err == f"gateway: {folder / 'keys'} can't be used: File too large\n"
    assert names(folder) == ["active.pem"]


def test_an_active_key_that_cannot_be_read_is_said_and_nothing_is_written(command: Command, folder: Path) -> None:
    (folder / "keys" / "active.pem").write_text("no key")
    done = command("keys rotate -c", folder / "gateway.yaml")
    assert done.code == 1
    assert done.err.startswith("gateway: the active key: ")
    assert names(folder) == ["active.pem"]


def test_a_directory_that_is_not_there_is_one_clear_line(command: Command, folder: Path) -> None:
    done = command("keys rotate --directory", folder / "gone", "-c", folder / "gateway.yaml")
    assert done.code == 1
    assert done.err == f"gateway: {folder / 'gone' / 'mpp-2-private.pem'} can't be used: No such file or directory\n"


def test_versions_that_are_no_numbers_need_a_named_one(command: Command, folder: Path, key_files: Path) -> None:
    write(folder, key_files, "keys/active.pem", version="blue")
    done = command("keys rotate -c", folder / "gateway.yaml")
    assert (done.code, done.out) == (2, "")
    assert "--version" in done.err


@pytest.mark.parametrize("version", ["1", "../up", "", "a/b"])
def test_versions_that_cannot_be_taken_are_usage_errors(command: Command, folder: Path, version: str) -> None:
    done = command("keys rotate -c", folder / "gateway.yaml", "--version", version)
    assert (done.code, done.out) == (2, "")
    assert "version" in done.err
    assert names(folder) == ["active.pem"]


def test_a_faulty_configuration_is_3_with_its_faults(command: Command, folder: Path, key_files: Path) -> None:
    (folder / "gateway.yaml").write_text("server: {listn: 1}")
    done = command("keys rotate -c", folder / "gateway.yaml")
    assert (done.code, done.out) == (3, "")
    assert "listn" in done.err
