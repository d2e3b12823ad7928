"""The rules between keys."""

import pytest

from gateway.config import Duration
from gateway.config.checks import Step, deadline_ladder, longest_request
from tests.config.files import Files

INTROSPECTION = "{url: https://idp.internal/introspect, client_id: g, client_secret: s}"


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        pytest.param(
            {"session__introspection": INTROSPECTION}, "session: write exactly one of forward and introspection", id="E1-both-sessions"
        ),
        pytest.param(
            {"session__forward": None, "session__cache": ""}, "session: write exactly one of forward and introspection", id="E1-no-session"
        ),
        pytest.param(
            {"session__forward__customer_id": "{}"},
            "session.forward.customer_id: write exactly one of header and json",
            id="E1-no-customer-id",
        ),
        pytest.param(
            {"session__forward__customer_id": "{header: a, json: /a}"},
            "session.forward.customer_id: write exactly one of header and json",
            id="E1-both-customer-ids",
        ),
        pytest.param(
            {"session__forward": None, "session__introspection": INTROSPECTION[:-1] + ", customer_id: {json: /a, header: b}}"},
            "session.introspection.customer_id: write exactly one of header and json",
            id="E1-introspection-customer-ids",
        ),
        pytest.param(
            {"session__forward__cookies": "[sid]", "session__forward__request_headers": "[Authorization]"},
            "session.forward.cookies: no cookie is ever sent: add Cookie to request_headers, or remove this key",
            id="E1-cookies-unsent",
        ),
        pytest.param(
            {"session__forward__forward_headers": "[x-customer-id]"},
            "session.forward.forward_headers: the identity header X-Customer-Id is set already: leave it out",
            id="E1-identity-twice",
        ),
        pytest.param(
            {"session__forward__url": "https://a", "session__forward__tls": "{certificate: a.pem}"},
            "session.forward.tls: certificate and private_key belong together: write private_key too",
            id="E1-certificate-alone",
        ),
        pytest.param(
            {"alipayplus__tls": "{private_key: a.pem}"},
            "alipayplus.tls: certificate and private_key belong together: write certificate too",
            id="E1-key-alone",
        ),
        pytest.param(
            {"alipayplus__timeout": "10s"},
            "alipayplus.timeout: write more than 10s, such as 12s: Alipay+ itself answers for up to 10s",
            id="E1-timeout",
        ),
        pytest.param(
            {"alipayplus__signing__key_version": '"2"', "alipayplus__signing__private_keys": '{"1": a, "3": b}'},
            'alipayplus.signing.key_version: no private key has this version: write one of "1", "3"',
            id="E1-key-version",
        ),
        pytest.param({"admin__listen": "127.0.0.1:8080"}, "admin.listen: server.listen has this address already", id="E1-listen-same"),
        pytest.param({"admin__listen": "0.0.0.0:8080"}, "admin.listen: server.listen has this address already", id="E1-listen-any"),
        pytest.param({"admin__listen": '"[::]:8080"'}, "admin.listen: server.listen has this address already", id="E1-listen-any-v6"),
        pytest.param(
            {"server__listen": "[127.0.0.1:1, unix:/a, 0.0.0.0:1]"},
            "server.listen[2]: 127.0.0.1:1 has this address already: keep one, or write another port",
            id="E1-listen-any-of-two",
        ),
        pytest.param(
            {"server__listen": '["[::]:1", "[::1]:1"]'},
            "server.listen[1]: [::]:1 has this address already: keep one, or write another port",
            id="E1-listen-any-v6-of-two",
        ),
        pytest.param({"server__listen": "[a:1, A:1]"}, "server.listen[1]: a:1 has this address already", id="E1-listen-case"),
        pytest.param({"server__listen": "[a:1, a:1]"}, "server.listen[1]: stands twice in this list: keep one", id="E1-listen-twice"),
        pytest.param(
            {"server__listen": "[127.0.0.1:1, unix:/" + "x" * 107 + "]"},
            "server.listen[1]: longer than the 107 bytes that a unix socket's path may have",
            id="E1-unix-path",
        ),
        pytest.param(
            {
                "api__upstreams": "{w: {servers: [http://a, unix:/" + "x" * 107 + "]}}",
                "api__routes": "[{prefix: /, upstream: w}]",
            },
            "api.upstreams.w.servers[1].url: longer than the 107 bytes that a unix socket's path may have",
            id="E1-unix-path-of-a-server",
        ),
        pytest.param(
            {"server__proxy_protocol": "true"},
            "server.proxy_protocol: nobody may send a PROXY header: write in trusted_proxies whose counts, or remove this key",
            id="E1-proxy-protocol-of-nobody",
        ),
        pytest.param(
            {"server__tls": "{certificate: a, private_key: b, subject_header: X-Subject}"},
            "server.tls.subject_header: never set, since no client is asked for a certificate: write client_ca too, or remove this key",
            id="E1-subject-of-nobody",
        ),
        pytest.param(
            {"server__tls": "{certificate: a, private_key: b, client_ca: c, subject_header: x-customer-ID}"},
            "server.tls.subject_header: says who the customer is already: write another name",
            id="E1-subject-is-identity",
        ),
        pytest.param({"server__tls": "{certificate: a}"}, "server.tls.private_key: required: The private key", id="E1-server-key"),
        pytest.param({"server__tls": "{private_key: a}"}, "server.tls.certificate: required: Our certificate", id="E1-server-certificate"),
    ],
)
def test_E1_a_broken_rule_is_a_fault(files: Files, changes: dict[str, str | None], fault: str) -> None:
    assert fault in files.only_fault(**changes)


def test_listeners_on_other_addresses_or_on_free_ports_are_apart(files: Files) -> None:
    for listen, admin in (
        ("127.0.0.1:1", "127.0.0.2:1"),
        ("127.0.0.1:0", "127.0.0.1:0"),
        ("0.0.0.0:1", '"[::1]:1"'),
        ("a:1", "b:1"),
        ("unix:a", "a:1"),
    ):
        files.load(files.text(server__listen=listen, admin__listen=admin))
    for several in ('["0.0.0.0:1", "[::]:1"]', "[0.0.0.0:0, 127.0.0.1:0]", "[0.0.0.0:1, 127.0.0.1:2]", '["[::]:1", a:1]', "[a:1, b:1]"):
        files.load(files.text(server__listen=several))


@pytest.mark.parametrize(
    ("changes", "warning"),
    [
        (
            {"server__drain_timeout": "17s"},
            "server.drain_timeout: warning: a drain may cut SDK requests that are within their deadlines: write at least 18s",
        ),
        (
            {"session__forward": None, "session__introspection": INTROSPECTION.replace("https", "http")},
            "session.introspection.url: warning: the client secret and the tokens travel unencrypted: write https",
        ),
        (
            {"session__forward__tls": "{ca: a.pem}"},
            "session.forward.tls: warning: never used, since url begins with http://: write https:// there, or remove this section",
        ),
        (
            {"api__upstreams": "{w: {servers: http://a, tls: {ca: a.pem}}}", "api__routes": "[{prefix: /, upstream: w}]"},
            "api.upstreams.w.tls: warning: never used, since no server begins with https://: write https:// there, or remove this section",
        ),
        (
            {"session__forward__request_headers": "[x-customer-ID]"},
            "session.forward.request_headers: warning: the auth service gets a customer id of the client's own making",
        ),
        (
            {
                "session__forward__request_headers": "[x-subject]",
                "server__tls": "{certificate: a, private_key: b, client_ca: c, subject_header: X-Subject}",
            },
            "session.forward.request_headers: warning: the auth service gets a subject of the client's own making",
        ),
        (
            {"session__forward__request_headers": "[Authorization, X-Real-IP, Forwarded]"},
            "request_headers: warning: the auth service gets what the client claims to come from: remove forwarded, x-real-ip, or name",
        ),
    ],
)
def test_what_is_doubtful_is_a_warning(files: Files, changes: dict[str, str | None], warning: str) -> None:
    (found,) = files.load(files.text(**changes)).warnings
    assert found.warning
    assert warning in str(found)
    assert found.line


def test_behind_trusted_proxies_the_auth_service_may_get_what_they_tell(files: Files) -> None:
    text = files.text(session__forward__request_headers="[Authorization, X-Forwarded-For]", server__trusted_proxies="[10.0.0.0/8]")
    assert files.load(text).warnings == ()


@pytest.mark.parametrize("host", ["127.0.0.1:1", "[::1]:1", "localhost", "127.9.9.9"])
def test_introspection_on_this_machine_may_be_unencrypted(files: Files, host: str) -> None:
    given = INTROSPECTION.replace("https://idp.internal", f"'http://{host}").replace("introspect,", "introspect',")
    assert files.load(files.text(session__forward=None, session__introspection=given)).warnings == ()


def test_the_ladder_is_session_queue_connect_timeout(files: Files) -> None:
    config = files.load(files.text()).config
    assert deadline_ladder(config) == (
        Step("session.forward.timeout", Duration(2)),
        Step("alipayplus.queue_timeout", Duration(1)),
        Step("alipayplus.connect_timeout", Duration(3)),
        Step("alipayplus.timeout", Duration(12)),
    )
    assert longest_request(config) == Duration(18)


def test_the_ladder_takes_introspection_where_it_is_configured(files: Files) -> None:
    config = files.load(files.text(session__forward=None, session__introspection=INTROSPECTION)).config
    assert deadline_ladder(config)[0] == Step("session.introspection.timeout", Duration(2))
