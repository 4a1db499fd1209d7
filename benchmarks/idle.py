"""What daemons take while nobody asks anything of them: a gateway with two members, and the nodes.

All of a daemon's processes count. The time watched holds two renewals and two checks of each member.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack

from benchmarks.daemons import Daemon, gateway, give_dataset, node, scratch
from benchmarks.machine import cpu_seconds, mapped, tree, usage
from benchmarks.row import Row

SETTLE, WATCH = 36.0, 60.0
"""Seconds. The first renewals and checks are no idleness yet: they load what was never used before."""
FOREIGN = ("libtorch", "numpy", "_multiarray_umath")


def rows(watch: float = WATCH) -> Iterator[Row]:
    with scratch() as folder, ExitStack() as stack:
        listed = stack.enter_context(gateway(folder))
        for name in ("alice", "bob"):
            give_dataset(folder / name, rows=100)
        alice, bob = (stack.enter_context(node(folder, name, gateways=(listed.address,))) for name in ("alice", "bob"))
        warm = stack.enter_context(node(folder, "warm", warm=True))
        time.sleep(SETTLE)
        began = {daemon: cpu_seconds(tree(daemon.pid)) for daemon in (listed, alice, bob)}
        time.sleep(watch)
        spent = {daemon: 100 * (cpu_seconds(tree(daemon.pid)) - cpu) / watch for daemon, cpu in began.items()}
        yield from memory("gateway", "a gateway with 2 members", listed, most=70)
        yield Row("idle.gateway.cpu", f"the same, of a core, over {watch:.0f} s", spent[listed], "%", most=0.05)
        yield from memory("node", "a node without a running job", alice, most=80)
        busiest = max(spent[alice], spent[bob])
        yield Row("idle.node.cpu", f"the same, of a core, over {watch:.0f} s", busiest, "%", most=0.05)
        yield Row("idle.node.processes", "its processes", usage(tree(alice.pid)).processes, "")
        loaded = [word for daemon in (listed, alice, warm) for word in mapped(daemon.pid, *FOREIGN)]
        yield Row("idle.foreign", "daemons' files of torch or numpy in memory", len(loaded), "", most=0)
        parts = usage(tree(warm.pid))
        yield Row("idle.warm", "a node with its workers warm: with torch loaded, proportional", parts.pss, "MB")


def memory(name: str, what: str, daemon: Daemon, most: float) -> Iterator[Row]:
    taken = usage(tree(daemon.pid))
    yield Row(f"idle.{name}", f"{what}: resident memory", taken.rss, "MB", most=most)
    yield Row(f"idle.{name}.pss", "the same, shared pages by share", taken.pss, "MB")
