"""What a node works with."""

from __future__ import annotations

from grid.node.means import ENVELOPE_LIFE
from tests.grid_of_nodes import ANode


async def test_the_headers_of_a_node_say_who_sends_what_and_how_long_it_holds(coordinator: ANode) -> None:
    header = coordinator.open.means.header("model", "a-run", 3, length=7)

    assert (header.sender, header.kind, header.run, header.round) == (coordinator.identity.public, "model", "a-run", 3)
    assert (header.length, header.audience) == (7, b"")
    assert header.expires - header.created == ENVELOPE_LIFE
