import pytest

from gateway.session.message import Message, request_line


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("http://a", "GET / HTTP/1.1\r\n"),
        ("http://a/", "GET / HTTP/1.1\r\n"),
        ("https://a:8443/x/y?b=c&d=%2F", "GET /x/y?b=c&d=%2F HTTP/1.1\r\n"),
        ("http://[::1]:80/x?", "GET /x? HTTP/1.1\r\n"),
        ("http://a?x=http://b/c", "GET /?x=http://b/c HTTP/1.1\r\n"),
        ("http://a//b/../c%2e/", "GET //b/../c%2e/ HTTP/1.1\r\n"),
    ],
)
def test_path_and_query_are_sent_as_they_are_configured(url: str, line: str) -> None:
    assert request_line("GET", url) == line


def test_a_message_is_not_printed() -> None:
    assert "secret" not in repr(Message(b"Authorization: secret\r\n", b"token=secret"))
