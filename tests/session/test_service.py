import asyncio
import os
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import GatewayError
from gateway.session import Check, Identity, Sessions
from gateway.session.check import Outcome
from tests.session.auth_server import ABORT, WAITING, AuthServer, Clock, Gateway, Received, always, answer, by_token, owner, session, valid
from tests.session.conftest import StartSessions
from tests.upstream.peer import hold_up, until


def ids(checks: list[Check]) -> list[str | None]:
    return [check.identity.customer_id if check.identity else None for check in checks]


async def test_a_valid_login(start: StartSessions) -> None:
    assert await start().bearer() == Check("valid", "call", Identity("user-1"), status=200)


async def test_what_is_sent_holds_the_credential_and_the_ids_of_the_request_only(start: StartSessions, auth: AuthServer) -> None:
    gateway = start(cookies=["sid"])
    await gateway.check(
        ("Host", "app"), ("User-Agent", "x"), ("COOKIE", "a=1; sid=2"), ("X-Customer-Id", "forged"), ("Expect", "100-continue")
    )
    assert auth.received[0].line == b"GET /session?from=gateway HTTP/1.1"
    assert auth.received[0].fields == [
        (b"Host", b"127.0.0.1:%d" % auth.port),
        (b"Accept", b"*/*"),
        (b"Cookie", b"sid=2"),
        (b"X-Request-Id", b"0123456789abcdef"),
        (b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ]


async def test_B1_no_credentials_are_missing_without_a_call(start: StartSessions, auth: AuthServer) -> None:
    gateway = start()
    for headers in ((), (("X-Api-Key", "1"),), (("Authorization", ""),)):
        check = await gateway.check(*headers)
        assert (check.outcome, check.source, check.identity, check.www_authenticate) == ("missing", "none", None, ())
    assert auth.connections == 0


async def test_B1_introspection_without_a_single_bearer_is_missing(start: StartSessions, auth: AuthServer) -> None:
    gateway = start(kind="introspection")
    for headers in (
        (("Cookie", "sid=1"),),
        (("Authorization", "Basic x"),),
        (("Authorization", "Bearer a"), ("Authorization", "Bearer b")),
    ):
        check = await gateway.check(*headers)
        assert (check.outcome, check.source, check.www_authenticate) == ("missing", "none", ("Bearer",))
    assert auth.connections == 0


async def test_B1_credentials_over_8_KiB_are_refused_without_a_call(start: StartSessions, auth: AuthServer) -> None:
    for kind in ("forward", "introspection"):
        with pytest.raises(GatewayError) as refusal:
            await start(kind=kind).bearer("x" * 8192)
        assert (refusal.value.failure.code, refusal.value.failure.http_status) == ("HEADERS_TOO_LARGE", 431)
    assert auth.connections == 0


@pytest.mark.parametrize(
    ("data", "outcome", "challenges"),
    [
        pytest.param(answer(401, {"WWW-Authenticate": 'Bearer realm="x"'}), "denied", ('Bearer realm="x"',), id="B2-401"),
        pytest.param(answer(403), "forbidden", (), id="B2-403"),
        pytest.param(answer(404), "unavailable", (), id="B5-404"),
        pytest.param(answer(429, {"Retry-After": "1"}), "unavailable", (), id="B5-429"),
        pytest.param(answer(500), "unavailable", (), id="B5-500"),
        pytest.param(answer(302, {"Location": "/login"}), "unavailable", (), id="B5-302"),
        pytest.param(answer(200, {}, b"<html>Please log in</html>"), "unavailable", (), id="B6-html"),
        pytest.param(valid("a" * 65), "unavailable", (), id="B6-over-64"),
        pytest.param(answer(200, {"X-Customer-Id": "a\u00e4"}), "unavailable", (), id="B6-not-ascii"),
        pytest.param(ABORT, "unavailable", (), id="B3-reset"),
    ],
)
async def test_every_other_answer(
    start: StartSessions, auth: AuthServer, data: bytes, outcome: Outcome, challenges: tuple[str, ...]
) -> None:
    auth.script = always(data)
    check = await start().bearer()
    assert (check.outcome, check.source, check.identity, check.www_authenticate) == (outcome, "call", None, challenges)
    assert check.reason


KEPT = pytest.mark.parametrize("kept", [False, True], ids=["new-connection", "kept-connection"])


async def begin(gateway: Gateway, auth: AuthServer, *, kept: bool) -> None:
    """Have a kept connection if `kept`, and forget what the auth service got for that; then have it hold its answers back."""
    if kept:
        assert (await gateway.bearer("before")).outcome == "valid"
        await auth.arrived.get()
        auth.received.clear()
    auth.hold.clear()


@KEPT
async def test_B4_a_slow_auth_service_is_unavailable_at_the_deadline(start: StartSessions, auth: AuthServer, *, kept: bool) -> None:
    gateway = start(timeout=0.1)
    await begin(gateway, auth, kept=kept)
    checks = await asyncio.gather(*gateway.several(3))
    assert [(check.outcome, check.reason) for check in checks] == [("unavailable", "the auth service did not answer in time")] * 3
    assert len(auth.received) == 1
    assert not gateway.sessions._flights
    assert gateway.observed[-1] == "timeout"


@KEPT
async def test_B4_an_answer_that_came_in_time_counts_though_the_loop_is_late(start: StartSessions, auth: AuthServer, *, kept: bool) -> None:
    gateway = start(timeout=0.5)
    await begin(gateway, auth, kept=kept)
    (task,) = gateway.several(1)
    await auth.arrived.get()
    (writer,) = auth.writers
    await hold_up(0.5, lambda: os.write(writer.get_extra_info("socket").fileno(), valid()))
    assert ids([await task]) == ["user-1"]
    assert gateway.observed[-1] == "ok"


async def test_B4_a_repeat_has_what_is_left_of_the_time(start: StartSessions, auth: AuthServer) -> None:
    clock = Clock()
    gateway = start(timeout=WAITING, clock=clock)
    await begin(gateway, auth, kept=True)
    (task,) = gateway.several(1)
    await auth.arrived.get()
    clock.now += WAITING - 0.05
    auth.reset_connections()
    check = await asyncio.wait_for(task, WAITING / 2)  # a repeat that had all of the time would have twice as much
    assert (check.outcome, check.reason) == ("unavailable", "the auth service did not answer in time")
    assert gateway.observed == ["ok", "error", "timeout"]


async def test_B7_a_call_whose_time_was_up_does_not_hide_the_one_that_took_its_place(start: StartSessions, auth: AuthServer) -> None:
    clock = Clock()
    gateway = start(timeout=WAITING, clock=clock)
    await begin(gateway, auth, kept=True)

    async def ask_twice() -> tuple[Check, Check]:
        return await gateway.bearer(), await gateway.bearer()

    asked = asyncio.create_task(ask_twice())
    await auth.arrived.get()
    (late,) = gateway.sessions._flights.values()
    clock.now += WAITING - 0.05
    auth.reset_connections()
    await late.join()
    await asyncio.wait(gateway.sessions._tasks, return_when=asyncio.FIRST_COMPLETED)  # the late one; the other is not answered yet
    (shared,) = gateway.several(1)
    auth.hold.set()
    assert [(check.outcome, check.source) for check in await asked] == [("unavailable", "call"), ("valid", "call")]
    assert ((await shared).outcome, (await shared).source) == ("valid", "shared")


async def test_B4_waiting_for_a_place_counts(start: StartSessions, auth: AuthServer) -> None:
    gateway = start(timeout=0.05, max_in_flight=1)
    limiter = gateway.sessions._peer._limiter
    await limiter.acquire(0)
    check = await gateway.bearer()
    limiter.release()
    assert (check.outcome, check.reason) == ("unavailable", "no place among max_in_flight in time")
    assert auth.connections == 0
    assert (await gateway.bearer()).outcome == "valid"


async def test_B4_connecting_counts(start: StartSessions, auth: AuthServer) -> None:
    check = await start(url=f"https://127.0.0.1:{auth.port}/", timeout=0.05).bearer()  # a server that never answers the TLS handshake
    assert check.outcome == "unavailable"
    assert auth.received == []


async def test_B4_no_more_than_max_in_flight_are_asked_at_once_and_the_others_follow(start: StartSessions, auth: AuthServer) -> None:
    auth.script = by_token
    auth.hold.clear()
    gateway = start(timeout=WAITING, max_in_flight=2)
    tasks = [asyncio.create_task(gateway.bearer(f"t{number}")) for number in range(5)]
    for _ in range(2):
        await auth.arrived.get()
    assert gateway.sessions._peer._limiter.waiting == 3
    assert len(auth.received) == 2
    auth.hold.set()
    assert ids(await asyncio.gather(*tasks)) == [f"id-of-t{number}" for number in range(5)]
    assert auth.connections == 2


async def test_B4_checks_for_sdk_calls_do_not_wait_behind_all_those_for_the_api(start: StartSessions, auth: AuthServer) -> None:
    auth.hold.clear()
    gateway = start(timeout=WAITING, max_in_flight=1)
    tasks = [asyncio.create_task(gateway.bearer(f"api-{number}", "api")) for number in range(4)]
    await auth.arrived.get()
    tasks.append(asyncio.create_task(gateway.bearer("sdk", "sdk")))
    await until(lambda: gateway.sessions._peer._limiter.waiting == 4)
    auth.hold.set()
    await asyncio.gather(*tasks)
    assert [owner(received) for received in auth.received] == ["id-of-api-0", "id-of-sdk", "id-of-api-1", "id-of-api-2", "id-of-api-3"]


async def test_B4_an_answer_that_comes_too_late_is_nobodys(start: StartSessions, auth: AuthServer) -> None:
    auth.script = by_token
    auth.hold.clear()
    gateway = start(timeout=0.05)
    assert (await gateway.bearer("alice")).outcome == "unavailable"
    auth.hold.set()
    assert ids([await gateway.bearer("bob"), await gateway.bearer("alice")]) == ["id-of-bob", "id-of-alice"]


async def test_B7_500_at_once_share_one_call(start: StartSessions, auth: AuthServer) -> None:
    auth.hold.clear()
    gateway = start(timeout=WAITING)
    tasks = gateway.several(500)
    await auth.arrived.get()
    auth.hold.set()
    checks = await asyncio.gather(*tasks)
    assert ids(checks) == ["user-1"] * 500
    assert sorted(check.source for check in checks) == ["call"] + ["shared"] * 499
    assert len(auth.received) == 1


async def test_B7_a_failure_is_shared_by_those_who_wait_and_not_kept(start: StartSessions, auth: AuthServer) -> None:
    auth.script = always(answer(500, {"Cache-Control": "max-age=60"}))
    auth.hold.clear()
    gateway = start(timeout=WAITING, cache={"ttl": 60, "negative_ttl": 60})
    tasks = gateway.several(500)
    await auth.arrived.get()
    auth.hold.set()
    assert {check.outcome for check in await asyncio.gather(*tasks)} == {"unavailable"}
    assert len(auth.received) == 1
    auth.script = always(valid())
    assert (await gateway.bearer()).outcome == "valid"


async def test_who_comes_after_the_verdict_asks_anew(start: StartSessions, auth: AuthServer) -> None:
    gateway = start()
    assert [(await gateway.bearer()).source for _ in range(3)] == ["call"] * 3
    assert len(auth.received) == 3


@KEPT
@pytest.mark.parametrize("leaving", [0, 1], ids=["the-first", "a-later-one"])
async def test_a_caller_that_leaves_does_not_fail_the_others(start: StartSessions, auth: AuthServer, leaving: int, *, kept: bool) -> None:
    gateway = start(timeout=WAITING)
    await begin(gateway, auth, kept=kept)
    tasks = gateway.several(3)
    await auth.arrived.get()
    tasks.pop(leaving).cancel()
    late = gateway.several(1)
    auth.hold.set()
    assert {check.outcome for check in await asyncio.gather(*tasks, *late)} == {"valid"}
    assert len(auth.received) == 1


@KEPT
async def test_a_call_that_everybody_left_is_finished_and_its_verdict_kept(start: StartSessions, auth: AuthServer, *, kept: bool) -> None:
    gateway = start(timeout=WAITING, cache={"ttl": 60})
    await begin(gateway, auth, kept=kept)
    tasks = gateway.several(2)
    await auth.arrived.get()
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    (flight,) = gateway.sessions._flights.values()
    end = asyncio.create_task(flight.join())
    auth.hold.set()
    await end
    assert (await gateway.bearer()).source == "cache"
    assert len(auth.received) == 1


@KEPT
async def test_what_is_under_way_at_the_end_is_unavailable(start: StartSessions, auth: AuthServer, *, kept: bool) -> None:
    gateway = start(timeout=WAITING)
    await begin(gateway, auth, kept=kept)
    tasks = gateway.several(2)
    await auth.arrived.get()
    await gateway.sessions.close()
    checks = await asyncio.gather(*tasks)
    assert {(check.outcome, check.reason) for check in checks} == {("unavailable", "the gateway is closing")}
    assert (await gateway.bearer()).outcome == "unavailable"


def broken(_endpoint: str, _outcome: str) -> None:
    raise ZeroDivisionError


@KEPT
async def test_a_bug_fails_those_who_wait_and_nothing_stays(start: StartSessions, *, kept: bool) -> None:
    gateway = start(observe=broken)
    if kept:
        with pytest.raises(ZeroDivisionError):
            await gateway.bearer()
    for result in await asyncio.gather(*gateway.several(3), return_exceptions=True):
        assert isinstance(result, ZeroDivisionError)
    assert not gateway.sessions._flights


@KEPT
async def test_a_bug_that_nobody_waits_for_is_told_to_the_loop(start: StartSessions, auth: AuthServer, *, kept: bool) -> None:
    told: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: told.put_nowait(context))
    gateway = start(timeout=WAITING, observe=broken)
    if kept:
        with pytest.raises(ZeroDivisionError):
            await gateway.bearer()
        await auth.arrived.get()
    auth.hold.clear()
    (task,) = gateway.several(1)
    await auth.arrived.get()
    task.cancel()
    await asyncio.wait([task])
    auth.hold.set()
    assert isinstance((await told.get())["exception"], ZeroDivisionError)


async def test_G13_user_B_after_user_A_on_one_connection(start: StartSessions, auth: AuthServer) -> None:
    auth.script = by_token
    gateway = start(cache={"ttl": 60})
    users = ["alice", "bob", "alice", "Alice", "alic", "alice ", "alice  ", "bob"]
    assert ids([await gateway.bearer(user) for user in users]) == [f"id-of-{user}".rstrip() for user in users]
    assert auth.connections == 1


def test_B9_keys_differ_from_process_to_process() -> None:
    config = session({"url": "http://127.0.0.1/", "customer_id": {"header": "X-Customer-Id"}})
    assert Sessions(config)._hash(b"x") != Sessions(config)._hash(b"x")


def test_neither_way_configured_is_refused() -> None:
    with pytest.raises(ValueError, match="one of forward and introspection"):
        Sessions(session({}, kind="cache"))


steps = st.lists(st.lists(st.sampled_from(["alice", "alic", "Alice", "bob", "bob;", "carol"]), max_size=12), min_size=1, max_size=4)


@settings(deadline=None, max_examples=25)
@given(steps, st.randoms(use_true_random=False), st.booleans())
def test_B10_the_id_always_belongs_to_the_credential(rounds: list[list[str]], rand: random.Random, cached: bool) -> None:  # noqa: FBT001
    asyncio.run(_many_users(rounds, rand, cached=cached))


async def _many_users(rounds: list[list[str]], rand: random.Random, *, cached: bool) -> None:
    """Many users at once, again and again; the auth service answers them in a random order, sometimes not at all."""
    auth = AuthServer()
    await auth.start()

    async def script(received: Received) -> bytes:
        for _ in range(rand.randrange(20)):
            await asyncio.sleep(0)
        return rand.choices([valid(owner(received)), answer(401), answer(500), ABORT], [12, 1, 1, 1])[0]

    auth.script = script
    url = f"http://127.0.0.1:{auth.port}/"
    cache = {"ttl": 60, "max_entries": 2} if cached else {}
    sessions = Sessions(session({"url": url, "customer_id": {"header": "X-Customer-Id"}, "max_in_flight": 4, "timeout": 60}, cache=cache))
    gateway = Gateway(auth, sessions, [])
    for users in rounds:
        checks = await asyncio.gather(*(gateway.bearer(user) for user in users))
        for user, check in zip(users, checks, strict=True):
            assert (check.identity == Identity(f"id-of-{user}")) == (check.outcome == "valid")
    await sessions.close()
    await auth.stop()


async def test_B10_fifty_users_ten_times_each(start: StartSessions, auth: AuthServer) -> None:
    rand = random.Random(1)

    async def script(received: Received) -> bytes:
        for _ in range(rand.randrange(50)):
            await asyncio.sleep(0)
        return valid(owner(received))

    auth.script = script
    gateway = start(timeout=WAITING, max_in_flight=20, cache={"ttl": 60, "max_entries": 25})
    users = [f"user-{number}" for number in range(50)] * 10
    rand.shuffle(users)
    checks = await asyncio.gather(*(gateway.bearer(user) for user in users))
    assert ids(checks) == [f"id-of-{user}" for user in users]
