"""Choice of the network interface on which Ray listens: loopback only, or all."""

from __future__ import annotations

import socket
from pathlib import Path

from ipgl.core.private_apis import set_ray_loopback

_CONNECT_SECONDS = 3.0


def choose_interface(address: str) -> None:
    """Make the next `ray.init` use 127.0.0.1 if it starts Ray on this machine, or if the cluster listens only there.

    Args:
        address: The address for `ray.init`: `local`, or that of a cluster.
    """
    set_ray_loopback(address == "local" or _listens_on_loopback_alone(address))


def guard_token() -> None:
    """Make Ray's token in the home folder readable for its owner only; Ray leaves its mode to the umask."""
    token = Path.home() / ".ray" / "auth_token"
    try:
        if token.stat().st_mode & 0o077:
            token.chmod(0o600)
    except OSError:  # there is none, or it is another user's
        pass


def _listens_on_loopback_alone(address: str) -> bool:
    host, _, port = address.rpartition(":")
    if host not in ("127.0.0.1", "localhost", "[::1]") or not port.isdigit():
        return False
    try:
        socket.create_connection((_own_address(), int(port)), _CONNECT_SECONDS).close()
    except OSError:
        return True
    return False


def _own_address() -> str:
    """This machine's address on the network that leads outside; nothing is sent to find it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("8.8.8.8", 80))
            return str(probe.getsockname()[0])
        except OSError:
            return socket.gethostbyname(socket.gethostname())
