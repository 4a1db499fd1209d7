"""What a coordinator that was stopped in the middle of a run makes of what is on disk.

Rows say what is so; files without a row never were.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from msgspec.structs import replace

from grid.node.checkpoints import UPDATES
from grid.node.records import Unfinished
from grid.node.roster import Roster, Standing
from grid.protocol import round as rounds
from grid.protocol import run as runs
from grid.wire.runs import Peer

AGAIN = 60.0
"""Seconds that an interrupted round goes on at least: whoever waited for the coordinator comes back meanwhile."""


def peers_of(left: Unfinished) -> tuple[Peer, ...]:
    """Who was asked into the run."""
    return tuple(Peer(p.node_id, p.address, p.public_key) for p in left.participants)


def recall(roster: Roster, left: Unfinished) -> None:
    """Those who were ready are so still, until they stay away."""
    for each in left.participants:
        if each.ready:
            entry = roster.put(each.public_key, Standing.READY)
            entry.ready, entry.examples = True, each.examples


def interrupted_round(left: Unfinished, now: float) -> rounds.Round | None:
    """The round that was going on, if there was one, with time for its participants to come back.

    That it was closing is nowhere written down: what was counted says so.
    """
    if left.round is None or not rounds.ROUND.takes(left.round, rounds.Resumed):
        return None
    r = replace(left.round, ends=max(left.round.ends, now + AGAIN))
    return replace(r, state=rounds.CLOSING) if rounds.settled(r) else r


def broken_off(run: runs.Run, reason: str) -> runs.Run:
    """A run that cannot go on."""
    after, _ = runs.advance(run, runs.Stopped(reason))
    return after


def tidy(folder: Path, counted: Iterable[Path]) -> None:
    """Remove what is sealed anew, and updates that were never counted: their senders were not told that they were."""
    kept = {path.name for path in counted}
    updates = folder / UPDATES / "named"
    for path in [*folder.glob("*.sealed"), *folder.glob("*.draft"), *folder.glob("*.spare"), *updates.glob("*")]:
        if path.name not in kept:
            path.unlink(missing_ok=True)
