"""What a participant has finished stays until it is known what came of it, whenever its process ends."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from grid.crypto.identity import Identity
from grid.node.finished import Finished, files, sweep
from grid.node.records import RunRecords
from grid.protocol.documents import sign_document
from grid.store.blobs import Blobs
from grid.store.database import Database
from grid.store.events import EventLog
from grid.wire.runs import TASK, Invite, Task

ANN = Identity.from_seed(b"a" * 32)
RUN, OTHER = "0" * 32, "1" * 32


@pytest.fixture
async def records(tmp_path: Path) -> AsyncIterator[RunRecords]:
    """Those of a node that takes part in a run."""
    task = Task(RUN, "0" * 64, ANN.id, ("#pulse",), 0.0, 1e10)
    async with Database(tmp_path / "node.db", "node") as database:
        made = RunRecords(database, EventLog(database), lambda: 1000.0)
        await made.joined(task, Invite(sign_document(ANN, TASK, task), "http://c:5001", b"x"), "pulse")
        yield made


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(tmp_path / "blobs")


async def again(records: RunRecords, blobs: Blobs) -> Finished:
    """As the next process finds it."""
    finished = Finished(records, blobs, RUN, ANN.id)
    await finished.recall()
    return finished


async def test_what_was_finished_waits_for_its_answer_and_its_state_is_not_taken_over_yet(
    records: RunRecords, blobs: Blobs
) -> None:
    first = await again(records, blobs)
    await first.keep(1, [b"sealed ", b"update"], b"state")

    second = await again(records, blobs)

    assert (second.number, second.own) == (1, b"")
    assert second.update(1).read_bytes() == b"sealed update"
    assert {path.stat().st_mode & 0o777 for path in files(blobs)} == {0o600}


async def test_what_was_counted_is_tidied_away_and_its_state_goes_on(records: RunRecords, blobs: Blobs) -> None:
    first = await again(records, blobs)
    for number in (1, 2):
        await first.keep(number, [b"update"], b"state %d" % number)
        await first.counted()

    second = await again(records, blobs)

    assert (second.number, bytes(second.own), bytes(first.own)) == (0, b"state 2", b"state 2")
    assert [path.name for path in files(blobs)] == [f"own-{RUN}-2"]
    assert [part.round for part in await records.own_assignments(RUN, ANN.id)] == [2]


async def test_what_will_never_be_counted_leaves_the_state_as_it_was(records: RunRecords, blobs: Blobs) -> None:
    first = await again(records, blobs)
    await first.keep(1, [b"update"], b"state 1")
    await first.counted()
    await first.keep(2, [b"update"], b"state 2")
    await first.dropped("round 2 is not open")

    second = await again(records, blobs)

    assert (second.number, bytes(second.own)) == (0, b"state 1")
    assert [path.name for path in files(blobs)] == [f"own-{RUN}-1"]


async def test_a_strategy_that_keeps_nothing_at_a_client_leaves_no_file(records: RunRecords, blobs: Blobs) -> None:
    finished = await again(records, blobs)
    await finished.keep(1, [b"update"], b"")
    await finished.counted()

    assert files(blobs) == []
    assert (await again(records, blobs)).own == b""


async def test_a_file_without_a_row_never_was(records: RunRecords, blobs: Blobs) -> None:
    for name in (f"finished-{RUN}-1", f"own-{RUN}-1", f"own-{OTHER}-1"):
        draft = blobs.create()
        draft.write(b"half")
        await draft.commit(name)

    assert (await again(records, blobs)).number == 0
    assert [path.name for path in files(blobs)] == [f"own-{OTHER}-1"]
    sweep(blobs, {RUN})
    assert files(blobs) == []


async def test_a_row_whose_file_is_gone_waits_for_nothing(records: RunRecords, blobs: Blobs) -> None:
    first = await again(records, blobs)
    await first.keep(1, [b"update"], b"state")
    first.update(1).unlink()

    assert (await again(records, blobs)).number == 0
    assert files(blobs) == []


async def test_of_an_update_that_breaks_off_nothing_is_left(records: RunRecords, blobs: Blobs) -> None:
    def blocks() -> Iterator[bytes]:
        yield b"sealed "
        raise RuntimeError("no more")

    finished = await again(records, blobs)
    with pytest.raises(RuntimeError):
        await finished.keep(1, blocks(), b"state")

    assert (finished.number, files(blobs)) == (0, [])
    assert list((blobs.folder / ".drafts").iterdir()) == []
