"""What the stories of this room share: randomness that is the same every time."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest
from hypothesis import settings

settings.register_profile("steady", deadline=None)  # a machine may be busy with other things
settings.load_profile("steady")


@pytest.fixture
def entropy() -> Callable[[str], Callable[[int], bytes]]:
    """`entropy("name")` is a source of bytes that only the name and the order of calls decide."""

    def named(name: str) -> Callable[[int], bytes]:
        taken = 0

        def draw(size: int) -> bytes:
            nonlocal taken
            taken += size
            return hashlib.shake_256(name.encode()).digest(taken)[-size:]

        return draw

    return named
