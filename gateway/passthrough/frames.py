"""The frames of a WebSocket in one direction, counted but not read: where one ends and the next begins (RFC 6455, 5.2). Pure."""

from typing import Final

_FIXED: Final = 2
_MASK: Final = 4
_EXTENDED: Final = {126: 2, 127: 8}
_CLOSE: Final = 0x88  # the last frame of a message, opcode 8


def close_frame(code: int) -> bytes:
    """Return a server's Close frame with a status code and no reason (RFC 6455, 5.5.1)."""
    return bytes((_CLOSE, 2)) + code.to_bytes(2, "big")


class FrameCounter:
    """Follows a stream of frames."""

    __slots__ = ("_header", "_left")

    def __init__(self) -> None:
        self._left = 0  # of the frame under way
        self._header = b""  # of a frame whose header has not come whole

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        if self._header:
            data, self._header = self._header + data, b""
        position, size = self._left, len(data)
        while position < size:
            length = _frame_length(data, position)
            if length is None:
                self._header, self._left = data[position:], 0
                return
            position += length
        self._left = position - size

    def end_of_frame(self, data: bytes) -> int | None:
        """Return how many of the next bytes end the frame under way (0 if none is); None if it does not end within them.

        Between two frames another one may be put (RFC 6455, 5.4).
        """
        left = self._left
        if self._header:
            length = _frame_length(self._header + data, 0)
            if length is None:
                return None
            left = length - len(self._header)
        return left if left <= len(data) else None


def _frame_length(data: bytes, position: int) -> int | None:
    """Return the length of the frame that begins at `position`, header included; None if its header is not whole."""
    size = len(data) - position
    if size < _FIXED:
        return None
    second = data[position + 1]
    length = second & 0x7F
    extended = _EXTENDED.get(length, 0)
    header = _FIXED + extended + (_MASK if second & 0x80 else 0)
    if size < header:
        return None
    if extended:
        length = int.from_bytes(data[position + _FIXED : position + _FIXED + extended], "big")
    return header + length
