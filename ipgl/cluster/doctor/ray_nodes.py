"""Collection of facts about the nodes of a Ray cluster, by one temporary actor on each."""

from __future__ import annotations

import logging
import os
import socket
import time
from dataclasses import replace
from typing import Protocol, TypedDict

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ipgl.cluster.doctor.node import Finding, NodeFacts, Probe
from ipgl.core.errors import ResourceError
from ipgl.execution.loopback import choose_interface
from ipgl.execution.trial_function import quiet_environment

ANSWER_SECONDS = 90
CONNECT_SECONDS = 5


class _Node(TypedDict):
    """What is read of a node of `ray.nodes()`."""

    NodeID: str
    NodeManagerAddress: str
    Alive: bool
    Resources: dict[str, float]


class _RemoteClock(Protocol):
    def remote(self) -> object: ...


class _RemoteObserver(Protocol):
    """What is used of an `_Observer` on another node."""

    clock: _RemoteClock


class _Observer:
    """The actor that runs on a node."""

    def facts(self, probe: Probe, node: str) -> NodeFacts:
        return probe.facts(node)

    def clock(self) -> float:
        return time.time()


def inspect_nodes(address: str, probe: Probe) -> tuple[list[NodeFacts], list[Finding]]:
    """Collect the facts of every node of a cluster.

    Args:
        address: Ray address of the cluster.
        probe: The check of the storage folder, which each node runs.

    Returns:
        The facts of the nodes that answered, and findings about the cluster and the other nodes.

    Raises:
        ResourceError: The cluster cannot be reached.
    """
    _require_listening(address)
    for name, value in quiet_environment().items():
        os.environ.setdefault(name, value)
    choose_interface(address)
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError, RayError) as error:
        raise ResourceError(
            f"cannot use Ray at {address!r}: {' '.join(str(error).split())[:600]}; run the doctor on a node of the "
            "cluster, with its RAY_AUTH_MODE and token, or correct the address"
        ) from None
    try:
        return _ask_all(probe)
    finally:
        ray.shutdown()


def _require_listening(address: str) -> None:
    """Check the connection within seconds; Ray would retry for minutes."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit() or "/" in host:
        return  # `auto`, or a kind of address that Ray has to resolve
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS).close()
    except OSError as error:
        raise ResourceError(
            f"no Ray cluster answers at {address} ({error.strerror or error}); check that it runs (`ray status` on its "
            "head) and that the port is the cluster's own (6379), or leave the address out to look at this machine"
        ) from None


def _ask_all(probe: Probe) -> tuple[list[NodeFacts], list[Finding]]:
    alive = sorted(
        (node for node in ray.nodes() if node["Alive"]),
        key=lambda node: ("node:__internal_head__" not in node["Resources"], node["NodeManagerAddress"]),
    )
    gone = sum(not node["Alive"] for node in ray.nodes())
    total = ray.cluster_resources()
    findings = [
        Finding(
            "cluster",
            "warning" if gone else "ok",
            f"{len(alive)} nodes with {total.get('CPU', 0):g} CPUs and {total.get('GPU', 0):g} GPUs"
            + (f"; {gone} nodes have died since it started" if gone else ""),
            "see why in the dashboard, or `ray status`; trials on them were started again" if gone else "",
        )
    ]
    names = _names(alive)
    observers = {
        names[node["NodeID"]]: ray.remote(_Observer)
        .options(
            num_cpus=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False),
        )
        .remote()
        for node in alive
    }
    asked = {name: observer.facts.remote(probe, name) for name, observer in observers.items()}
    facts = []
    until = time.monotonic() + ANSWER_SECONDS
    for name, answer in asked.items():
        try:
            found = ray.get(answer, timeout=max(1.0, until - time.monotonic()))
            facts.append(replace(found, skew_seconds=_skew(observers[name])))
        except (RayError, GetTimeoutError) as error:
            cause = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            findings.append(
                Finding(
                    "cluster",
                    "error",
                    f"{name} does not run what it is asked: {cause[:300]}",
                    "install the driver's ipgl and Ray there, and look at the node's logs in the dashboard",
                )
            )
    return facts, findings


def _names(nodes: list[_Node]) -> dict[str, str]:
    """A unique name by node id; several nodes may share an address."""
    addresses = [node["NodeManagerAddress"] for node in nodes]
    return {
        node["NodeID"]: f"node {address}"
        if addresses.count(address) == 1
        else f"node {address} ({node['NodeID'][:6]})"
        for node, address in zip(nodes, addresses, strict=True)
    }


def _skew(observer: _RemoteObserver) -> float:
    """The smallest clock skew that explains the answers, in seconds: half of each round trip counts as uncertainty."""
    least = float("inf")
    for _ in range(3):
        before = time.time()
        there = ray.get(observer.clock.remote(), timeout=ANSWER_SECONDS)
        after = time.time()
        skew = there - (before + after) / 2
        excess = max(0.0, abs(skew) - (after - before) / 2)
        if excess < abs(least):
            least = excess if skew > 0 else -excess
    return least
