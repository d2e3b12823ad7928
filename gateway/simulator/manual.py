"""What `gateway simulate --help` says of scripts: the docstrings and fields of what they are made of, so that it can't go out of date."""

import inspect
from typing import Any, Literal, get_args, get_origin

from msgspec import structs

from gateway.simulator import auth, control, mpp
from gateway.simulator.auth import Login
from gateway.simulator.behaviour import Behaviour
from gateway.simulator.delivery import Delivery, Headers


def text() -> str:
    """Give the documentation of scripts: the docstrings and the fields of what they are made of."""
    parts = (
        ("LOGINS", inspect.getdoc(auth), ()),
        ("MPP API", inspect.getdoc(mpp), ()),
        ("SCRIPTS AND RECORDS", inspect.getdoc(control), ()),
        ("ALIPAY+", inspect.getdoc(Behaviour), _fields(Behaviour)),
        ("AUTH SERVICE", inspect.getdoc(Login), _fields(Login)),
        ("DELIVERY, fields of either", inspect.getdoc(Delivery), _fields(Delivery)),
    )
    return "\n\n".join("\n".join((title, "", meaning or "", *([""] if fields else []), *fields)) for title, meaning, fields in parts)


def _fields(kind: type[Delivery]) -> tuple[str, ...]:
    """Give a line for each field that a script may have, the inherited ones left out."""
    inherited = {field.name for base in kind.__bases__ if issubclass(base, Delivery) for field in structs.fields(base)}
    shown = (field for field in structs.fields(kind) if field.name not in inherited)
    return tuple(f"  {field.name:<18}{_values(field.type)}" for field in shown)


def _values(kind: Any) -> str:
    if kind == Headers:
        return "[[name, value], ...]"
    if get_origin(kind) is Literal:
        return " | ".join(get_args(kind))
    if get_origin(kind) is tuple:
        return f"[{_values(get_args(kind)[0])}, ...]"
    if get_args(kind):
        return _values(get_args(kind)[0])
    return {str: "text", bytes: "text in base64", bool: "true | false", float: "seconds", int: "number"}[kind]
