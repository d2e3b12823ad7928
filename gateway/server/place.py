"""What the supervisor holds open for a configuration: the clients' listeners, the operators' socket, the pid file."""

import socket
from dataclasses import dataclass
from typing import Self

from gateway.config import Address, Config
from gateway.server.cpus import worker_count
from gateway.server.inherited import Inherited
from gateway.server.pid_file import PidFile
from gateway.server.sockets import Listeners, open_address, open_listeners


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """All of it, open. What two configurations have in common, their places share."""

    listeners: Listeners
    admin_address: Address
    admin: socket.socket
    pid_file: PidFile | None

    @classmethod
    def open(cls, config: Config, inherited: Inherited, former: Self | None = None) -> Self:
        """Open what `former` has not. Raises CannotListen and CannotHold, and then nothing has changed."""
        listeners = _listeners(config, inherited, former)
        is_kept = former is not None and former.admin_address == config.admin.listen
        admin = None
        try:
            admin = former.admin if former is not None and is_kept else _admin(config.admin.listen, former)
            pid_file = _pid_file(config, former)
        except Exception:
            listeners.close(but=former.listeners if former is not None else None)
            if admin is not None and not is_kept:
                admin.close()
            raise
        return cls(listeners, config.admin.listen, admin, pid_file)

    @property
    def admin_name(self) -> str:
        """The operators' address as people write it, with the port that the system chose in place of 0."""
        return str(Address(self.admin_address.host, self.admin.getsockname()[1]))

    def close(self, *, but: Self | None = None) -> None:
        """Close and remove all that `but` does not have too."""
        self.listeners.close(but=but.listeners if but is not None else None)
        if but is None or self.admin is not but.admin:
            self.admin.close()
        if self.pid_file is not None and (but is None or self.pid_file is not but.pid_file):
            self.pid_file.release()


def _listeners(config: Config, inherited: Inherited, former: Place | None) -> Listeners:
    server = config.server
    opening = former.listeners.reopen if former is not None else open_listeners
    return opening(server.listen, slots=worker_count(server.workers), unix_mode=int(server.unix_mode, 8), inherited=inherited)


def _admin(address: Address, former: Place | None) -> socket.socket:
    """Listen for operators. Where the port stays, the former socket is still open: an address that covers its own is joined to it."""
    return open_address(address, is_first=former is None or former.admin.getsockname()[1] != address.port)


def _pid_file(config: Config, former: Place | None) -> PidFile | None:
    file = config.server.pid_file
    if file is None:
        return None
    held = former.pid_file if former is not None else None
    return held if held is not None and held.file == file and held.is_current() else PidFile(file)
