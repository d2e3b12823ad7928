"""What a client sends, as requests: aiohttp's parser, which is given one message after the other.

A head is looked at before the parser gets it, and then it gets all of it; of a body it gets as much as there is. So what follows a message
is known, and each is treated alike however the bytes come.
"""

from typing import Final

from aiohttp.http import HttpRequestParser, RawRequestMessage
from aiohttp.http_exceptions import BadStatusLine, HttpProcessingError
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web import RequestPayloadError

from gateway.edge.malformed import HeadRefused, named_method
from gateway.edge.strictness import TAIL, end_of_head, ends_plainly, is_proxy_header, is_request_line

Message = tuple[RawRequestMessage, StreamReader]
"""A head, and the body that belongs to it while it comes."""

LENGTH_DIGITS: Final = 20
"""Those of the greatest length that llhttp counts. It takes any number of zeros before them, of which Python reads 4300."""


class Incoming:
    """Reads what comes on one connection, which has this parser. A head has `header_size` bytes at most.

    `head`: what has come of the next one. `is_over`: nothing more is read. `is_upgraded`: what comes now is of another protocol, and is
    kept in `tail`.
    """

    __slots__ = ("_body", "_ending", "_header_size", "_left", "_parser", "_rest", "head", "is_over", "is_upgraded", "tail")

    def __init__(self, parser: HttpRequestParser, header_size: int) -> None:
        self._parser: HttpRequestParser | None = parser
        self._header_size = header_size
        self.head = b""
        self._body: StreamReader = EMPTY_PAYLOAD  # that of the newest request
        self._left: int | None = None  # bytes of that body that have not come; None if that is not known, since it comes in chunks
        self._ending = b""  # its last bytes then, at first those of its head
        self._rest = b""  # what came behind the newest message while that has to wait
        self.is_over = False
        self.is_upgraded = False
        self.tail = b""

    def read(self, data: bytes, room: int) -> list[Message | Exception]:
        """Return the requests that begin in `data`, and what is none; when there are as many as `room`, what is left waits."""
        if self._rest:
            data, self._rest = self._rest + data, b""
        begun: list[Message | Exception] = []
        while not self.is_over:
            if self.is_upgraded:
                self.tail += data
                break
            data = self._read_head(data, begun) if self._body.is_eof() else self._read_body(data)
            if not data:
                break
            has_to_wait = self._left == 0 and not self._body.is_eof()  # the parser does, until more of the body has been taken
            if has_to_wait or len(begun) >= room:
                self._rest = data
                break
        return begun

    @property
    def is_between(self) -> bool:
        """Whether what comes next begins a request."""
        return not (self.head or self._rest or self.is_over or self.is_upgraded) and self._body.is_eof()

    def forget(self, body: StreamReader) -> None:
        """Keep nothing of a request that is done, whose body this is."""
        if self._body is body:
            self._body = EMPTY_PAYLOAD

    def give_up(self) -> None:
        """Keep nothing of what has come and has not ended: nothing more is read."""
        self.is_over = True
        self.head, self._body = b"", EMPTY_PAYLOAD

    def close(self) -> None:
        """Let go of the parser, which refers to the connection: nothing more is read."""
        self.is_over = True
        self._parser, self._body = None, EMPTY_PAYLOAD

    def _read_head(self, data: bytes, begun: list[Message | Exception]) -> bytes:
        """Read what `data` has of a head, and return what follows that. The request, or what is none, is added to `begun`."""
        data = self.head + data
        end = end_of_head(data)
        come: Message | Exception
        if (end or len(data)) > self._header_size:
            come = HeadRefused("HEADERS_TOO_LARGE", "headers_too_large")
        elif not is_request_line(data):
            come = HeadRefused("REQUEST_MALFORMED", "proxy_protocol" if is_proxy_header(data) else "bad_request")
        elif not end:
            self.head = data
            return b""
        else:
            follows = len(data) - end
            if follows and data.find(b"\r\nContent-Length: %d\r\n" % follows, 0, end) < 0:
                follows = 0  # it is not just the body, as most often
            end += follows
            come = self._parsed(data[:end], follows)
        self.head = b""
        self.is_over = isinstance(come, Exception)
        begun.append(come)
        return data[end:]

    def _parsed(self, data: bytes, follows: int) -> Message | Exception:
        """Give the parser a head, and so many bytes of its body; return the request that begins, or what is wrong with it."""
        try:
            messages = self._feed(data)
        except HttpProcessingError as error:
            return (named_method(data) if isinstance(error, BadStatusLine) else None) or error.with_traceback(None)  # which refers to it
        if len(messages) != 1:  # the parser takes it for something else
            return HeadRefused("REQUEST_MALFORMED", "bad_request")
        message, self._body = come = messages[0]
        length = message.headers.get("Content-Length")
        if length is not None and (len(length) > LENGTH_DIGITS or (self._body is EMPTY_PAYLOAD and length.strip("0"))):
            return HeadRefused("REQUEST_MALFORMED", "bad_request")  # aiohttp takes the greatest length that llhttp can count for none
        if not self._body.is_eof():
            self._left, self._ending = int(length) - follows if length is not None else None, b"\r\n"
        return come

    def _read_body(self, data: bytes) -> bytes:
        """Read what `data` has of the newest body, and return what follows that.

        Nothing more is read behind a body in chunks if a trailer of it may have become a header of the next request.
        """
        piece = data if self._left is None else data[: self._left]
        try:
            following = self._feed(piece)
        except HttpProcessingError:  # aiohttp leaves the reader of this body waiting
            self.is_over = True
            self._body.set_exception(RequestPayloadError())
            return b""
        if self._left is not None:
            self._left -= len(piece)
            return data[len(piece) :]
        self._ending = (self._ending + piece[-TAIL:])[-TAIL:]
        self.is_over = bool(following) or (self._body.is_eof() and not ends_plainly(self._ending))
        return b""

    def _feed(self, data: bytes) -> list[Message]:
        """Return the messages whose heads end in `data`. Raises HttpProcessingError."""
        assert self._parser is not None
        messages, self.is_upgraded, tail = self._parser.feed_data(data)
        if tail:
            self.tail += tail
        return messages
