"""Ray on the loopback interface, where it otherwise listens on all of them."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from ray._private import ray_constants
from ray._private.services import node_ip_address_from_perspective

_CONNECT_SECONDS = 3.0


def choose_interface(address: str) -> None:
    """Make the coming `ray.init` use 127.0.0.1 if Ray starts on this machine, or its cluster listens there alone.

    Ray has one switch for both, meant for desktops whose firewall would ask. It is read when Ray is imported, and by
    Ray's own processes when they start; so it is set in both places.

    Args:
        address: What `ray.init` will be given: `local`, or where a cluster is.
    """
    loopback = address == "local" or _listens_on_loopback_alone(address)
    ray_constants.ENABLE_RAY_CLUSTER = not loopback
    if loopback:
        os.environ[ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR] = "0"
    else:
        os.environ.pop(ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR, None)


def guard_token() -> None:
    """Let nobody else read the token that Ray keeps in the home folder; Ray leaves that to the umask."""
    token = Path.home() / ".ray" / "auth_token"
    try:
        if token.stat().st_uid == os.getuid() and token.stat().st_mode & 0o077:
            token.chmod(0o600)
    except OSError:  # there is none, or somebody else looks after it
        pass


def _listens_on_loopback_alone(address: str) -> bool:
    host, _, port = address.rpartition(":")
    if host not in ("127.0.0.1", "localhost", "[::1]") or not port.isdigit():
        return False
    try:
        socket.create_connection((node_ip_address_from_perspective(), int(port)), _CONNECT_SECONDS).close()
    except OSError:
        return True
    return False
