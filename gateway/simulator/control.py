"""The script and the record of a peer over HTTP, below `/_simulator` of the peer's own address.

POST   /_simulator/script[?times=N|always]   one behaviour as a JSON object, or a list of them; added to what is scripted
GET    /_simulator/script                    what is answered next: {"default": {...}, "queue": [...]}
DELETE /_simulator/script                    forget it
POST   /_simulator/release                   let every held answer go
GET    /_simulator/received                  {"count": N, "received": [...]}, oldest first
DELETE /_simulator/received                  forget it
"""

import re
from base64 import b64encode
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs

import msgspec

from gateway.simulator.delivery import Answer
from gateway.simulator.wire import Request

if TYPE_CHECKING:
    from gateway.simulator.peer import Peer, Received

PREFIX: Final = "/_simulator/"
ALWAYS: Final = "always"
MOST: Final = 999_999
"""How many behaviours can be scripted at once."""

_JSON: Final = (("content-type", "application/json"),)


class _Wrong(ValueError):
    """The request for the control is not understood; the text says what would be right."""


def is_meant(request: Request) -> bool:
    """Tell whether a request is for the control and not for the simulated peer."""
    return request.target.startswith(PREFIX)


def answer(request: Request, peer: "Peer[Any]") -> Answer:
    """Carry out what a request asks of the control."""
    try:
        document = _carry_out(request, peer)
    except (_Wrong, msgspec.DecodeError) as error:
        return _reply(400, {"error": str(error)})
    except UnicodeDecodeError:
        return _reply(400, {"error": "not UTF-8"})
    return _reply(200, document)


def _carry_out(request: Request, peer: "Peer[Any]") -> object:
    match request.method, request.path.removeprefix(PREFIX):
        case "POST", "script":
            return _add(request, peer)
        case "GET", "script":
            return {"default": peer.scripted.default, "queue": list(peer.scripted.queue)}
        case "DELETE", "script":
            peer.scripted.reset()
            return {}
        case "POST", "release":
            peer.release()
            return {}
        case "GET", "received":
            return {"count": peer.count, "received": [_shown(entry) for entry in peer.received]}
        case "DELETE", "received":
            peer.forget()
            return {}
    raise _Wrong("write POST, GET or DELETE /_simulator/script, POST /_simulator/release, GET or DELETE /_simulator/received")


def _add(request: Request, peer: "Peer[Any]") -> object:
    times = _times(request)
    behaviours = peer.behaviours(request.body)
    if times is None and len(behaviours) != 1:
        raise _Wrong(f"times={ALWAYS} takes one behaviour")
    if len(behaviours) * (times or 1) > MOST:
        raise _Wrong(f"at most {MOST} behaviours can be scripted at once")
    peer.script(*behaviours, times=times)
    return {"scripted": len(behaviours)}


def _times(request: Request) -> int | None:
    query = parse_qs(request.target.partition("?")[2], keep_blank_values=True)
    match query.pop("times", ["1"]):
        case [text] if not query and text == ALWAYS:
            return None
        case [text] if not query and re.fullmatch("[1-9][0-9]{0,5}", text):
            return int(text)
    raise _Wrong(f"times is a number of up to six digits, or {ALWAYS}, and nothing else can be asked")


def _shown(entry: "Received") -> dict[str, object]:
    document = msgspec.structs.asdict(entry) | {"body_base64": b64encode(entry.body).decode()}
    try:
        return document | {"body": entry.body.decode()}
    except UnicodeDecodeError:
        return document | {"body": None}


def _reply(status: int, document: object) -> Answer:
    return Answer(status, _JSON, msgspec.json.encode(document) + b"\n")
