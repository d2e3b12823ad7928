import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.passthrough.frames import FrameCounter, close_frame


def frame(payload: bytes, *, opcode: int = 2, fin: bool = True, masked: bool = False) -> bytes:
    first, mask = opcode | (0x80 if fin else 0), 0x80 if masked else 0
    size = len(payload)
    if size < 126:
        head = bytes((first, mask | size))
    elif size < 1 << 16:
        head = bytes((first, mask | 126)) + struct.pack(">H", size)
    else:
        head = bytes((first, mask | 127)) + struct.pack(">Q", size)
    return head + (b"mask" if masked else b"") + payload


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 100_000])
def test_frames_of_every_length_form_are_followed(size: int, *, masked: bool) -> None:
    counter = FrameCounter()
    one = frame(b"x" * size, masked=masked)
    assert counter.end_of_frame(one) == 0
    counter.feed(one)
    assert counter.end_of_frame(b"") == 0
    counter.feed(one[:-1] if size else one[:1])
    assert counter.end_of_frame(b"") is None
    assert counter.end_of_frame(one[-1:] if size else one[1:]) == (1 if size else len(one) - 1)


@given(st.lists(st.tuples(st.integers(0, 300), st.booleans()), max_size=12), st.integers(0, 1 << 30))
def test_the_end_of_a_frame_is_found_wherever_the_stream_is_cut(frames: list[tuple[int, bool]], seed: int) -> None:
    choice = random.Random(seed)
    stream, ends = b"", {0}
    for size, masked in frames:
        stream += frame(b"x" * size, masked=masked)
        ends.add(len(stream))
    counter, position = FrameCounter(), 0
    while position < len(stream):
        piece = stream[position : position + choice.randint(1, 40)]
        first = min(end for end in ends if end >= position)
        assert counter.end_of_frame(piece) == (first - position if first <= position + len(piece) else None)
        counter.feed(piece)
        position += len(piece)
    assert counter.end_of_frame(b"") == 0


def test_a_close_frame_has_its_code_and_no_mask() -> None:
    assert close_frame(1001) == b"\x88\x02\x03\xe9"
