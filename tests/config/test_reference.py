"""conf/gateway.yaml names every key of the model, rightly as required, default or example, with the model's defaults."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from msgspec import Struct

from gateway.config import Config, ConfigError, load
from gateway.config.convert import Converter
from gateway.config.faults import KeyPath, dotted
from gateway.config.shape import Key, keys_of, shape_of

REFERENCE = Path(__file__).parents[2] / "conf" / "gateway.yaml"


def _uncommented() -> str:
    """Give the reference with its commented keys made active: those whose # stands right before the key."""
    return re.sub(r'^( *)#(?=["A-Za-z-])', r"\1", REFERENCE.read_text(), flags=re.MULTILINE)


def _places(node: yaml.Node, path: KeyPath = ()) -> Iterator[tuple[KeyPath, int, yaml.Node]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield (*path, key.value), key.start_mark.line, value
            yield from _places(value, (*path, key.value))
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield from _places(value, (*path, index))


def _model(section: type[Struct], path: KeyPath = ()) -> Iterator[tuple[KeyPath, Key]]:
    for key in keys_of(section):
        yield (*path, key.name), key
        if key.shape.is_section:
            yield from _model(key.shape.kind, (*path, key.name))
        elif key.shape.args and shape_of(key.shape.args[-1 if key.shape.is_mapping else 0]).is_section:
            yield from _model(shape_of(key.shape.args[-1 if key.shape.is_mapping else 0]).kind, (*path, key.name, "*"))


ROOT = yaml.compose(_uncommented(), Loader=yaml.SafeLoader)
assert ROOT is not None
PLACES = {place: (line, node) for place, line, node in _places(ROOT)}
KEYS = dict(_model(Config))


def _find(path: KeyPath) -> tuple[str, yaml.Node]:
    """Find a key of the model in the file; below a mapping or list, any will do. Give its comment and its value."""
    pattern = re.compile("\0".join("[^\0]+" if part == "*" else re.escape(str(part)) for part in path))
    line, node = next(found for place, found in PLACES.items() if pattern.fullmatch("\0".join(map(str, place))))
    return _uncommented().splitlines()[line].partition(" # ")[2], node


@pytest.mark.parametrize("path", KEYS, ids=dotted)
def test_every_key_stands_in_the_reference_under_its_right_word(path: KeyPath) -> None:
    key = KEYS[path]
    word = "required" if key.required else "example" if key.default is None or key.default == {} else "default"
    assert _find(path)[0].startswith(word)


@pytest.mark.parametrize(
    "path", [path for path, key in KEYS.items() if not (key.required or key.default is None or key.shape.is_container)], ids=dotted
)
def test_the_defaults_are_the_models(path: KeyPath) -> None:
    _, node = _find(path)
    converter = Converter(Path("/"), {})
    assert converter._value(node, KEYS[path].shape, ()) == KEYS[path].default
    assert converter.faults == []


def test_no_other_key_stands_in_the_reference(tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    for name in ("introspection", "customer-hash"):
        (tmp_path / "secrets" / name).write_text("s\n")
    file = tmp_path / "gateway.yaml"
    file.write_text(_uncommented())
    with pytest.raises(ConfigError) as caught:
        load(file, environ={"MPP_KEY_PASSWORD": "p"})
    assert {dotted(fault.path) for fault in caught.value.faults if not fault.warning} == {
        "session",
        "session.forward.customer_id",
        "session.introspection.customer_id",
    }, "only that exactly one of two is to be written"


def test_the_reference_loads() -> None:
    assert load(REFERENCE).warnings == ()
