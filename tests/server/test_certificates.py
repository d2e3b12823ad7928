from pathlib import Path
from time import time
from typing import Any

from gateway.config import Config, load
from gateway.server.certificates import expiries
from gateway.server.copies import read_files
from gateway.simulator import Ports
from gateway.simulator.configuration import render
from tests.upstream.certificates import Authority

DAY = 86_400


def config_with(tmp_path: Path, tls: dict[str, Any]) -> Config:
    path = tmp_path / "gateway.yaml"
    path.write_text(render(Ports(), {"alipayplus": {"tls": {"ca": None, **tls}}}))
    return load(path).config


def days_left(config: Config, *files: Path) -> dict[str, int]:
    return {file: round((end - time()) / DAY) for file, end in expiries(config, read_files(files)).items()}


def test_E7_of_a_chain_the_first_and_of_a_bundle_the_last_to_end_counts(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "ca")
    short, long = authority.issue("short", days=10), authority.issue("long", days=100)
    chain, bundle = tmp_path / "chain.crt", tmp_path / "bundle.pem"
    for file in (chain, bundle):
        file.write_bytes(long.certificate.read_bytes() + short.certificate.read_bytes())
    config = config_with(tmp_path, {"ca": str(bundle), "certificate": str(chain), "private_key": str(long.private_key)})
    assert days_left(config, chain, bundle, long.private_key) == {str(bundle): 100, str(chain): 10}


def test_E7_every_certificate_that_the_configuration_names_is_there(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "ca")
    places = ("server", "alipayplus", "session", "wallet")
    pairs = {place: authority.issue(place, days=10 * number) for number, place in enumerate(places, 1)}
    bundles = {place: tmp_path / f"{place}-ca.pem" for place in places}
    for file in bundles.values():
        file.write_bytes(pairs["wallet"].certificate.read_bytes())

    def tls(place: str, ca: str = "ca") -> dict[str, Any]:
        return {ca: str(bundles[place]), "certificate": str(pairs[place].certificate), "private_key": str(pairs[place].private_key)}

    path = tmp_path / "gateway.yaml"
    changes = {
        "server": {"tls": tls("server", "client_ca")},
        "alipayplus": {"tls": tls("alipayplus")},
        "session": {"forward": {"url": "https://127.0.0.1/session", "tls": tls("session")}},
        "api": {"upstreams": {"wallet": {"servers": "https://127.0.0.1", "tls": tls("wallet")}}},
    }
    path.write_text(render(Ports(), changes))
    left = days_left(load(path).config, *bundles.values(), *(pair.certificate for pair in pairs.values()))
    assert left == {
        **{str(pairs[place].certificate): 10 * number for number, place in enumerate(places, 1)},
        **{str(file): 40 for file in bundles.values()},
    }


def test_E7_what_holds_no_certificate_has_no_end(tmp_path: Path) -> None:
    junk = tmp_path / "junk.pem"
    junk.write_bytes(b"junk")
    assert days_left(config_with(tmp_path, {"ca": str(junk)}), junk) == {}
    assert days_left(config_with(tmp_path, {"ca": "none.pem"})) == {}
