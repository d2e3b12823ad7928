import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.alipayplus.keyring import check_keys
from gateway.alipayplus.keys import private_pem
from gateway.config import Config, ConfigError, Fault, load
from gateway.runtime import CHECKS
from gateway.server import copies
from gateway.server.edition import Edition, digests, read_edition, watched_files
from gateway.simulator import Ports
from gateway.simulator.configuration import render
from gateway.simulator.keys import Keys, write_private

CHANGES = {"alipayplus": {"tls": None}, "telemetry": {"log": {"customer_hash_key": "${file:secrets/hash}"}}}


@pytest.fixture
def path(tmp_path: Path, keys: Keys) -> Path:
    (tmp_path / "keys").mkdir()
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "hash").write_text("secret")
    keys.write(tmp_path / "keys")
    path = tmp_path / "gateway.yaml"
    path.write_text(render(Ports(), CHANGES))
    return path


def read(path: Path, kept: Edition | None = None) -> Edition:
    return read_edition(path, (check_keys,), kept=kept.signing_key if kept is not None else None)


def other_key(path: Path, keys: Keys) -> Path:
    file = path.parent / "keys" / "mpp-1.pem"
    write_private(file, private_pem(keys.stranger))
    return file


def test_what_decides_is_watched(path: Path) -> None:
    folder = path.parent
    files = {path, folder / "secrets" / "hash", folder / "keys" / "mpp-1.pem", folder / "keys" / "alipayplus-1.pem"}
    assert set(watched_files(path)) == files
    assert dict(read(path).digests) == digests(files)


def test_a_file_that_is_missing_is_watched_too(path: Path) -> None:
    path.write_text(path.read_text().replace("mpp-1.pem", "none.pem").replace("client_id", "clint_id"))
    assert path.parent / "keys" / "none.pem" in watched_files(path)


def test_of_a_file_that_is_no_YAML_the_file_itself_and_its_sources_are_watched(path: Path) -> None:
    path.write_text("a: [${file:secrets/hash}")
    assert set(watched_files(path)) == {path, path.parent / "secrets" / "hash"}


def test_without_proc_that_is_said_and_not_that_files_are_missing(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies, "FOLDER", tmp_path / "none")
    with pytest.raises(ConfigError) as raised:
        read(path)
    assert [str(fault) for fault in raised.value.faults] == [
        f"{path}: /proc is not mounted here, and the gateway reads its copies of keys and certificates there: mount it"
    ]


def test_E5_a_pipe_is_refused_and_nobody_waits_for_it(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ConfigError, match=rf"^{path}: the configuration is read again at each reload, which a pipe does not give"):
        read(path)
    assert watched_files(path) == (path,)


def test_E5_what_is_checked_is_what_is_used(path: Path, keys: Keys) -> None:
    def change_then_check(config: Config) -> Iterator[Fault]:
        other_key(path, keys)
        yield from check_keys(config)

    edition = read_edition(path, (change_then_check,))
    assert edition.signing_key.content == private_pem(keys.mpp)
    assert edition.digests != digests(edition.digests), "the change is still to be noticed"


def test_the_faults_of_checks_have_their_lines(path: Path) -> None:
    (path.parent / "keys" / "mpp-1.pem").write_text("junk")
    with pytest.raises(ConfigError) as caught:
        read(path)
    [fault] = caught.value.faults
    assert (fault.file, bool(fault.line)) == (path, True)


@pytest.mark.parametrize(
    ("text", "unread"), [("key_version: '1'", "key_version: ${env:NONE}"), ("'1': keys/mpp-1.pem", "1: keys/mpp-1.pem")]
)
def test_E1_a_start_and_a_reload_tell_all_faults_where_a_value_cannot_be_read(path: Path, text: str, unread: str) -> None:
    kept = read(path).signing_key
    path.write_text(path.read_text().replace(text, unread).replace("/alipayplus-1.pem", "/none.pem").replace("/healthz", "/api"))
    with pytest.raises(ConfigError) as told:
        load(path, CHECKS)
    assert [fault.path[0] for fault in told.value.faults] == ["alipayplus", "alipayplus", "api"]
    for held in (None, kept):
        with pytest.raises(ConfigError) as found:
            read_edition(path, CHECKS, kept=held)
        assert found.value.faults == told.value.faults


def test_the_active_signing_key_stays_until_it_is_asked_for(path: Path, keys: Keys) -> None:
    former = read(path)
    other_key(path, keys)
    kept = read(path, kept=former)
    assert (kept.signing_key, kept.holds_back_key) == (former.signing_key, True)
    taken = read(path)
    assert (taken.signing_key.content, taken.holds_back_key) == (private_pem(keys.stranger), False)


def test_a_kept_key_may_be_broken_or_gone_on_disk(path: Path) -> None:
    former = read(path)
    (path.parent / "keys" / "mpp-1.pem").unlink()
    assert read(path, kept=former).signing_key == former.signing_key
    with pytest.raises(ConfigError):
        read(path)


def test_another_file_or_version_is_another_key(path: Path, keys: Keys) -> None:
    former = read(path)
    write_private(path.parent / "keys" / "mpp-2.pem", private_pem(keys.stranger))
    text = path.read_text()
    path.write_text(text.replace("mpp-1.pem", "mpp-2.pem"))
    assert read(path, kept=former).signing_key.content == private_pem(keys.stranger)
    path.write_text(text.replace("key_version: '1'", "key_version: '2'").replace("'1': keys/mpp-1.pem", "'2': keys/mpp-1.pem"))
    other_key(path, keys)
    edition = read(path, kept=former)
    assert (edition.signing_key.version, edition.signing_key.content) == ("2", private_pem(keys.stranger))


def test_no_key_is_printed(path: Path) -> None:
    edition = read(path)
    assert "PRIVATE" not in repr(edition) + repr(edition.signing_key)
