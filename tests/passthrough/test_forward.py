import asyncio

from tests.passthrough.rig import StartRig
from tests.upstream.peer import Call, StartPeer


async def hello(call: Call) -> None:
    while True:
        await call.read_request()
        call.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nServer: peer\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n\r\nhello")


async def test_a_request_is_forwarded_and_its_answer_passed_on(start_rig: StartRig, start_peer: StartPeer) -> None:
    peer = await start_peer(hello)
    rig = await start_rig(peer.url)
    client = await rig.connect(b"GET /a%20b?x=1&&y= HTTP/1.1\r\nHost: wallet.example\r\nX-One: 1\r\nCookie: s=1\r\n\r\n")
    head = await client.head()
    assert await client.read(5) == b"hello"
    print(head, peer.calls[0].received)
    (line,) = await rig.ended()
    print(line)
    await asyncio.sleep(0)
