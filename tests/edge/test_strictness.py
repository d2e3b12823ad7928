import pytest

from gateway.edge.strictness import ends_plainly, is_request_line


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1\r\n", b"M-SEARCH * HTTP/1.0\r\nX", b"\r\n\r\nGET /a?b HTTP/1.1\r\n", b"", b"GET / HTT", b"\r\n", b"\r\nGET"]
)
def test_what_is_or_may_become_a_request_line(data: bytes) -> None:
    assert is_request_line(data)


@pytest.mark.parametrize(
    "data",
    [
        b"GET  / HTTP/1.1\r\n",
        b"GET / HTTP/1.1\n",
        b"GET / HTTP/1.2\r\n",
        b"GET / HTTP/1.1 \r\n",
        b"GET /\r\n",
        b"\nGET / HTTP/1.1\r\n",
        b"GET / RTSP/1.0\r\n",
        b" GET / HTTP/1.1\r\n",
        b"nonsense\r\n",
    ],
)
def test_what_is_no_request_line(data: bytes) -> None:
    assert not is_request_line(data)


@pytest.mark.parametrize(
    ("tail", "plain"),
    [
        (b"x\r\n0\r\n\r\n", True),
        (b"\r\n00\r\n\r\n", False),
        (b"0;a\r\n\r\n", False),
        (b"X: 0\r\n\r\n", False),
        (b"\r\n0\r\n\r\nGET", False),
        (b"", False),
    ],
)
def test_a_body_that_may_have_had_trailers_is_told_from_one_that_had_none(tail: bytes, *, plain: bool) -> None:
    assert ends_plainly(tail) == plain
