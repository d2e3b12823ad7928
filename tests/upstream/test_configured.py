import ssl
from pathlib import Path
from typing import Any

import pytest

from gateway.config import model
from gateway.config.values import Duration
from gateway.upstream.cluster import Full, Outcome
from gateway.upstream.configured import alipayplus_cluster, api_cluster
from tests.upstream.clusters import Seen, Wallet, ask, names, refusing, use
from tests.upstream.peer import StartPeer, until


async def test_an_api_upstream_is_built_as_configured(start_peer: StartPeer, tmp_path: Path) -> None:
    path = tmp_path / "wallet.sock"
    peer, spare = await start_peer(Wallet()), await start_peer(Wallet(), path=path)
    assert spare is not peer
    config = model.Upstream(
        servers=(model.UpstreamServer(url=peer.url, weight=3), model.UpstreamServer(url=f"unix:{path}", backup=True)),
        balance="round_robin",
        connections=2,
        connect_timeout=Duration(0.5),
        retries=model.Retries(attempts=1),
        health_check=model.HealthCheck(path="/healthz", unhealthy=2),
    )
    seen = Seen()
    async with api_cluster("wallet", config, seen) as cluster:
        leases = [await cluster.acquire() for _ in range(4)]
        shown = cluster.status()
        assert shown.name == "wallet"
        assert [(each.name, each.weight, each.backup, each.in_flight) for each in shown.endpoints] == [
            (f"127.0.0.1:{peer.port}", 3, False, 2),
            (f"unix:{path}", 1, True, 2),
        ]
        with pytest.raises(Full):
            await cluster.acquire()
        for lease in leases:
            cluster.release(lease, "ok")
        await until(lambda: any(b"/healthz" in call.received for call in peer.calls))
        assert all(endpoint.idle for endpoint in cluster.status().endpoints)


def alipayplus(**changes: Any) -> model.Alipayplus:
    return model.Alipayplus(
        client_id="C",
        host=("https://one.example",),
        signing=model.Signing(key_version="1", private_keys={}),
        verification=model.Verification(public_keys={}),
        **changes,
    )


async def test_C1_the_hosts_of_alipayplus_are_tried_in_their_order(start_peer: StartPeer) -> None:
    peers = [await start_peer(Wallet()) for _ in range(2)]
    seen = Seen()
    context = ssl.create_default_context()
    with refusing() as dead:
        async with alipayplus_cluster([dead, *(peer.url for peer in peers)], alipayplus(), context, seen) as cluster:
            assert [await ask(cluster) for _ in range(6)] == [names(peers)[0]] * 6
            assert seen.requests[dead.removeprefix("http://"), "unreachable"] == 5, "then it is ejected"
            assert [state for _, state, _ in seen.turns] == ["ejected"]
            assert seen.turns[0][2] == "connection refused"


@pytest.mark.parametrize("outcome", ["ok", "timeout", "invalid"])
async def test_C8_what_alipayplus_answers_or_how_late_ejects_no_host(start_peer: StartPeer, outcome: Outcome) -> None:
    peers = [await start_peer(Wallet()) for _ in range(2)]
    seen = Seen()
    async with alipayplus_cluster([peer.url for peer in peers], alipayplus(), ssl.create_default_context(), seen) as cluster:
        for _ in range(20):
            assert await use(cluster, outcome) == names(peers)[0]
    assert seen.turns == []
    assert sum(len(call.received) for peer in peers for call in peer.calls) == 0, "there is no probe"
