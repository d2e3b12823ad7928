from pathlib import Path

import pytest

from tests.commands.conftest import Command

API = """
api:
  upstreams:
    wallet: {servers: [http://127.0.0.1:8082, http://127.0.0.1:8083]}
    public: {servers: unix:run/public.sock, host_header: upstream}
  routes:
    - {prefix: /, upstream: wallet}
    - prefix: /pub
      upstream: public
      session: none
      strip_prefix: true
      max_body: 1MiB
      request_headers: {set: {X-Gateway: alipayplus}, add: {X-Via: gateway}, remove: [X-Debug]}
      response_headers: {remove: [Server]}
"""


@pytest.fixture
def file(tmp_path: Path, key_files: Path) -> Path:
    file = tmp_path / "gateway.yaml"
    file.write_text(
        "session: {forward: {url: http://127.0.0.1:8081/, customer_id: {header: X-Auth-Id}, forward_headers: [X-Tier]}}\n"
        "alipayplus:\n"
        "  client_id: T\n"
        "  host: https://alipayplus.example\n"
        f'  signing: {{key_version: "1", private_keys: {{"1": {key_files / "private.pem"}}}}}\n'
        f'  verification: {{public_keys: {{"1": {key_files / "other-public.pem"}}}}}\n' + API
    )
    return file


def test_explains_the_route_the_session_rule_and_what_would_be_sent(command: Command, file: Path) -> None:
    outcome = command("routes -c", file, "GET", "https://api.example/pub/a%20b?x=1")
    assert outcome.code == 0
    assert outcome.out.splitlines() == [
        "outcome: route",
        "route: /pub",
        "upstream: public",
        "session: none",
        "sent: GET /a%20b?x=1",
        "login: not checked",
        f"servers: unix:{file.parent}/run/public.sock",
        "host: the name of the server",
        "largest body: 1MiB",
        "removed from the request, in every spelling: X-Auth-Id, X-Customer-Id, X-Tier",
        "written anew: X-Forwarded-For, X-Forwarded-Proto, X-Forwarded-Host, X-Real-IP, X-Request-Id, traceparent, tracestate",
        "request header removed: X-Debug",
        "request header set: X-Gateway: alipayplus",
        "request header added: X-Via: gateway",
        "answer header removed: Server",
    ]


def test_shows_no_header_value_that_is_taken_from_elsewhere(command: Command, file: Path) -> None:
    (file.parent / "token").write_text("hunter2")
    file.write_text(file.read_text().replace("X-Gateway: alipayplus", "X-Token: 'Basic ${file:token}'"))
    assert "request header set: X-Token: ***" in command("routes -c", file, "GET", "https://api.example/pub/").out.splitlines()


def test_explains_who_gets_the_identity(command: Command, file: Path) -> None:
    lines = command("routes -c", file, "POST", "/wallet").out.splitlines()
    assert "route: /" in lines
    assert "login: without a valid login it is answered with 401" in lines
    assert "set by the login: X-Customer-Id, X-Tier" in lines
    assert "host: as the client sent it" in lines


@pytest.mark.parametrize(
    ("method", "url", "first"),
    [
        ("POST", "/alipayplus/v1/sdkProxy", "outcome: sdk"),
        ("GET", "/pub/..%2fwallet", "outcome: REQUEST_MALFORMED"),
        ("CONNECT", "/pub", "outcome: METHOD_NOT_ALLOWED"),
    ],
)
def test_explains_what_takes_no_route(command: Command, file: Path, method: str, url: str, first: str) -> None:
    outcome = command("routes -c", file, method, url)
    assert (outcome.code, outcome.out.splitlines()[0]) == (0, first)


@pytest.mark.parametrize(
    ("method", "path", "answer"),
    [
        ("POST", "/alipayplus/v1/sdkProxy?x=1", []),
        ("GET", "/alipayplus/v1/sdkProxy", ["answer: 405 METHOD_NOT_ALLOWED; SDK requests are POST"]),
        ("POST", "/alipayplus/v1/sdkProxy/", ["answer: 404 NOT_FOUND; the one SDK path is /alipayplus/v1/sdkProxy"]),
        ("GET", "/alipayplus/v2/sdkProxy", ["answer: 404 NOT_FOUND; the one SDK path is /alipayplus/v1/sdkProxy"]),
    ],
)
def test_says_what_is_wrong_with_an_sdk_request(command: Command, file: Path, method: str, path: str, answer: list[str]) -> None:
    lines = command("routes -c", file, method, f"https://api.example{path}").out.splitlines()
    assert lines == ["outcome: sdk", "reason: below the SDK prefix", "session: required", *answer]


def test_a_faulty_configuration_is_not_explained(command: Command, file: Path) -> None:
    file.write_text(
        file.read_text().replace("prefix: /pub", "prefix: /pub/../x").replace("set: {X-Gateway", "set: {X-Request-Id: a, X-Tier")
    )
    outcome = command("routes -c", file, "GET", "/")
    assert outcome.code == 3
    assert "api.routes[1].prefix: write a path such as /wallet" in outcome.err
    assert "api.routes[1].request_headers: X-Tier is the gateway's own" in outcome.err


def test_a_method_that_no_route_ever_gets_is_wrong_usage(command: Command, file: Path) -> None:
    outcome = command("routes -c", file, "BREW", "/pub")
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err == "gateway: METHOD: not known here: no route ever gets a request with this method\n"


@pytest.mark.parametrize("method", ["get", "G T", "", "GET\n", "G\u00c9T"])
def test_what_is_no_method_is_wrong_usage(command: Command, file: Path, method: str) -> None:
    outcome = command("routes -c", file, method, "/pub")
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err == "gateway: METHOD: not of the right form: write a method in capitals, such as GET\n"
