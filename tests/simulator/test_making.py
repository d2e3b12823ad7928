"""The keys that a configuration names and that are missing."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from gateway.config import Alipayplus, load
from gateway.simulator.configuration import DEFAULT_PORTS, render
from gateway.simulator.keys import private_beside
from gateway.simulator.making import make_missing
from gateway.simulator.playing import CannotPlay, setup_for


def named(directory: Path, changes: Mapping[str, Any] | None = None) -> Alipayplus:
    path = directory / "gateway.yaml"
    path.write_text(render(DEFAULT_PORTS, changes))
    return load(path).config.alipayplus


def test_what_is_made_can_be_played_and_only_the_owner_may_read_the_private_halves(tmp_path: Path) -> None:
    made = make_missing(named(tmp_path))
    assert [str(file.relative_to(tmp_path)) for file in made] == ["keys/mpp-1.pem", "keys/alipayplus-1.pem", "tls/ca.pem"]
    setup_for(load(tmp_path / "gateway.yaml").config)
    for private in ("keys/mpp-1.pem", "keys/alipayplus-1.private.pem", "tls/ca.private.pem"):
        assert (tmp_path / private).stat().st_mode & 0o777 == 0o600


def test_what_is_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "mpp-1.pem").write_text("mine")
    assert tmp_path / "keys" / "mpp-1.pem" not in make_missing(named(tmp_path))
    assert (tmp_path / "keys" / "mpp-1.pem").read_text() == "mine"
    assert make_missing(named(tmp_path)) == ()


@pytest.mark.parametrize("public", ["keys/alipayplus-1.pem", "tls/ca.pem"])
def test_a_private_mate_that_is_there_is_left_alone(tmp_path: Path, public: str) -> None:
    mate = private_beside(tmp_path / public)
    mate.parent.mkdir()
    mate.write_text("mine")
    with pytest.raises(CannotPlay, match=f"{mate.name}: is there already, without {Path(public).name}"):
        make_missing(named(tmp_path))
    assert mate.read_text() == "mine"


def test_an_encrypted_key_is_not_made(tmp_path: Path) -> None:
    signing = {"private_keys": {"1": {"file": "keys/mpp-1.pem", "password": "x"}}}
    with pytest.raises(CannotPlay, match="encrypted"):
        make_missing(named(tmp_path, {"alipayplus": {"signing": signing}}))


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("a file")
    with pytest.raises(CannotPlay, match="keys"):
        make_missing(named(tmp_path))
