"""What `Sessions` keeps, for how long, and what of it goes first."""

import asyncio

import pytest

from tests.session.auth_server import WAITING, AuthServer, Clock, always, answer, by_token, document, owner, valid
from tests.session.conftest import StartSessions


async def test_without_a_ttl_nothing_is_kept(start: StartSessions, auth: AuthServer) -> None:
    gateway = start(cache={"max_entries": 10})
    assert [(await gateway.bearer()).source for _ in range(2)] == ["call", "call"]
    assert len(auth.received) == 2


async def test_a_verdict_is_kept_for_its_ttl(start: StartSessions, auth: AuthServer) -> None:
    clock = Clock()
    gateway = start(cache={"ttl": 10}, clock=clock, forward_headers=["X-Tier"])
    auth.script = always(valid(X_Tier="gold"))
    first = await gateway.bearer()
    clock.now += 9.9
    kept = await gateway.bearer()
    assert (kept.outcome, kept.source, kept.identity) == ("valid", "cache", first.identity)
    clock.now += 0.1
    assert (await gateway.bearer()).source == "call"


@pytest.mark.parametrize("status", [401, 403])
async def test_B2_a_denial_is_kept_only_as_configured(start: StartSessions, auth: AuthServer, status: int) -> None:
    auth.script = always(answer(status, {"WWW-Authenticate": "Bearer"}))
    clock = Clock()
    for cache, sources in (({"ttl": 60}, ["call", "call"]), ({"negative_ttl": 5}, ["call", "cache"])):
        gateway = start(cache=cache, clock=clock)
        checks = [await gateway.bearer() for _ in range(2)]
        assert [check.source for check in checks] == sources
        assert checks[0].www_authenticate == checks[1].www_authenticate
    clock.now += 5
    assert (await gateway.bearer()).source == "call"


async def test_B8_revoked_while_cached_is_denied_within_ttl(start: StartSessions, auth: AuthServer) -> None:
    clock = Clock()
    gateway = start(cache={"ttl": 10}, clock=clock)
    await gateway.bearer()
    auth.script = always(answer(401))
    clock.now += 9
    assert (await gateway.bearer()).outcome == "valid"
    clock.now += 1
    assert (await gateway.bearer()).outcome == "denied"


async def test_B8_ttl_runs_from_the_start_of_the_call(start: StartSessions, auth: AuthServer) -> None:
    clock = Clock()
    gateway = start(timeout=WAITING, cache={"ttl": 10}, clock=clock)
    auth.hold.clear()
    tasks = gateway.several(1)
    await auth.arrived.get()
    clock.now += 4
    auth.hold.set()
    await asyncio.gather(*tasks)
    clock.now += 5.9
    assert (await gateway.bearer()).source == "cache"
    clock.now += 0.1
    assert (await gateway.bearer()).source == "call"


@pytest.mark.parametrize("seconds", [-3600.0, 3600.0], ids=["F6-back", "F6-ahead"])
async def test_a_jump_of_the_wall_clock_changes_nothing(start: StartSessions, auth: AuthServer, seconds: float) -> None:
    clock, wall_clock = Clock(), Clock(1_800_000_000.0)
    auth.script = always(document({"active": True, "sub": "user-1", "exp": 1_800_000_030}))
    gateway = start(kind="introspection", cache={"ttl": 60}, clock=clock, wall_clock=wall_clock)
    await gateway.bearer()
    wall_clock.now += seconds
    clock.now += 29.9
    assert (await gateway.bearer()).source == "cache"
    clock.now += 0.1
    assert (await gateway.bearer()).source == "call"


async def test_Cache_Control_of_the_answer_shortens(start: StartSessions, auth: AuthServer) -> None:
    clock = Clock()
    gateway = start(cache={"ttl": 60}, clock=clock)
    auth.script = always(valid(Cache_Control="private, max-age=5"))
    await gateway.bearer()
    clock.now += 4.9
    assert (await gateway.bearer()).source == "cache"
    clock.now += 0.1
    auth.script = always(valid(Cache_Control="no-store"))
    assert [(await gateway.bearer()).source for _ in range(2)] == ["call", "call"]


async def test_B9_a_flood_of_credentials_leaves_a_bounded_cache_of_hashes(start: StartSessions, auth: AuthServer) -> None:
    auth.script = by_token
    gateway = start(cache={"ttl": 60, "max_entries": 10})
    for number in range(50):
        await gateway.bearer("regular")
        await gateway.bearer(f"secret-{number}")
    cache = gateway.sessions._cache
    assert cache is not None
    assert len(cache) == 10
    assert {len(key) for key in cache._entries} == {16}
    assert not any(b"secret" in key for key in cache._entries)
    assert sum(owner(received) == "id-of-regular" for received in auth.received) == 1
    assert (await gateway.bearer("secret-0")).source == "call"
    assert not gateway.sessions._flights


async def test_where_memory_is_short_what_was_used_the_longest_ago_is_forgotten(start: StartSessions) -> None:
    gateway = start(cache={"ttl": 60})
    for token in ("a", "b"):
        await gateway.bearer(token)
    gateway.sessions.forget_half()
    assert [(await gateway.bearer(token)).source for token in ("b", "a")] == ["cache", "call"]


async def test_without_a_cache_there_is_nothing_to_forget(start: StartSessions) -> None:
    gateway = start()
    gateway.sessions.forget_half()
    assert (await gateway.bearer()).source == "call"
