"""A signed Alipay+, an auth service and an MPP API, to run the gateway against. Imported only by the commands and by tests.

async with Simulator(directory, keys=keys) as simulator:
    configuration = simulator.write_configuration({"session": {"cache": {"ttl": "5s"}}})
    simulator.alipayplus.script(Behaviour(code="PROCESS_FAIL"), Behaviour(drop="after_reading"))
    simulator.auth.script(Login(status=500), times=None)
    ...
    await simulator.alipayplus.until_received(2)
"""

from gateway.simulator.auth import Login
from gateway.simulator.behaviour import Behaviour
from gateway.simulator.configuration import Ports
from gateway.simulator.keys import Keys
from gateway.simulator.peer import Received
from gateway.simulator.simulator import Simulator

__all__ = ["Behaviour", "Keys", "Login", "Ports", "Received", "Simulator"]
