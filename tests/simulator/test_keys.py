import stat
from pathlib import Path

from gateway.alipayplus.keys import SigningKey, load_private_key, load_public_key
from gateway.simulator import Keys
from gateway.simulator.keys import private_beside, write_private


def test_the_files_hold_the_keys(tmp_path: Path, keys: Keys) -> None:
    keys.write(tmp_path)
    ours = load_private_key((tmp_path / "mpp-1.pem").read_bytes(), None, "1")
    theirs = load_public_key((tmp_path / "alipayplus-1.pem").read_bytes())
    mate = load_private_key((tmp_path / "alipayplus-1.private.pem").read_bytes(), None, "1")
    assert ours == SigningKey.of(keys.mpp, "1")
    assert mate.public == theirs != ours.public


def test_private_keys_are_for_their_owner_only(tmp_path: Path, keys: Keys) -> None:
    keys.write(tmp_path)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes["mpp-1.pem"] == modes["alipayplus-1.private.pem"] == 0o600


def test_a_file_that_others_could_read_is_closed_before_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.touch(mode=0o644)
    write_private(path, b"secret")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_private_mate_lies_beside() -> None:
    assert private_beside(Path("a/key.pem")) == Path("a/key.private.pem")


def test_keys_are_not_shown(keys: Keys) -> None:
    assert repr(keys) == "Keys()"
