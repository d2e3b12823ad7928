"""The forms of names, URLs, pointers and prefixes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config import rules
from gateway.config.rules import Text

GOOD = [
    (rules.HEADER_NAME, ["X-Customer-Id", "a", "x_y", "!#$%&'*+-.^_`|~"]),
    (rules.REQUEST_HEADER_NAME, ["Authorization", "Cookie", "X-Token"]),
    (rules.IDENTITY_HEADER_NAME, ["X-Customer-Id", "Authorization", "X-Request-Ids"]),
    (rules.METHOD, ["GET", "PROPFIND", "M-SEARCH"]),
    (rules.COOKIE_NAME, ["sid", "__Host-sid"]),
    (
        rules.URL,
        [
            "http://127.0.0.1:8081/session",
            "https://idp.internal",
            "https://idp.internal/",
            "http://auth_service:80/a/b?c=d&e=%20",
            "http://[::1]:8081/x?",
            "https://a?b",
        ],
    ),
    (rules.ORIGIN, ["https://open-sea.alipayplus.com", "https://127.0.0.1:8443", "https://[::1]"]),
    (rules.PROXY, ["http://egress.internal:3128", "http://[::1]:1"]),
    (rules.COLLECTOR, ["http://127.0.0.1:4318", "https://otlp.internal/", "https://a:4318/otlp"]),
    (rules.SERVER_NAME, ["auth.internal", "127.0.0.1", "::1", "xn--bcher-kva.example"]),
    (rules.JSON_POINTER, ["/sub", "/user/customerId", "/a~0b~1c", "/", "/a//b", "/ü", "/0"]),
    (rules.PATH_PREFIX, ["/alipayplus", "/a/b", "/a.b/..c", "/-._~!$&'()*+,=:@"]),
    (rules.CLIENT_ID, ["T_000000000000000001", "a.b", "x" * 128]),
    (rules.UPSTREAM, ["wallet", "session-2", "Session"]),
    (rules.KEY_VERSION, ["1", "0", "v2", "a.b", "*1"]),
    (rules.KEY_VERSION_OR_ANY, ["1", "*"]),
    (rules.SCENE, ["PROXY_SCENE_PAY", "a b"]),
    (rules.NETWORK, ["10.20.0.0/16", "10.0.0.1", "::1", "fd00::/8", "::/0", "::ffff:0:0:0/96"]),
    (rules.FILE, ["a", "/a/b c", "~"]),
]
BAD = [
    (
        rules.HEADER_NAME,
        ["", "a b", "X:", "ü", "Host", "content-length", "Transfer-Encoding", "Connection", "EXPECT", "Upgrade", "TE", "Trailer"],
    ),
    (rules.REQUEST_HEADER_NAME, ["Accept", "X-Request-Id", "traceparent", "Keep-Alive", "Proxy-Authorization", "a\nb"]),
    (rules.IDENTITY_HEADER_NAME, ["x-request-id", "X_Request.ID", "X-Forwarded-For", "X-Real-IP", "Traceparent", "Host", "Accept", "a b"]),
    (rules.METHOD, ["", "*", "get", "GET,POST", "GET POST", "-", "GET\n", "BREW", "PLAY"]),
    (rules.COOKIE_NAME, ["", "a=b", "a;b", "a b"]),
    (rules.NETWORK, ["", "lb.internal", "10.0.0.1/8", "10.0.0.0/33", "::ffff:10.0.0.0/104", "::ffff:10.0.0.1", "::ffff:0:0/96"]),
    (
        rules.URL,
        [
            "",
            "auth/session",
            "ftp://a",
            "//a/b",
            "http://",
            "http:///x",
            "http://a:b@c/",
            "http://a/#b",
            "http://a:0/",
            "http://a:65536/",
            "http://a:x/",
            "http://a b/",
            "http://a/b c",
            "http://a\\b",
            "http://1.2.3.400/",
            "http://[::g]/",
            "http://[::1/",
            "http://[]",
            "http://ü/",
            "http://a/ü",
            'http://a/"',
            "http://a..b/",
            "http://" + "a" * 64 + "/",
            "http://" + "a." * 130 + "a/",
            "http://a/\n",
        ],
    ),
    (rules.ORIGIN, ["http://a", "https://a/", "https://a/b", "https://a?b", "https://a@b", "https://a#b", "a", "https://"]),
    (
        rules.COLLECTOR,
        ["a:4318", "grpc://a:4317", "http://a/v1/traces", "http://a/v1/traces/", "http://u:p@a", "http://a?b", "http://a/#b"],
    ),
    (rules.PROXY, ["https://a:1", "http://a", "http://a:1/", "http://u:p@a:1", "a:1", "socks5://a:1"]),
    (rules.SERVER_NAME, ["", "a b", "a:1", "https://a", "1.2.3.400", "[]", "[::1]"]),
    (rules.JSON_POINTER, ["", "sub", "a/b", "/a~", "/a~2", "$.sub", "#/sub"]),
    (
        rules.PATH_PREFIX,
        ["", "/", "a", "/a/", "//a", "/a//b", "/a/../b", "/.", "/a/.", "/a%2fb", "/a?b", "/a#b", "/a;b", "/a\\b", "/ü", "/a b", "/a\n"],
    ),
    (rules.CLIENT_ID, ["", "a b", "ü", "x" * 129, "a\n"]),
    (rules.KEY_VERSION, ["", "*", "1,2", "1=2", "1 2", "ü", "x" * 65]),
    (rules.KEY_VERSION_OR_ANY, ["", "1,2"]),
    (rules.SCENE, ["", "ü", "x" * 65, "a\n"]),
    (rules.UPSTREAM, ["", "a b", "a/b", "x" * 65, "session", "alipayplus"]),
]


@pytest.mark.parametrize(("rule", "text"), [(rule, text) for rule, texts in GOOD for text in texts])
def test_what_a_rule_takes(rule: Text, text: str) -> None:
    assert rule.complaint(text) is None


@pytest.mark.parametrize(("rule", "text"), [(rule, text) for rule, texts in BAD for text in texts])
def test_E1_what_a_rule_refuses(rule: Text, text: str) -> None:
    assert rule.complaint(text)


@pytest.mark.parametrize(
    ("rule", "text", "complaint"),
    [
        (rules.HEADER_NAME, "Content-Length", "headers that frame a message or belong to one connection cannot stand here"),
        (rules.REQUEST_HEADER_NAME, "Accept", "the gateway sets this header itself: leave it out"),
        (rules.IDENTITY_HEADER_NAME, "X-Forwarded-For", "the gateway sets this header itself: leave it out"),
        (rules.URL, "http://u:p@h/", "a user and password cannot stand in a URL"),
        (rules.URL, "http://h/#x", "a fragment (#...) cannot stand here"),
        (rules.URL, "http://h:99999/", "the port is not a number from 1 to 65535"),
        (rules.URL, "http://h:0/", "the port is not a number from 1 to 65535"),
        (rules.URL, "http://h..example/", "not the name or the IP address of a host"),
        (rules.SERVER, "http://wallet.svc.cluster.local.:8080", "a host is named without a dot at its end"),
        (rules.URL, "127.0.0.1:8081/session", "not of the right form: write a URL such as http://127.0.0.1:8081/session"),
        (rules.ORIGIN, "open-sea.example", "not of the right form: write https://host or https://host:port"),
        (rules.NETWORK, "lb.example", "not a network: write an address or a network such as 10.0.0.0/8"),
        (rules.ORIGIN, "http://h", "Alipay+ is called over https only: write https://host"),
        (rules.ORIGIN, "https://h/x", "a path cannot stand here: write https://host"),
        (rules.PATH_PREFIX, "/", "a prefix of / would leave nothing for the rest: write a path such as /alipayplus"),
        (rules.PATH_PREFIX, "/a/..", "dot segments cannot stand here"),
        (rules.UPSTREAM, "session", "the metrics know Alipay+ and the auth service by this name: choose another"),
        (rules.PATH_PREFIX, "/a/", "write it without the slash at its end"),
    ],
)
def test_a_likely_mistake_is_named(rule: Text, text: str, complaint: str) -> None:
    assert rule.complaint(text) == complaint


@given(st.sampled_from([rule for rule, _ in GOOD]), st.text(max_size=40) | st.text(alphabet="htps:/[]@#?.a1-%~", max_size=40))
def test_any_text_is_taken_or_refused(rule: Text, text: str) -> None:
    complaint = rule.complaint(text)
    assert complaint is None or complaint.isprintable()


@pytest.mark.parametrize("rule", [rule for rule, _ in GOOD])
@pytest.mark.parametrize("unit", ["a", "a.", "/a", "?", "a-", "http://a/", "%"])
def test_G12_long_texts_take_no_time_to_refuse(rule: Text, unit: str) -> None:
    assert rule is rules.FILE or rule.complaint("http://a/" + unit * 20_000 + "\x00")
