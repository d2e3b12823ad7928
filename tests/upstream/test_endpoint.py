import ssl

import pytest

from gateway.upstream import Endpoint


@pytest.mark.parametrize(
    ("url", "authority", "name"),
    [
        ("http://auth.internal", "auth.internal", "auth.internal:80"),
        ("http://auth.internal:80/session?x=y", "auth.internal", "auth.internal:80"),
        ("http://127.0.0.1:8081/session", "127.0.0.1:8081", "127.0.0.1:8081"),
        ("HTTPS://Alipayplus.Example/", "alipayplus.example", "alipayplus.example:443"),
        ("https://alipayplus.example:8443", "alipayplus.example:8443", "alipayplus.example:8443"),
        ("https://alipayplus.example:80", "alipayplus.example:80", "alipayplus.example:80"),
        ("http://[::1]", "[::1]", "[::1]:80"),
        ("http://[2001:DB8::0:1]:8080", "[2001:db8::1]:8080", "[2001:db8::1]:8080"),
        ("http://wallet_api:8082", "wallet_api:8082", "wallet_api:8082"),
        ("http://münchen.example", "xn--mnchen-3ya.example", "xn--mnchen-3ya.example:80"),
        ("unix:/run/api.sock", "localhost", "unix:/run/api.sock"),
        ("unix:run/api.sock", "localhost", "unix:run/api.sock"),
    ],
)
def test_an_endpoint_is_read_from_a_url(url: str, authority: str, name: str) -> None:
    endpoint = Endpoint.parse(url)
    assert (endpoint.authority, endpoint.name) == (authority, name)
    assert (endpoint.tls is not None) is url.lower().startswith("https")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "auth.internal",
        "//auth.internal",
        "ftp://auth.internal",
        "http://",
        "http:///session",
        "http://user@auth.internal",
        "http://user:secret@auth.internal",
        "http://auth.internal#x",
        "http://auth.internal:0",
        "http://auth.internal:65536",
        "http://auth.internal:x",
        "http://auth internal",
        "http://auth..internal",
        "http://" + "a" * 64,
        "http://a\r\nHost:b",
        "http://[::1",
        "http://[::g]",
        "unix:",
        "unix:/run/\0",
    ],
)
def test_what_is_no_endpoint_is_refused_without_its_secrets(url: str) -> None:
    with pytest.raises(ValueError) as caught:
        Endpoint.parse(url)
    assert "secret" not in str(caught.value)


def test_tls_is_for_https_only_and_the_name_can_be_given() -> None:
    context = ssl.create_default_context()
    endpoint = Endpoint.parse("https://10.0.0.1", tls=context, server_name="auth.internal")
    assert endpoint.tls is context
    assert endpoint.server_name == "auth.internal"
    assert Endpoint.parse("https://auth.internal", tls=context).server_name == "auth.internal"
    assert Endpoint.parse("http://auth.internal", tls=context).tls is None
    assert "SSLContext" not in repr(endpoint)
    default = Endpoint.parse("https://auth.internal").tls
    assert default is not None
    assert default.verify_mode is ssl.CERT_REQUIRED
    assert default.check_hostname


def test_a_proxy_is_an_http_url() -> None:
    assert Endpoint.parse("https://a.example", proxy="http://egress.internal:3128").proxy == ("egress.internal", 3128)
    assert Endpoint.parse("http://a.example", proxy="http://egress.internal").proxy == ("egress.internal", 80)
    for proxy in ("https://egress.internal", "egress.internal:3128", "socks5://egress.internal", "http://u:p@egress.internal"):
        with pytest.raises(ValueError):
            Endpoint.parse("https://a.example", proxy=proxy)
