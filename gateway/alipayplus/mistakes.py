"""The likely mistakes in a signed text: for a text as it should have been, the texts that people sign instead.

One function for each aspect (method, path, separators, client id, time, body), each a pure generator of (mistake in words, text).
Which of them explains a signature is found by `gateway.alipayplus.diagnose`.
"""

import codecs
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import MAXYEAR, MINYEAR, UTC, datetime, timedelta, timezone
from itertools import product
from typing import Any, Final
from urllib.parse import unquote


@dataclass(frozen=True, slots=True)
class Text:
    """A text to sign, in its parts; as it should be by default (protocol section 3)."""

    uri: str
    client_id: str
    time: str
    body: bytes
    method: str = "POST"
    line_end: str = "\n"
    dot: str = "."

    def head(self) -> bytes:
        """Give all that stands before the body."""
        start = f"{self.method} " if self.method else ""
        client = f"{self.client_id}{self.dot}" if self.client_id else ""
        return f"{start}{self.uri}{self.line_end}{client}{self.time}{self.dot}".encode("latin-1", "replace")


Mistake = tuple[str, Text]
Aspect = Callable[[Text], Iterator[Mistake]]

HOSTS: Final = ("https://open-na.alipay.com", "https://open-sea.alipay.com", "https://open-de.alipay.com")
"""The hosts that Alipay's public documentation names, for those who sign a whole URL."""

LARGEST_PARSED: Final = 8 << 20
"""Bytes. A larger body is not serialised anew: that would take longer than all else."""

_OFFSETS: Final = (*range(-12 * 60, 15 * 60, 60), 210, 270, 330, 345, 390, 570, 765, -210, -570)
"""The world's offsets from UTC, in minutes."""


@dataclass(frozen=True, slots=True)
class _Layout:
    says: str
    marks: tuple[str, str]
    indent: int | None = None


_LAYOUTS: Final = (
    _Layout("compact", (",", ":")),
    _Layout("with spaces after , and :", (", ", ": ")),
    _Layout("indented by 2", (",", ": "), 2),
    _Layout("indented by 4", (",", ": "), 4),
)


def methods(text: Text) -> Iterator[Mistake]:
    """Use another method, or the right one written otherwise."""
    for method in ("GET", "PUT", "post", "Post"):
        if method != text.method:
            yield f"the method is {method}, not {text.method}", replace(text, method=method)
    yield "the method is left out", replace(text, method="")


def paths(text: Text) -> Iterator[Mistake]:
    """Give the path with or without query, slash or host, of another version, or of the sandbox."""
    uri = text.uri
    path, question, query = uri.partition("?")
    if "://" in uri:
        yield "the path alone is signed, without scheme and host", replace(text, uri="/" + uri.partition("://")[2].partition("/")[2])
        return
    if question:
        yield "the query is left out of the path", replace(text, uri=path)
    slash = path.removesuffix("/") if path.endswith("/") else f"{path}/"
    yield f"a trailing slash is {'cut from' if path.endswith('/') else 'added to'} the path", replace(text, uri=slash + question + query)
    yield "the leading slash is cut from the path", replace(text, uri=uri.removeprefix("/"))
    for host in HOSTS:
        yield f"the whole URL is signed ({host}), not the path", replace(text, uri=host + uri)
    for version in re.findall(r"/(v\d+)/", path):
        for other in ("v1", "v2", "v3"):
            if other != version:
                yield f"the path has the version {other}, not {version}", replace(text, uri=uri.replace(f"/{version}/", f"/{other}/", 1))
    yield "the path is that of the sandbox", replace(text, uri=uri.replace("/api/", "/sandbox/api/", 1))
    if unquote(uri) != uri:
        yield "the path's percent escapes are decoded", replace(text, uri=unquote(uri))


def separators(text: Text) -> Iterator[Mistake]:
    """Change what stands between the parts."""
    yield "CR LF ends the first line, not LF", replace(text, line_end="\r\n")
    yield "backslash and n stand for the line feed", replace(text, line_end="\\n")
    yield "nothing ends the first line", replace(text, line_end="")
    yield "a space ends the first line, not LF", replace(text, line_end=" ")
    yield "the dots are left out", replace(text, dot="")
    yield "line feeds stand for the dots", replace(text, dot="\n")


def client_ids(text: Text) -> Iterator[Mistake]:
    """Give the client id missing, in another case, with white space."""
    given = text.client_id
    yield "the client id is missing", replace(text, client_id="")
    for says, value in (
        ("in lower case", given.lower()),
        ("in upper case", given.upper()),
        ("without the white space around it", given.strip()),
        ("with a space before it", f" {given}"),
        ("with a space after it", f"{given} "),
        ("with a line feed after it", f"{given}\n"),
    ):
        if value != given:
            yield f"the client id is signed {says}", replace(text, client_id=value)


def times(text: Text) -> Iterator[Mistake]:
    """Give the time in another form, with another offset, or taken twice."""
    yield "the time is missing", replace(text, time="")
    seen = {text.time}
    for says, value in _times(text.time):
        if value not in seen:
            seen.add(value)
            yield f"the time is signed {says}: {value}", replace(text, time=value)


def _times(given: str) -> Iterator[tuple[str, str]]:
    yield "without the white space around it", given.strip()
    moment = _moment(given.strip())
    if moment is None:
        return
    offset = moment.utcoffset() or timedelta(0)
    yield from _forms("in another form", moment)
    yield from _forms("in UTC", moment.astimezone(UTC))
    yield "in milliseconds since 1970", str(int(moment.timestamp()) * 1000 + moment.microsecond // 1000)
    yield "in seconds since 1970", str(int(moment.timestamp()))
    for seconds in (-1, 1, -2, 2, -3, 3):
        yield f"as taken at another moment ({seconds:+} s)", _like(given, moment + timedelta(seconds=seconds))
    for minutes in _OFFSETS:
        zone = timezone(timedelta(minutes=minutes))
        if zone.utcoffset(None) != offset:
            yield "with another offset", moment.astimezone(zone).isoformat()
            yield "with another offset at the same hour", moment.replace(tzinfo=zone).isoformat()


def _moment(given: str) -> datetime | None:
    try:
        if given.isascii() and given.isdigit():
            moment = datetime.fromtimestamp(int(given) / (1000 if len(given) > len("1577836800") else 1), UTC)
        else:
            moment = datetime.fromisoformat(given)
    except (ValueError, OverflowError, OSError):
        return None
    if not MINYEAR < moment.year < MAXYEAR:  # with another offset it could be none
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _like(given: str, moment: datetime) -> str:
    return str(int(moment.timestamp())) if given.isdigit() else moment.isoformat()


def _forms(says: str, moment: datetime) -> Iterator[tuple[str, str]]:
    whole = moment.replace(microsecond=0)
    plain = whole.replace(tzinfo=None)
    yield says, whole.isoformat()
    yield f"{says}, with milliseconds", moment.isoformat(timespec="milliseconds")
    yield f"{says}, without the offset's colon", whole.strftime("%Y-%m-%dT%H:%M:%S%z")
    yield f"{says}, with a space for the T", whole.isoformat(sep=" ")
    yield f"{says}, without the offset", plain.isoformat()
    yield f"{says}, without T and offset", plain.isoformat(sep=" ")
    if not moment.utcoffset():
        yield f"{says}, with Z", f"{plain.isoformat()}Z"
        yield f"{says}, with milliseconds and Z", f"{moment.replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"


def serialisations(text: Text) -> Iterator[Mistake]:
    """Parse the body and write it again, as libraries do by default; or leave it out."""
    yield "the body is left out", replace(text, body=b"")
    if len(text.body) > LARGEST_PARSED:
        return
    try:
        value: Any = json.loads(text.body.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return
    for layout, sort, ascii_only, slashes in product(_LAYOUTS, (False, True), (False, True), (False, True)):
        written = json.dumps(value, separators=layout.marks, indent=layout.indent, sort_keys=sort, ensure_ascii=ascii_only)
        written = written.replace("/", "\\/") if slashes else written
        details = ((True, layout.says), (sort, "keys sorted"), (ascii_only, "non-ASCII escaped"), (slashes, "slashes escaped"))
        says = ", ".join(detail for applies, detail in details if applies)
        yield f"the body is serialised anew: {says}", replace(text, body=written.encode("utf-8", "surrogatepass"))


def line_ends(text: Text) -> Iterator[Mistake]:
    """Change the line ends within the body, as editors and version control change them; or its character encoding."""
    unix = text.body.replace(b"\r\n", b"\n")
    if unix != text.body:
        yield "the body's CR LF are LF", replace(text, body=unix)
    if b"\n" in unix and (dos := unix.replace(b"\n", b"\r\n")) != text.body:
        yield "the body's LF are CR LF", replace(text, body=dos)
    for encoding in () if text.body.isascii() else ("latin-1", "gbk", "utf-16-le"):
        try:
            yield f"the body is in {encoding}, not UTF-8", replace(text, body=text.body.decode("utf-8").encode(encoding))
        except UnicodeError:
            continue


def ends(text: Text) -> Iterator[Mistake]:
    """Add or cut what an editor or a shell puts at the end of a file, or at its beginning."""
    body = text.body
    for says, end in (("line feed", b"\n"), ("CR LF", b"\r\n"), ("space", b" "), ("NUL", b"\0")):
        yield f"a final {says} is added to the body", replace(text, body=body + end)
    for says, cut in (("a final line feed", body.removesuffix(b"\n")), ("a final CR LF", body.removesuffix(b"\r\n"))):
        if cut != body:
            yield f"{says} is cut from the body", replace(text, body=cut)
    if body.strip() not in {body, body[:-1], body[:-2]}:
        yield "all white space around the body is cut", replace(text, body=body.strip())
    if body.startswith(codecs.BOM_UTF8):
        yield "the body's byte order mark is cut", replace(text, body=body.removeprefix(codecs.BOM_UTF8))
    else:
        yield "a byte order mark is added to the body", replace(text, body=codecs.BOM_UTF8 + body)


ASPECTS: Final[tuple[Aspect, ...]] = (serialisations, line_ends, ends, times, paths, client_ids, separators, methods)
"""All aspects, in the order in which two mistakes are put together: what is done to the body's end is done after serialising it."""
