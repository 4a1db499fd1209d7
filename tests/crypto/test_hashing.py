"""SHA-256 beside its caller is SHA-256."""

from __future__ import annotations

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from grid.crypto.hashing import WORTH, sha256_beside


@given(st.lists(st.binary(max_size=2000), max_size=20), st.sampled_from([0, WORTH]))
def test_it_is_the_digest_of_all_blocks_though_buffers_are_filled_in_turns(blocks: list[bytes], length: int) -> None:
    buffers = [bytearray(2000), bytearray(2000)]

    with sha256_beside(length) as digest:
        for turn, block in enumerate(blocks):
            buffer = buffers[turn % 2]
            buffer[: len(block)] = block
            digest.update(memoryview(buffer)[: len(block)])
        found = digest.digest()

    assert found == hashlib.sha256(b"".join(blocks)).digest()
