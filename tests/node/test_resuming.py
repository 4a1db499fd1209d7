"""What is made of an interrupted run's rows and files."""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace

from grid.crypto.identity import Identity
from grid.node.records import Unfinished
from grid.node.resuming import AGAIN, interrupted_round, peers_of, recall, tidy
from grid.node.roster import Roster, Standing
from grid.protocol import round as rounds
from grid.protocol.documents import sign_document
from grid.protocol.run import Run
from grid.store.runs import ParticipantRow
from grid.wire.runs import TASK, Task

ANN = Identity.from_seed(b"a" * 32)
TASK_ = Task("0" * 32, "0" * 64, ANN.id, ("#pulse",), 0.0, 1e10)
OPENED = rounds.open_round(1, rounds.Policy(1, 2, 100.0), frozenset({"ann", "bob"}), 0.0)


def left(r: rounds.Round | None, *participants: ParticipantRow) -> Unfinished:
    return Unfinished(Run("0" * 32, 3, 1), sign_document(ANN, TASK, TASK_), "", participants, r, ())


def test_a_round_that_was_open_is_open_for_long_enough_to_come_back() -> None:
    for now, ends in ((1.0, 100.0), (99.0, 99.0 + AGAIN), (500.0, 500.0 + AGAIN)):
        r = interrupted_round(left(OPENED), now)

        assert r is not None
        assert (r.state, r.ends) == (rounds.WAITING, ends)


def test_a_round_that_waited_for_nobody_any_more_goes_on_to_its_sum() -> None:
    counted = replace(OPENED, state=rounds.COLLECTING, accepted={"ann": 1.0, "bob": 1.0})

    r = interrupted_round(left(counted), 1.0)

    assert r is not None
    after, effects = rounds.advance(r, rounds.Resumed())
    assert (after.state, effects) == (rounds.AGGREGATING, (rounds.Sum((("ann", 1.0), ("bob", 1.0))),))


def test_a_round_that_is_over_or_never_was_is_not_taken_up() -> None:
    assert interrupted_round(left(None), 1.0) is None
    assert interrupted_round(left(replace(OPENED, state=rounds.COMPLETE)), 1.0) is None


def test_who_was_ready_is_ready_and_the_rest_is_asked_again() -> None:
    rows = ParticipantRow("ann", "ann", "http://ann", 7, ready=True), ParticipantRow("bob", "bob", "http://bob")
    roster = Roster(peers_of(left(None, *rows)))

    recall(roster, left(None, *rows))

    assert [(e.standing, e.ready, e.examples) for e in roster.entries()] == [
        (Standing.READY, True, 7),
        (Standing.INVITED, False, 0),
    ]


def test_updates_that_were_counted_stay_and_what_nobody_was_told_of_goes(tmp_path: Path) -> None:
    updates = tmp_path / "updates" / "named"
    updates.mkdir(parents=True)
    for path in (updates / "1-ann", updates / "1-bob", tmp_path / "model-1.sealed", tmp_path / "checkpoint-0.draft"):
        path.write_bytes(b"")
    (tmp_path / "checkpoint-0.safetensors").write_bytes(b"")

    tidy(tmp_path, [updates / "1-ann"])

    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) == ["1-ann", "checkpoint-0.safetensors"]
