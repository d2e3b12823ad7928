from pathlib import Path

import yaml

from gateway.simulator.configuration import DEFAULT_PORTS, SOURCE, Ports, demo_yaml, merged, render


def test_the_default_ports_give_the_demo_file_itself() -> None:
    assert render(DEFAULT_PORTS) == demo_yaml() == SOURCE.read_text()


def test_the_demo_file_names_every_port_but_that_of_the_mpp() -> None:
    numbers = (DEFAULT_PORTS.gateway, DEFAULT_PORTS.admin, DEFAULT_PORTS.alipayplus, DEFAULT_PORTS.auth)
    assert all(f"127.0.0.1:{number}" in demo_yaml() for number in numbers)


def test_other_ports_take_the_place_of_the_default_ones() -> None:
    document = yaml.safe_load(render(Ports.from_base(9090)))  # the first is the default of another
    assert document["server"]["listen"] == "127.0.0.1:9090"
    assert document["admin"]["listen"] == "127.0.0.1:9091"
    assert document["alipayplus"]["host"] == "https://127.0.0.1:9092"
    assert document["session"]["forward"]["url"] == "http://127.0.0.1:9093/session"


def test_changes_are_merged() -> None:
    changes = {"session": {"cache": {"ttl": "5s"}, "forward": {"cookies": None}}, "server": {"listen": ["[::1]:1"]}}
    document = yaml.safe_load(render(DEFAULT_PORTS, changes))
    assert document["session"]["cache"] == {"ttl": "5s"}
    assert document["session"]["forward"] == {"url": "http://127.0.0.1:8081/session", "customer_id": {"header": "X-Customer-Id"}}
    assert document["server"]["listen"] == ["[::1]:1"]
    assert document["alipayplus"]["signing"]["key_version"] == "1"


def test_merging_changes_neither() -> None:
    left, right = {"a": {"b": 1}}, {"a": {"c": 2}}
    assert merged(left, right) == {"a": {"b": 1, "c": 2}}
    assert (left, right) == ({"a": {"b": 1}}, {"a": {"c": 2}})


def test_the_package_takes_the_demo_file_along() -> None:
    project = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    assert 'force-include = { "conf/demo.yaml" = "gateway/demo.yaml" }' in project
