"""`gateway call`: one SDK request to a gateway, as the app would send it, and its answer."""

import argparse
import json
import re
import ssl
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, urlsplit

import msgspec

from gateway.commands.input import FAILED, USAGE, UnusableInput, demand_utf8, read, refuse
from gateway.simulator.answers import sample
from gateway.upstream.tls import verifying_context

PATH: Final = "/alipayplus/v1/sdkProxy"
"""Where the SDK's requests go by default (architecture, The app's contract)."""

DEFAULT_SECONDS: Final = 60.0
MOST_SECONDS: Final = 3600.0


class ConnectionLost(Exception):
    """The connection broke after the request, or a part of it, was sent; the text says why."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the gateway answered."""

    status: int
    reason: str
    request_id: str
    body: bytes
    seconds: float

    @property
    def is_success(self) -> bool:
        """Whether it is HTTP 200 and says isSuccess."""
        try:
            answer = json.loads(self.body)
        except (ValueError, RecursionError):
            return False
        return self.status == 200 and isinstance(answer, dict) and answer.get("isSuccess") is True  # noqa: PLR2004 - OK


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `call`."""
    parser = subparsers.add_parser(
        "call",
        help="send one SDK request as the app would",
        description="Send one SDK request to a gateway and print its answer. Exits 0 when the answer says isSuccess, else 1.",
    )
    parser.add_argument("url", metavar="URL", help=f"the gateway; without a path, {PATH} is asked")
    parser.add_argument("file", metavar="FILE", nargs="?", help="the app's JSON body, - for standard input (default: the sample)")
    parser.add_argument("--header", metavar="H", action="append", default=[], help="'Name: value', the login for instance; may be repeated")
    parser.add_argument("--scene", metavar="S", help="put this scene into the body")
    parser.add_argument("--ca", metavar="FILE", help="trust these CAs (PEM) instead of the system's")
    parser.add_argument("--timeout", metavar="SECONDS", type=_seconds, default=DEFAULT_SECONDS, help="for each step (default: %(default)s)")
    parser.set_defaults(func=call)
    _take_file_after_options(parser)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= MOST_SECONDS:
        raise argparse.ArgumentTypeError(f"a number of seconds, more than 0 and at most {MOST_SECONDS:g}")
    return seconds


def _take_file_after_options(parser: argparse.ArgumentParser) -> None:
    """Let `URL --header H FILE` work: until Python 3.12 argparse gives up an optional positional at the first option."""
    plain = parser.parse_known_args

    def parse(args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None) -> tuple[argparse.Namespace, list[str]]:
        known, rest = plain(args, namespace)
        if known.file is None and len(rest) == 1 and (rest[0] == "-" or not rest[0].startswith("-")):
            known.file = rest.pop()
        return known, rest

    parser.parse_known_args = parse  # type: ignore[method-assign,assignment]  # argparse takes no parser class for one sub command


def call(args: argparse.Namespace) -> int:
    """Send the request and print what came: status on standard error, body on standard output."""
    try:
        url = _target(args.url)
        headers = [_header(line) for line in args.header]
        body = _with_scene(sample("app-request") if args.file is None else read(args.file), args.scene)
        context = _context(args.ca)
    except UnusableInput as error:
        return refuse(error, USAGE)
    try:
        answer = send(url, headers, body, context, args.timeout)
    except (OSError, HTTPException, ConnectionLost) as error:
        return refuse(_failure(error, url.netloc, args.timeout), FAILED)
    print(f"HTTP {answer.status} {answer.reason}, {answer.seconds * 1000:.0f} ms, request {answer.request_id}", file=sys.stderr)
    print(answer.body.decode("utf-8", "replace"))
    return 0 if answer.is_success else FAILED


def _failure(error: Exception, place: str, timeout: float) -> str:
    match error:
        case TimeoutError():
            return f"{place} did not answer within {timeout:g} s"
        case ssl.SSLCertVerificationError():
            return f"the certificate of {place} is not trusted: {error.verify_message}"
        case ssl.SSLError():
            return f"no TLS with {place} ({error.reason or error.strerror}): is it http://?"
        case HTTPException():
            return f"{place} answered something that is not HTTP, or cut it off ({type(error).__name__})"
        case OSError():
            return f"no connection to {place}: {error.strerror or error}"
        case _:
            return f"the connection to {place} was lost ({error}): the request may have been executed"


def send(url: SplitResult, headers: Sequence[tuple[str, str]], body: bytes, context: ssl.SSLContext | None, timeout: float) -> Answer:
    """Send one request and read the whole answer; `timeout` in seconds for each step.

    Raises OSError when there is no connection, TimeoutError, ConnectionLost and HTTPException.
    """
    begun = time.monotonic()
    connection = _connection(url, context, timeout)
    try:
        connection.connect()
        response, content = _exchange(connection, url, headers, body)
    finally:
        connection.close()
    request_id = response.headers.get("X-Request-Id", "without an id")
    return Answer(response.status, response.reason, request_id, content, time.monotonic() - begun)


def _exchange(connection: HTTPConnection, url: SplitResult, headers: Sequence[tuple[str, str]], body: bytes) -> tuple[HTTPResponse, bytes]:
    given = {name.lower() for name, _ in headers}
    target = f"{url.path}?{url.query}" if url.query else url.path
    connection.putrequest("POST", target, skip_host="host" in given, skip_accept_encoding=True)
    defaults = (("Content-Type", "application/json"), ("Content-Length", str(len(body))))
    for name, value in (*(default for default in defaults if default[0].lower() not in given), *headers):
        connection.putheader(name, value)
    try:
        with suppress(ConnectionError, ssl.SSLEOFError):  # by a refusal that came before all was sent, and is read
            connection.endheaders(body)
        response = connection.getresponse()
        return response, response.read()
    except (TimeoutError, HTTPException):
        raise
    except OSError as error:
        raise ConnectionLost(error.strerror) from error


def _connection(url: SplitResult, context: ssl.SSLContext | None, timeout: float) -> HTTPConnection:
    if url.scheme == "http":
        return HTTPConnection(url.hostname or "", url.port, timeout=timeout)
    return HTTPSConnection(url.hostname or "", url.port, timeout=timeout, context=context)


def _target(given: str) -> SplitResult:
    try:
        url = urlsplit(given)
        usable = url.scheme in {"http", "https"} and bool((url.hostname or "").encode("idna")) and url.port != 0
    except ValueError:  # a UnicodeError, too: a label of the host that is empty or too long
        usable = False
    if not usable or url.username is not None or not given.isascii() or re.search(r"[\s\x00-\x1f\x7f]", given):
        raise UnusableInput("write the URL as http://host:port/path or https://host/path")
    return url if url.path not in {"", "/"} else url._replace(path=PATH)


def _header(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    # The line is not repeated: it may hold the login.
    if not colon or not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
        raise UnusableInput("write a header as 'Name: value'")
    if re.search(r"[\r\n\0]", value) or any(ord(character) > 0xFF for character in value):  # noqa: PLR2004 - ISO-8859-1
        raise UnusableInput(f"the value of {name} holds characters that no header can hold")
    return name, value.strip(" \t")


def _with_scene(body: bytes, scene: str | None) -> bytes:
    if scene is None:
        return body
    demand_utf8(scene, "--scene")
    try:
        members = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise UnusableInput("--scene needs a body that is a JSON object") from None
    return msgspec.json.encode(members | {"scene": scene})


def _context(ca: str | None) -> ssl.SSLContext:
    try:
        return verifying_context(Path(ca) if ca is not None else None)
    except ssl.SSLError:
        raise UnusableInput(f"{ca}: no certificates in PEM") from None
    except OSError as error:
        raise UnusableInput(f"{ca}: {error.strerror}") from error
