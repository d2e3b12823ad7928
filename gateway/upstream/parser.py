"""Reads answers out of bytes, one at a time: llhttp's strict parser, and what it lets through refused here (RFC 9112).

No I/O. What llhttp refuses by itself: bare LF, folded lines, control characters in values, repeated or odd Content-Length,
Content-Length beside Transfer-Encoding, names with spaces, bad chunks. What it takes and we do not: other versions and protocols,
statuses below 100, blank lines before or after an answer, control characters in the reason, other transfer codings than chunked.

The fields of a head are left as lines, which llhttp has found to be well-formed: most are never looked at.
"""

import re
from collections import deque
from contextlib import suppress
from typing import Final

import httptools

from gateway.upstream.errors import AnswerInvalid, ConnectionLost
from gateway.upstream.message import FIRST_FINAL, SWITCHING_PROTOCOLS, Head, field_names

MAX_HEAD: Final = 64 * 1024
MAX_FIELDS: Final = 200
MAX_INTERIM: Final = 16

_STARTS: Final = (b"HTTP/1.1 ", b"HTTP/1.0 ")
_USUAL_STARTS: Final = (b"HTTP/1.1 2", b"HTTP/1.1 3", b"HTTP/1.1 4", b"HTTP/1.1 5")
_STATUS_AT: Final = len(b"HTTP/1.1 ")
_REASON_AT: Final = len(b"HTTP/1.1 200 ")
_LENGTH_AT: Final = len(b"content-length:")
_LINE_END: Final = b"\r\n"
_BLANK: Final = b"\r\n\r\n"
_TWO_BLANKS: Final = b"\r\n\r\n\r\n"
_TAIL: Final = len(_TWO_BLANKS)
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_BODILESS: Final = frozenset({204, 304})


class AnswerParser:
    """One answer after another on one connection: `start`, then `feed` until `complete`.

    Heads (interim ones too) and pieces of the body are left in `heads` and `chunks` for the caller to take out; trailers are dropped.
    `received` bytes have come of the body; it has `length`, if that was said. `keep_alive`: the peer lets another request follow. `extra`:
    bytes came after the end of the answer. `leftover`: after a 101, the bytes that belong to the other protocol, else None.
    """

    def __init__(self) -> None:
        self.heads: deque[Head] = deque()
        self.chunks: list[bytes] = []
        self._parser = httptools.HttpResponseParser(self)
        self.start("GET")
        self.complete = self.keep_alive = True

    def start(self, method: str, *, limit: int | None = None, upgrade: bool = False) -> None:
        """Expect the answer to a request of this method; its body may have `limit` bytes, and it may be 101 if `upgrade`."""
        self._to_head = method == "HEAD"
        self._limit = limit
        self._upgrade = upgrade
        self.complete = self.extra = False
        self.leftover: bytes | None = None
        if self.heads:
            self.heads.clear()
        if self.chunks:
            self.chunks.clear()
        self._interims = 0
        self._fault: str | None = None
        self._expect_head()

    def _expect_head(self) -> None:
        self._opening = True
        self._held = self._tail = b""
        self._pieces: list[bytes] = []  # of a head that llhttp has begun to read, until it has read it
        self._status = self._fed = self.received = self._quiet = 0  # bytes in all, of the body, since its last piece
        self._chunked = False
        self.length: int | None = None

    def feed(self, data: bytes | memoryview) -> None:
        """Take what was received; nothing of it is kept by reference.

        Raises AnswerInvalid, or ConnectionLost where a body that had begun well breaks off in its chunks; the connection is of no
        more use then.
        """
        if self.complete:
            self.extra = True
            raise AnswerInvalid("bytes without a request")
        if self._opening:
            self._feed_opening(bytes(data))
        elif self.leftover is not None:
            self.leftover += data
        else:
            self._feed_rest(data)

    def eof(self, *, clean: bool = True) -> None:
        """Take the end of the connection: if it was clean, it ends a body that has no other end, else it is ConnectionLost."""
        if self.complete or self.leftover is not None:
            return
        if self._opening and not self._held and not self._interims:
            raise ConnectionLost("closed before an answer")
        if not self._status or self._chunked or self.length is not None or not clean:
            raise ConnectionLost("closed within the answer")
        self.complete = True

    def close(self) -> None:
        """Let go of llhttp, which refers to this, if that has not been done: nothing is fed any more."""
        with suppress(AttributeError):
            del self._parser

    def take_body(self) -> bytes:
        """Take out what is there of the body."""
        chunks = self.chunks
        body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        chunks.clear()
        return body

    def _feed_opening(self, data: bytes) -> None:
        """Look at the first bytes of a head before llhttp sees them."""
        if data.startswith(_USUAL_STARTS) and not self._held and not self._to_head:
            self._opening = False
            self._feed_rest(data)
            return
        scanned = len(self._held)
        data = self._held + data
        if len(data) <= _STATUS_AT:
            if not any(start.startswith(data) for start in _STARTS):
                raise AnswerInvalid("not HTTP/1.1")
            self._held = data
        elif not data.startswith(_STARTS) or data[_STATUS_AT] == ord("0"):
            raise AnswerInvalid("not HTTP/1.1")
        elif self._to_head or data[_STATUS_AT] == ord("1"):
            self._feed_alone(data, max(0, scanned - len(_BLANK)))
        else:
            self._opening = False
            self._feed_rest(data)

    def _feed_alone(self, data: bytes, scan_from: int) -> None:
        """Give llhttp one head and nothing beyond: the next bytes are another head, another protocol, or too much."""
        end = data.find(_BLANK, scan_from) + len(_BLANK)
        if end > MAX_HEAD or (end < len(_BLANK) and len(data) > MAX_HEAD):
            raise AnswerInvalid("headers too large")
        if end < len(_BLANK):
            self._held = data
            return
        self._opening, self._held = False, b""
        self._pieces.append(data[:end])
        self._execute(data[:end])
        rest = data[end:]
        if self._status == SWITCHING_PROTOCOLS:
            self.leftover = rest
        elif self._status >= FIRST_FINAL:
            self._finish_bodiless(rest)
        else:
            self._expect_head()
            if rest:
                self._feed_opening(rest)

    def _finish_bodiless(self, rest: bytes) -> None:
        """End the answer to a HEAD, of which llhttp does not know that no body follows."""
        self.complete = True
        self.extra = bool(rest)
        self._parser = httptools.HttpResponseParser(self)

    def _feed_rest(self, data: bytes | memoryview) -> None:
        size = len(data)
        self._fed += size
        self._quiet += size
        if not self._status:
            self._pieces.append(bytes(data))
        chunks = self.chunks
        before = len(chunks)
        self._execute(data)
        if len(chunks) - before > 1:
            chunks[before:] = [b"".join(chunks[before:])]  # tiny ones take many times their size
        if self.complete:
            self.extra = self.extra or not self._is_end(data)
        elif self._quiet > MAX_HEAD:
            raise AnswerInvalid("headers too large")
        elif self._chunked:
            self._tail = (self._tail + data[-_TAIL:])[-_TAIL:]

    def _execute(self, data: bytes | memoryview) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass
        except httptools.HttpParserError:
            if self.complete:
                self.extra = True
            elif self._chunked and self._status and self._fault is None:
                raise ConnectionLost("broken chunks") from None
            else:
                raise AnswerInvalid(self._fault or "malformed HTTP") from None

    def _is_end(self, data: bytes | memoryview) -> bool:
        """Tell whether the data ends with the answer. llhttp skips blank lines after it without a word; all else it reports."""
        if not self._chunked:
            return self._fed == self._head_size + self.received
        tail = (self._tail + data[-_TAIL:])[-_TAIL:]
        return tail.endswith(_BLANK) and tail != _TWO_BLANKS

    def _refuse(self, fault: str) -> None:
        """Make llhttp stop; `feed` tells why."""
        self._fault = fault
        raise ValueError(fault)

    # What llhttp calls, all within `feed`.

    def on_message_begin(self) -> None:
        """Take the first byte of a message."""
        if self.complete:
            self._refuse("bytes after the answer")

    def on_headers_complete(self) -> None:
        """Take the end of a head, of which llhttp has found every line well-formed."""
        pieces, status = self._pieces, self._parser.get_status_code()
        head = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        end = head.find(_BLANK)
        lines = head[:end].split(_LINE_END)
        if end < 0 or end > MAX_HEAD or len(lines) > MAX_FIELDS + 1:
            self._refuse("headers too large")
        reason = lines.pop(0)[_REASON_AT:]
        if _CONTROL.search(reason):
            self._refuse("control characters in the reason")
        names = field_names(lines)
        length = None
        if b"transfer-encoding" in names:
            self._on_coding(lines, names)
        elif b"content-length" in names:
            length = int(lines[names.index(b"content-length")][_LENGTH_AT:])
        if status < FIRST_FINAL:
            self._on_interim(status)
        bodiless = self._to_head or status < FIRST_FINAL or status in _BODILESS
        if self._limit is not None and length is not None and length > self._limit and not bodiless:
            self._refuse("answer too large")
        self._chunked = self._chunked and not bodiless
        self._status, self.length, self._head_size = status, length, end + len(_BLANK)
        answer = Head(status, reason, lines, names, length, bodiless)
        self.keep_alive = self._parser.should_keep_alive() or (self._to_head and self._keeps_alive(answer))
        self.heads.append(answer)
        self._pieces = []

    def _keeps_alive(self, head: Head) -> bool:
        """Tell whether the connection goes on (RFC 9112, 9.3). llhttp takes the answer to a HEAD for one that its connection ends."""
        options = {option.strip(b" \t").lower() for value in head.all(b"connection") for option in value.split(b",")}
        return b"close" not in options and (b"keep-alive" in options or self._parser.get_http_version() == "1.1")

    def _on_coding(self, lines: list[bytes], names: list[bytes]) -> None:
        """Demand `chunked` alone. With a tab behind it, llhttp does not know it, and takes the chunks as they are for the body."""
        value = lines[names.index(b"transfer-encoding")].partition(b":")[2].lstrip(b" \t").rstrip(b" ").lower()
        if names.count(b"transfer-encoding") > 1 or value != b"chunked" or self._parser.get_http_version() != "1.1":
            self._refuse("transfer coding other than chunked")
        self._chunked = True

    def _on_interim(self, status: int) -> None:
        self._interims += 1
        if status == SWITCHING_PROTOCOLS and not self._upgrade:
            self._refuse("101 without a request for it")
        if status == SWITCHING_PROTOCOLS and not self._parser.should_upgrade():
            self._refuse("101 without its Upgrade and Connection headers")
        if self._interims > MAX_INTERIM:
            self._refuse("too many interim answers")

    def on_body(self, data: bytes) -> None:
        """Take a piece of the body."""
        size = len(data)
        self._quiet = 0
        self.received += size
        if self._limit is not None and self.received > self._limit:
            self._refuse("answer too large")
        self.chunks.append(data)

    def on_message_complete(self) -> None:
        """Take the end of a message."""
        if self._status >= FIRST_FINAL:
            self.complete = True
