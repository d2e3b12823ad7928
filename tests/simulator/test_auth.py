import json
from base64 import b64encode
from typing import Any

import aiohttp
import pytest

from gateway.simulator import Login, Simulator
from gateway.simulator.auth import AS_IS, Auth, at_pointer, credential, customer_of
from gateway.simulator.delivery import Answer
from gateway.simulator.wire import Request

BASIC = "Basic " + b64encode(b"gateway:demo-secret").decode()


def ask(headers: dict[str, str], login: Login = AS_IS, *, auth: Auth | None = None, target: str = "/session") -> Answer:
    return (auth or Auth())(Request("GET", target, tuple(headers.items())), lambda: login).answer


def introspect(body: str, authorization: str = BASIC, login: Login = AS_IS, method: str = "POST") -> tuple[int, dict[str, Any]]:
    request = Request(method, "/introspect", (("Authorization", authorization),), body.encode())
    answer = Auth(now=lambda: 1000.5)(request, lambda: login).answer
    return answer.status, json.loads(answer.body or b"{}")


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer demo-token-alice"},
        {"authorization": "bearer  demo-token-alice"},
        {"Cookie": "sid=demo-token-alice"},
        {"Cookie": "a=b; sid=demo-token-alice;c=d"},
        {"Authorization": "Bearer demo-token-alice", "Cookie": "sid=demo-token-bob"},
    ],
)
def test_a_known_credential_gives_the_customer_in_header_and_body(headers: dict[str, str]) -> None:
    answer = ask(headers)
    assert answer.status == 200
    assert dict(answer.headers) == {"X-Customer-Id": "customer-alice", "X-Customer-Tier": "gold", "Content-Type": "application/json"}
    assert json.loads(answer.body) == {"user": {"customerId": "customer-alice"}}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer other"},
        {"Authorization": "Bearer "},
        {"Authorization": "Basic demo-token-alice"},
        {"Authorization": "Bearer demo-token-"},
        {"Authorization": "Bearer demo-token-a b"},
        {"Cookie": "other=demo-token-alice"},
        {"Cookie": "sid=demo-token-a; sid=demo-token-b"},
    ],
)
def test_any_other_credential_is_401_with_a_challenge(headers: dict[str, str]) -> None:
    answer = ask(headers)
    assert (answer.status, answer.headers) == (401, (("WWW-Authenticate", 'Bearer realm="wallet"'),))


def test_other_paths_are_404() -> None:
    assert ask({}, target="/").status == 404


def test_a_query_does_not_change_the_path() -> None:
    assert ask({"Authorization": "Bearer demo-token-a"}, target="/session?x=y").status == 200


def test_a_scripted_status_is_all_that_is_answered() -> None:
    answer = ask({"Authorization": "Bearer demo-token-a"}, Login(status=200, headers=(("X-Customer-Id", "\x7f"),), text="x"))
    assert (answer.status, answer.headers, answer.body) == (200, (("X-Customer-Id", "\x7f"),), b"x")


def test_a_scripted_customer_is_answered_whatever_the_credential() -> None:
    answer = ask({}, Login(customer_id="c" * 65, headers=(("Cache-Control", "max-age=5"),)))
    assert dict(answer.headers)["X-Customer-Id"] == "c" * 65
    assert dict(answer.headers)["Cache-Control"] == "max-age=5"


def test_a_scripted_customer_may_have_no_id() -> None:
    answer = ask({"Authorization": "Bearer demo-token-a"}, Login(customer_id=""))
    assert (answer.status, dict(answer.headers)["X-Customer-Id"]) == (200, "")
    assert introspect("token=demo-token-a", login=Login(customer_id=""))[1]["sub"] == ""


def test_header_and_pointer_are_as_configured() -> None:
    answer = ask({"Authorization": "Bearer demo-token-a"}, auth=Auth(id_header="X-Id", id_pointer="/a~1b/~0"))
    assert dict(answer.headers)["X-Id"] == "customer-a"
    assert json.loads(answer.body) == {"a/b": {"~": "customer-a"}}


def test_introspection_of_a_known_token() -> None:
    status, document = introspect("token=demo-token-alice&token_type_hint=access_token")
    assert status == 200
    assert document["active"] is True
    assert (document["sub"], document["exp"]) == ("customer-alice", 4600)


def test_introspection_says_when_a_scripted_token_ends() -> None:
    assert introspect("token=demo-token-alice", login=Login(expires_in=-1))[1]["exp"] == 999


@pytest.mark.parametrize("token", ["other", "", "demo-token-a%20b"])
def test_introspection_of_an_unknown_token_is_inactive(token: str) -> None:
    assert introspect(f"token={token}") == (200, {"active": False})


@pytest.mark.parametrize("authorization", ["", "Basic", "Basic !", "Bearer x", "Basic " + b64encode(b"gateway:other").decode()])
def test_introspection_without_the_right_client_credentials_is_401(authorization: str) -> None:
    assert introspect("token=demo-token-alice", authorization)[0] == 401


def test_client_credentials_are_form_encoded() -> None:
    auth = Auth(client_id="the gateway", client_secret="a+b/c=:%\u00e9")
    authorization = "Basic " + b64encode(b"the+gateway:a%2Bb%2Fc%3D%3A%25%C3%A9").decode()
    request = Request("POST", "/introspect", (("Authorization", authorization),), b"token=demo-token-alice")
    assert auth(request, lambda: AS_IS).answer.status == 200


def test_introspection_is_a_post_with_one_token() -> None:
    assert introspect("")[0] == 400
    assert introspect("token=a&token=b")[0] == 400
    assert introspect("token=demo-token-a", method="GET")[0] == 405


def test_pointers_make_objects() -> None:
    assert at_pointer("/sub", "x") == {"sub": "x"}
    assert at_pointer("", "x") == {}


def test_no_credential_is_no_customer() -> None:
    assert customer_of(credential(Request("GET", "/session", ()))) is None


async def test_it_serves_and_keeps_what_it_received(simulator: Simulator, http: aiohttp.ClientSession) -> None:
    url = f"http://localhost:{simulator.auth.port}/session"
    async with http.get(url, headers={"Authorization": "Bearer demo-token-alice"}) as response:
        assert (response.status, response.headers["X-Customer-Id"]) == (200, "customer-alice")
    simulator.auth.script(Login(drop="after_reading"))
    with pytest.raises(aiohttp.ClientError):
        await http.post(url)
    assert [entry.method for entry in simulator.auth.received] == ["GET", "POST"]
    assert simulator.auth.received[0].get("authorization") == "Bearer demo-token-alice"
