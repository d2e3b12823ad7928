"""From the YAML tree to the model: sections, lists and mappings; every fault noted with its place.

An empty section (`tls:`) counts as absent, so that all of its keys may be commented out. Single values are read by
`gateway.config.scalar`; rules between keys are left to `gateway.config.checks`.
"""

import difflib
import json
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import yaml

from gateway.config.draft import INVALID
from gateway.config.faults import Fault, KeyPath
from gateway.config.model import Config
from gateway.config.rules import Distinct, Keys, NotEmpty, OneOrMany, Shorthand
from gateway.config.scalar import NULL, TEXT, YAML, Wrong, read_scalar
from gateway.config.shape import Key, Shape, keys_of, shape_of
from gateway.config.source import ALIAS
from gateway.config.substitution import resolve

_SUBSTITUTED: Final = "${...} counts in values only: write it out"
_KNOWN_TAGS: Final = frozenset(YAML + name for name in ("str", "null", "bool", "int", "float", "timestamp", "merge", "value", "map", "seq"))


class Converter:
    """Reads one tree. Afterwards `faults` holds what is wrong, and `line` knows where each key stands."""

    def __init__(self, directory: Path, environ: Mapping[str, str]) -> None:
        self.faults: list[Fault] = []
        self._directory = directory
        self._resolve = partial(resolve, directory=directory, environ=environ)
        self._lines: dict[KeyPath, int] = {}

    def convert(self, root: yaml.MappingNode) -> Config:
        """Read the whole file. With faults, the result is a draft: INVALID stands where a value could not be read."""
        config: Config = self._value(root, shape_of(Config), ())
        return config

    def line(self, path: KeyPath) -> int | None:
        """Tell the line of this key, or of the nearest section around it."""
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines.get(path)

    def _fault(self, path: KeyPath, message: str, line: int | None = None) -> Any:
        self.faults.append(Fault(path, message, line=line or self.line(path)))
        return INVALID

    def _value(self, node: yaml.Node, shape: Shape, path: KeyPath) -> Any:
        self._lines.setdefault(path, node.start_mark.line + 1)
        if node.tag == ALIAS:
            return self._fault(path, "aliases (*name) are not supported: write the value out, or in quotes where it is a text")
        if node.tag not in _KNOWN_TAGS:
            return self._fault(path, "tags (!name) are not supported: leave it out, or write quotes where it is a text")
        if shape.is_section:
            return self._section(node, shape, path)
        if shape.kind is tuple:
            return self._list(node, shape, path)
        if shape.is_mapping:
            return self._mapping(node, shape, path)
        return self._scalar(node, shape, path)

    def _scalar(self, node: yaml.Node, shape: Shape, path: KeyPath) -> Any:
        if not isinstance(node, yaml.ScalarNode):
            return self._fault(path, "a list or keys stand here: write a single value")
        try:
            return read_scalar(node, shape, self._directory, self._resolve)
        except Wrong as wrong:
            for message in wrong.messages:
                self._fault(path, message)
            return INVALID

    def _section(self, node: yaml.Node, shape: Shape, path: KeyPath) -> Any:
        keys = keys_of(shape.kind)
        shorthand = shape.rule(Shorthand)
        if shorthand and isinstance(node, yaml.ScalarNode):
            shape_of_key = next(key.shape for key in keys if key.name == shorthand.key)
            return shape.kind(**{shorthand.key: self._value(node, shape_of_key, path)})
        if not isinstance(node, yaml.MappingNode):
            return self._fault(path, f"not a section: write keys below it: {', '.join(key.name for key in keys)}")
        entries = dict(self._entries(node, path))
        for name in entries.keys() - {key.name for key in keys}:
            self._unknown((*path, name), keys)
        return shape.kind(**{key.name: self._key(entries.get(key.name), key, (*path, key.name)) for key in keys})

    def _key(self, node: yaml.Node | None, key: Key, path: KeyPath) -> Any:
        if node is not None and not (node.tag == NULL and key.shape.is_container):
            return self._value(node, key.shape, path)
        if key.required:
            return self._fault(path, f"required: {key.meaning}")
        return key.default

    def _unknown(self, path: KeyPath, keys: tuple[Key, ...]) -> None:
        names = [key.name for key in keys]
        near = difflib.get_close_matches(str(path[-1]).lower(), names, n=1)
        self._fault(path, f"unknown key: did you mean {near[0]}?" if near else f"unknown key: here stand {', '.join(names)}")

    def _mapping(self, node: yaml.Node, shape: Shape, path: KeyPath) -> Any:
        if not isinstance(node, yaml.MappingNode):
            return self._fault(path, "not a section: write keys below it, each with its value")
        rule = shape.rule(Keys)
        entries = dict(self._entries(node, path, ignore_case=bool(rule and rule.ignore_case)))
        if not node.value and shape.has(NotEmpty):
            return self._fault(path, "empty: write at least one key below it")
        for name in entries:
            complaint = _SUBSTITUTED if "${" in name else rule.rule.complaint(name) if rule else None
            if complaint:
                self._fault((*path, name), f"this key: {complaint}")
        values = {name: self._value(value, shape_of(shape.args[1]), (*path, name)) for name, value in entries.items()}
        return values if len(values) == len(node.value) else INVALID  # which others there are is not known

    def _list(self, node: yaml.Node, shape: Shape, path: KeyPath) -> Any:
        element = shape_of(shape.args[0])
        if shape.has(OneOrMany) and isinstance(node, yaml.ScalarNode):
            return (self._value(node, element, path),)
        if not isinstance(node, yaml.SequenceNode):
            plain = isinstance(node, yaml.ScalarNode) and node.tag == TEXT and node.value.isprintable()
            return self._fault(path, f"not a list: write [{node.value}]" if plain else "not a list: write [a, b] or one element a line")
        if not node.value and (shape.has(NotEmpty) or shape.has(OneOrMany)):
            return self._fault(path, "empty: write at least one element")
        values = tuple(self._value(item, element, (*path, index)) for index, item in enumerate(node.value))
        self._distinct(values, shape, path)
        return values if element.is_section or all(value is not INVALID for value in values) else INVALID

    def _distinct(self, values: tuple[Any, ...], shape: Shape, path: KeyPath) -> None:
        rule = shape.rule(Distinct)
        seen: set[str] = set()
        for index, value in enumerate(values):
            if rule is None or value is INVALID:
                continue
            text = str(value).lower() if rule.ignore_case else str(value)
            if text in seen:
                self._fault((*path, index), "stands twice in this list: keep one")
            seen.add(text)

    def _entries(self, node: yaml.MappingNode, path: KeyPath, *, ignore_case: bool = False) -> Iterator[tuple[str, yaml.Node]]:
        """Give each key once, with its value; note keys that are not text or stand twice."""
        seen: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode) or key.tag != TEXT:
                self._fault(path, _key_as_text(key), line)
                continue
            name = key.value.lower() if ignore_case else key.value
            if name in seen:
                self._fault((*path, key.value), f"stands twice, first on line {seen[name]}: keep one", line)
            else:
                seen[name] = self._lines[(*path, key.value)] = line
                yield key.value, value


def _key_as_text(key: yaml.Node) -> str:
    if not isinstance(key, yaml.ScalarNode) or key.tag == ALIAS or key.tag not in _KNOWN_TAGS:
        return "a key is a plain text: no list, keys, alias or tag"
    if key.tag == f"{YAML}merge":
        return "merge keys (<<) are not supported: write the keys out"
    return f"YAML does not read this key as text: write {json.dumps(key.value)}"
