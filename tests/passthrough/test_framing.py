import pytest

from gateway.passthrough.framing import Framing


@pytest.mark.parametrize(
    ("data", "is_last", "written"),
    [
        pytest.param(b"x" * 26, False, b"1a\r\n" + b"x" * 26 + b"\r\n", id="a-piece"),
        pytest.param(b"x" * 26, True, b"1a\r\n" + b"x" * 26 + b"\r\n0\r\n\r\n", id="the-last-piece"),
        pytest.param(b"", True, b"0\r\n\r\n", id="the-end"),
        pytest.param(b"", False, b"", id="nothing-would-be-the-end"),
    ],
)
def test_pieces_are_framed_in_chunks(data: bytes, is_last: bool, written: bytes) -> None:  # noqa: FBT001  a parameter of the test
    assert b"".join(Framing.CHUNKED.pack(data, is_last=is_last)) == written
    assert b"".join(Framing.LENGTH.pack(data, is_last=is_last)) == data
