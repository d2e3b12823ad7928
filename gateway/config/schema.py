"""The JSON Schema (draft 2020-12) of the configuration file, made from the model, for editors and for checks before a rollout.

It knows each key by itself; the rules between keys are known to `gateway check` only.
"""

from pathlib import Path
from typing import Any, Final, Literal

from gateway.config.listener import Listener
from gateway.config.model import Config
from gateway.config.rules import Bounds, Keys, NotEmpty, OneOrMany, Shorthand, Text
from gateway.config.shape import Key, Shape, keys_of, shape_of
from gateway.config.values import Address, Duration, Share, Size, Workers
from gateway.config.written import plain

Schema = dict[str, Any]

_SUBSTITUTED: Final = r"\$\{(?:env|file):"  # any text may come from elsewhere
_ESCAPED: Final = r"\$\$\{"


def schema() -> Schema:
    """Return the schema of the whole file."""
    definitions: dict[str, Schema] = {}
    root = _section(shape_of(Config), definitions)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "alipayplus-gateway configuration",
        **definitions.pop(root["$ref"].rpartition("/")[2]),
        "$defs": dict(sorted(definitions.items())),
    }


def _of(shape: Shape, definitions: dict[str, Schema]) -> Schema:
    if shape.is_section:
        return _section(shape, definitions)
    if shape.kind is tuple:
        return _list(shape, definitions)
    if shape.is_mapping:
        return _mapping(shape, definitions)
    return _scalar(shape)


def _section(shape: Shape, definitions: dict[str, Schema]) -> Schema:
    name = shape.kind.__name__
    if name not in definitions:
        definitions[name] = {}  # holds the place
        keys = keys_of(shape.kind)
        definitions[name] = {
            "description": shape.kind.__doc__,
            "type": "object",
            "additionalProperties": False,
            "required": [key.name for key in keys if key.required],
            "properties": {key.name: _key(key, definitions) for key in keys},
        }
    reference = {"$ref": f"#/$defs/{name}"}
    shorthand = shape.rule(Shorthand)
    if shorthand is None:
        return reference
    short = next(key.shape for key in keys_of(shape.kind) if key.name == shorthand.key)
    return {"anyOf": [_scalar(short), reference]}


def _key(key: Key, definitions: dict[str, Schema]) -> Schema:
    schema = _of(key.shape, definitions)
    if key.shape.is_container and not key.required:
        schema = {"anyOf": [schema, {"type": "null"}]}  # an empty section counts as absent
    default = {} if key.required or _says_itself(key) else {"default": plain(key.default)}
    return {"description": key.meaning, **schema, **default}


def _says_itself(key: Key) -> bool:
    """Whether the default needs no word: absent, or a section whose keys have their own defaults."""
    if key.default is None or key.default == {}:
        return True
    return key.shape.is_section and not any(inner.required for inner in keys_of(key.shape.kind)) and key.default == key.shape.kind()


def _list(shape: Shape, definitions: dict[str, Schema]) -> Schema:
    element = _of(shape_of(shape.args[0]), definitions)
    least = {"minItems": 1} if shape.has(NotEmpty) or shape.has(OneOrMany) else {}
    schema = {"type": "array", "items": element, **least}
    return {"anyOf": [element, schema]} if shape.has(OneOrMany) else schema


def _mapping(shape: Shape, definitions: dict[str, Schema]) -> Schema:
    rule = shape.rule(Keys)
    names = {"propertyNames": {"pattern": f"^(?:{rule.rule.pattern})$"}} if rule else {}
    least = {"minProperties": 1} if shape.has(NotEmpty) else {}
    return {"type": "object", **names, **least, "additionalProperties": _of(shape_of(shape.args[1]), definitions)}


def _scalar(shape: Shape) -> Schema:
    bounds = shape.rule(Bounds)
    if shape.kind is bool:
        return {"type": "boolean"}
    if shape.kind is int:
        return {"type": "integer", **({"minimum": bounds.least, "maximum": bounds.most} if bounds else {})}
    if shape.kind is Literal:
        return {"anyOf": [{"enum": list(shape.args)}, _text(None) | {"pattern": _SUBSTITUTED}]}
    if shape.kind is Share:
        return {"anyOf": [{"type": "number", "minimum": 0, "maximum": 1}, _text(Share.SMALL)]}
    if shape.kind is Workers:
        return {"anyOf": [{"type": "integer", "minimum": 1, "maximum": Workers.MOST}, _text("auto")]}
    return _text(_pattern(shape))


def _text(pattern: str | None) -> Schema:
    return {"type": "string", **({"pattern": f"^(?:{pattern})$|{_SUBSTITUTED}|{_ESCAPED}"} if pattern else {"minLength": 1})}


def _pattern(shape: Shape) -> str | None:
    bounds, rule = shape.rule(Bounds), shape.rule(Text)
    if shape.kind in {Duration, Size}:
        positive: str = shape.kind.POSITIVE if bounds and bounds.least > 0 else shape.kind.PATTERN
        return positive
    if shape.kind in {Address, Listener}:
        pattern: str = shape.kind.PATTERN
        return pattern
    return rule.pattern if rule and shape.kind in {str, Path} else None
