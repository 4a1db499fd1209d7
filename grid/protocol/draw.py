"""Who is drawn into a round. More may be drawn than its target needs, since some of them drop out.

Source: Bonawitz et al. 2019, arXiv:1902.01046, section 3.1: devices are drawn at random, 130 % of the goal.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable


def drawing_order(nodes: Iterable[str], seed: str, number: int) -> list[str]:
    """Nodes in the order in which they are drawn into round `number`; whoever comes after those wanted is a spare.

    A node's place is the SHA-256 of the seed, the round and its name: the same after a restart, independent of who
    else is there, and, as long as the seed is drawn after the names were, of anybody's wishes.
    """
    return sorted(nodes, key=lambda node: hashlib.sha256(f"{seed}\n{number}\n{node}".encode()).digest())
