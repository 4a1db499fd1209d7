"""Frames from a seat are not trusted: whatever arrives is a message or a `BadFrame`."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grid.worker.channel import FRAME_CAP, LENGTH, BadFrame, Call, Said, frame, hear, listen, tell


async def heard(data: bytes) -> Said:
    reader = asyncio.StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    return await hear(reader)


@given(st.sampled_from(["progress", "result", "problem"]), st.dictionaries(st.text(), st.integers(0, 2**63 - 1)))
async def test_what_is_said_is_heard(kind: str, body: dict[str, int]) -> None:
    said = Said(kind, body)  # type: ignore[arg-type]

    assert await heard(frame(said)) == said


@given(st.binary(max_size=200))
async def test_any_bytes_are_a_message_or_refused(body: bytes) -> None:
    with suppress(BadFrame):
        assert isinstance(await heard(LENGTH.pack(len(body)) + body), Said)


@pytest.mark.parametrize(
    "body",
    [
        b"\x91" * 100_000,  # lists in lists
        b"\x82\xa4kind\xa6result\xa4body\xdf\xff\xff\xff\xff",  # a map of four billion entries
        b"\x82\xa4kind\xa4boom\xa4body\x80",
        b"\x82\xa4kind\xa6result\xa4body" + b"\x81\xa1a" * 50_000 + b"\x80",
    ],
)
async def test_bombs_are_refused(body: bytes) -> None:
    with pytest.raises(BadFrame):
        await heard(LENGTH.pack(len(body)) + body)


async def test_a_frame_over_the_cap_is_refused_before_it_is_read() -> None:
    with pytest.raises(BadFrame, match="a frame of"):
        await heard(LENGTH.pack(FRAME_CAP + 1))


async def test_a_frame_cut_short_is_the_end_of_the_seat() -> None:
    with pytest.raises(asyncio.IncompleteReadError):
        await heard(LENGTH.pack(10) + b"abc")


def test_the_seats_blocking_half_reads_whole_frames_and_then_the_end() -> None:
    ours, theirs = os.pipe()
    tell(theirs, Call("fit", {"round": 1}))
    os.close(theirs)

    assert listen(ours) == frame(Call("fit", {"round": 1}))[LENGTH.size :]
    assert listen(ours) is None
    os.close(ours)
