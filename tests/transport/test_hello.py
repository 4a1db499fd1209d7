"""What every daemon says of itself."""

from __future__ import annotations

from collections.abc import Callable

from grid.client.calls import Calls
from grid.crypto.signing import verify
from grid.transport.hello import HEALTH_DOMAIN, health_statement
from grid.wire.session import HEALTH, IDENTITY, Nonce
from tests.transport.daemon import NOW, Daemon

MakeCalls = Callable[..., Calls]


async def test_a_daemon_names_its_key(daemon: Daemon, calls: MakeCalls) -> None:
    answer = await calls().call(daemon.address, IDENTITY)

    assert (answer.public_key, answer.role, answer.node_id) == (daemon.identity.id, "node", "small")


async def test_health_signs_the_nonce_it_is_given(daemon: Daemon, calls: MakeCalls) -> None:
    health = await calls().call(daemon.address, HEALTH, query=Nonce("abc"))

    verify(daemon.identity.public, HEALTH_DOMAIN, health_statement("node", "small", "abc"), health.signature)
    assert (health.status, health.at) == ("online", NOW)


async def test_health_without_a_nonce_costs_no_signature(daemon: Daemon, calls: MakeCalls) -> None:
    assert (await calls().call(daemon.address, HEALTH)).signature == b""
