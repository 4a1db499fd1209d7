"""Beginnings of uploads."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from grid.store.blobs import Blobs, Draft
from grid.transport.partial import Partials, proved
from grid.wire.problems import BadRequest, EnvelopeRefused, PartMismatch
from grid.wire.ranges import Piece

CONTENT, ANOTHER = "a" * 64, "b" * 64
LOST = ConnectionError()


def begun(folder: Path, data: bytes = b"12345") -> Draft:
    draft = Blobs(folder).create()
    draft.write(data)
    return draft


def left(folder: Path) -> int:
    return len(list((folder / ".drafts").iterdir()))


async def test_a_beginning_waits_for_the_rest(tmp_path: Path) -> None:
    partials, draft = Partials[Draft](), begun(tmp_path)
    partials.keep("ann", Piece(CONTENT), draft, LOST)

    assert partials.held("ann", CONTENT).size == 5
    assert partials.held("ann", ANOTHER).size == partials.held("bob", CONTENT).size == 0
    assert partials.take("ann", Piece(CONTENT, 5)) is draft
    assert partials.held("ann", CONTENT).size == 0


@pytest.mark.parametrize("piece", [Piece(CONTENT, 4), Piece(CONTENT, 6), Piece(ANOTHER, 5), Piece("", 5)])
async def test_the_rest_of_something_else_is_refused_and_harms_nothing(tmp_path: Path, piece: Piece) -> None:
    partials = Partials[Draft]()
    partials.keep("ann", Piece(CONTENT), begun(tmp_path), LOST)

    with pytest.raises(PartMismatch):
        partials.take("ann", piece)

    assert partials.held("ann", CONTENT).size == 5


async def test_whoever_begins_anew_has_one_beginning_only(tmp_path: Path) -> None:
    partials = Partials[Draft]()
    partials.keep("ann", Piece(CONTENT), begun(tmp_path), LOST)
    partials.keep("ann", Piece(ANOTHER), begun(tmp_path, b"123"), LOST)
    assert (left(tmp_path), partials.held("ann", ANOTHER).size) == (1, 3)

    assert partials.take("ann", Piece(CONTENT)) is None
    assert left(tmp_path) == 0


@pytest.mark.parametrize(("piece", "error"), [(Piece(), LOST), (Piece(CONTENT), EnvelopeRefused("forged"))])
async def test_what_cannot_go_on_is_thrown_away(tmp_path: Path, piece: Piece, error: Exception) -> None:
    Partials[Draft]().keep("ann", piece, begun(tmp_path), error)

    assert left(tmp_path) == 0


async def test_a_beginning_does_not_wait_for_ever(tmp_path: Path) -> None:
    partials = Partials[Draft](life=0.0)
    partials.keep("ann", Piece(CONTENT), begun(tmp_path), asyncio.CancelledError())
    later = asyncio.Event()
    asyncio.get_running_loop().call_later(0.01, later.set)
    await later.wait()

    assert left(tmp_path) == 0


async def test_once_closed_nothing_is_kept(tmp_path: Path) -> None:
    partials = Partials[Draft]()
    partials.keep("ann", Piece(CONTENT), begun(tmp_path), LOST)
    partials.close()
    partials.keep("bob", Piece(CONTENT), begun(tmp_path), LOST)

    assert left(tmp_path) == 0


def test_what_came_is_held_against_its_digest(tmp_path: Path) -> None:
    draft = begun(tmp_path)
    proved(Piece(draft.digest), draft)
    proved(Piece(), draft)
    with pytest.raises(BadRequest):
        proved(Piece(CONTENT), draft)
    draft.abort()
