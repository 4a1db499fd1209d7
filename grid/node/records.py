"""What is written down of runs: each change together with the event that tells of it, in one transaction.

Two topics of the event log belong to a run: one for its owner, with everything, and one for all who take
part, with the calls that they answer to. A third is at each participant, for the owner of that node alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from grid.faults import point
from grid.node.course import Change
from grid.protocol import assignment
from grid.protocol.assignment import Assignment
from grid.protocol.pace import WINDOW, Arrivals
from grid.protocol.round import NodeCommitted, NodeFailed, Round, SpareDrawn, UpdateRejected
from grid.protocol.run import RUN, Run
from grid.store import events, results, rounds, runs, sums
from grid.store.database import Database
from grid.store.events import EventLog
from grid.store.schema import Snapshot, Transaction
from grid.wire.documents import Signed
from grid.wire.message import MSGPACK, encode
from grid.wire.node import Part
from grid.wire.problems import NotFound, RunNotFound, SumRefused, UpdateRepeated
from grid.wire.runs import After, Event, Events, Invite, Peer, RunInfo, Task

EVALUATED = "evaluated"
"""The event that tells what a checkpoint came to."""
ENDED = "run-ended"
"""The event that tells how a run ended."""

STOPPED = "stopped"
"""The state of a part in a run while its node does not run."""


class Unfinished(NamedTuple):
    """What is on disk of a run that had not ended: `updates` are the counted ones of its `round`, as they came.

    Of each: its file, its node, and the round with whose model it began (0: the same).
    """

    run: Run
    signed: Signed
    bundle: str
    participants: tuple[runs.ParticipantRow, ...]
    round: Round | None
    updates: tuple[tuple[Path, str, int], ...]


class RunRecords:
    """The runs of one coordinator, on disk. Every method returns when its change is committed."""

    def __init__(self, database: Database, log: EventLog, now: Callable[[], float]) -> None:
        self._db, self._log, self._now = database, log, now

    # --- changes ----------------------------------------------------------------------------------

    async def created(self, task: Task, signed: Signed, peers: Iterable[Peer]) -> None:
        """A run was taken up. Raises RunRefused if one of its id is here."""
        row = runs.RunRow(
            run=Run(id=task.run, rounds=task.rounds),
            role=runs.COORDINATOR,
            task=encode(signed, MSGPACK),
            owner=signed.signer,
            bundle=task.plan,
            created=self._now(),
        )
        asked = [runs.ParticipantRow(peer.public_key, peer.node_id, peer.node_address) for peer in peers]

        def work(connection: Transaction) -> None:
            runs.create_run(connection, row)
            runs.add_participants(connection, task.run, asked)

        await self._db.write(work)

    async def moved(self, run: Run, kind: str, told: dict[str, Any]) -> None:
        """The run is in another state; its owner is told. When that is its last state, all are told."""
        at, over = self._now(), RUN.final(run.state)

        def work(connection: Transaction) -> None:
            runs.set_run_state(connection, run, ended=at if over else None)
            _tell(connection, run.id, kind, at, told, to_all=over)

        await self._db.write(work)

    async def ended(self, run: Run, best: int = 0) -> None:
        """The run is over; `best` is the round whose checkpoint is the best one by the rule of its task."""
        told = {"state": run.state.value, "reason": run.reason, **({"best": best} if best else {})}
        await self.moved(run, ENDED, told)

    async def reported(self, row: results.ReportRow) -> None:
        """A node has measured a checkpoint."""
        await self._db.write(lambda connection: results.add_report(connection, row))

    async def evaluated(self, run: str, told: dict[str, Any]) -> None:
        """All that measured a checkpoint have reported: the means are told."""
        await self.say(run, EVALUATED, told)

    async def revealed(self, run: str, number: int, key: str, survivors: list[str]) -> None:
        """This node, `key`, is about to reveal its shares in a sum of these. Raises SumRefused if it did of others."""
        if not await self._db.write(lambda connection: sums.reveal(connection, run, number, key, survivors)):
            raise SumRefused("this node revealed its shares for other survivors of this round")

    async def ready(self, run: str, key: str, told: dict[str, Any]) -> None:
        """A participant has the plan loaded."""
        at = self._now()

        def work(connection: Transaction) -> None:
            runs.set_ready(connection, run, key, told["examples"])
            _tell(connection, run, "participant", at, told, to_all=False)

        await self._db.write(work)

    async def say(self, run: str, kind: str, told: dict[str, Any], *, to_all: bool = False) -> None:
        """Something happened; `to_all`: those who take part hear it, too."""
        at = self._now()
        await self._db.write(lambda connection: _tell(connection, run, kind, at, told, to_all))

    async def round_opened(self, r: Round, run: str, told: dict[str, Any]) -> None:
        """A round was opened: everybody invited may begin."""

        def work(connection: Transaction) -> None:
            rounds.open_round(connection, run, r)
            _tell(connection, run, "round-opened", r.opened, told, to_all=True)

        await self._db.write(work)

    async def round_broken(self, run: str, number: int, reason: str) -> None:
        """Nothing came of a round: it will be held anew."""
        at, told = self._now(), {"round": number, "reason": reason}

        def work(connection: Transaction) -> None:
            rounds.forget_round(connection, run, number)
            _tell(connection, run, "round-broken", at, told, to_all=True)

        await self._db.write(work)

    async def cohort_changed(self, run: str, r: Round, changes: Iterable[Change], name: Callable[[str], str]) -> None:
        """Nodes were lost to a round, refused or back in it; spares were drawn into it and may begin. All or nothing.

        `name` gives the node id of a key.
        """
        at, listed = self._now(), list(changes)

        def work(connection: Transaction) -> None:
            for change in listed:
                _write_change(connection, run, r, change, at, name(change.node))
                point("after-change-row")

        await self._db.write(work)

    async def update_accepted(
        self,
        run: str,
        number: int,
        key: str,
        weight: float,
        file: Path,
        told: dict[str, Any],
        base: int = 0,
        at: float = 0.0,
    ) -> None:
        """An update, whose file is on disk, will be counted. Raises UpdateRepeated if it is already.

        `base`: the round with whose model it began, if that is another one; `at`: when it came, if not now.
        """
        at, metrics = at or self._now(), told["metrics"]

        def work(connection: Transaction) -> None:
            rounds.accept_update(
                connection, run, number, key, weight=weight, file=str(file), metrics=metrics, base=base, at=at
            )
            events.append(connection, _owner(run), "update", at, told)

        await self._db.write(work)

    async def round_closed(self, r: Round, run: Run, checkpoint: Path, told: dict[str, Any]) -> None:
        """A round is complete and its checkpoint on disk; `run` is where that takes the run."""
        at = self._now()
        made = results.Checkpoint(run.id, r.number, str(checkpoint), "", checkpoint.stat().st_size)
        summary = {"seconds": told["seconds"], "examples": told["examples"], **told["bytes"]}

        def work(connection: Transaction) -> None:
            rounds.set_round_state(connection, run.id, r, closed=at, summary=summary)
            results.add_checkpoint(connection, made)
            runs.set_run_state(connection, run)
            _tell(connection, run.id, "round-closed", at, told, to_all=False)

        await self._db.write(work)

    async def prolonged(self, r: Round, run: str) -> None:
        """A round that was interrupted ends later."""
        await self._db.write(lambda connection: rounds.set_round_state(connection, run, r))

    # --- the other role -----------------------------------------------------------------------------

    async def joined(self, task: Task, invite: Invite, dataset: str) -> None:
        """This node takes part in a run, with one of its datasets."""
        row = runs.RunRow(
            run=Run(id=task.run, rounds=task.rounds),
            role=runs.PARTICIPANT,
            task=encode(invite.task, MSGPACK),
            owner=invite.task.signer,
            bundle=task.plan,
            created=self._now(),
            peer=invite.coordinator_address,
            prekey=invite.prekey,
        )
        told = {"scientist": invite.task.signer, "coordinator": invite.coordinator_address, "dataset": dataset}

        def work(connection: Transaction) -> None:
            runs.create_run(connection, row)
            events.append(connection, _here(task.run), "joined", row.created, told)

        await self._db.write(work)

    async def left(self, run: str) -> None:
        """It does so no longer."""
        at = self._now()

        def work(connection: Transaction) -> None:
            runs.delete_run(connection, run, runs.PARTICIPANT)
            events.append(connection, _here(run), "left", at, {})

        await self._db.write(work)

    async def noted(self, run: str, kind: str, told: dict[str, Any]) -> None:
        """Something happened in this node's part in a run; it is for this node's owner."""
        at = self._now()

        def work(connection: Transaction) -> None:
            events.append(connection, _here(run), kind, at, told)

        await self._db.write(work)

    async def taking_part(self) -> list[tuple[str, Invite]]:
        """The runs that this node takes part in, and what invited it."""
        rows = await self._db.read(lambda connection: runs.list_runs(connection, runs.PARTICIPANT))
        return [(row.run.id, _invite(row)) for row in rows]

    async def parts(self, live: Mapping[str, tuple[str, str]]) -> list[Part]:
        """The runs that this node takes part in, newest first; of those that are `live`, state and device."""
        rows = await self._db.read(lambda connection: runs.list_runs(connection, runs.PARTICIPANT))
        found = [(row, *live.get(row.run.id, (STOPPED, ""))) for row in rows]
        return [Part(row.run.id, state, row.owner, row.peer, row.created, device) for row, state, device in found]

    async def part_events(self, run: str, after: After) -> Events:
        """What was noted after a cursor of this node's part in a run; waits up to `after.wait` seconds for it.

        Raises:
            RunNotFound: this node never took part in it.
        """
        found = as_events(await self._log.wait(_here(run), after.after, after.wait if after.after else 0.0), after)
        if not (found.events or after.after):
            raise RunNotFound(f"this node has taken no part in run {run}")
        return found

    async def own_assignment(self, own: Assignment, file: str = "") -> None:
        """Where this node's part in a round stands: its update lies in `file`, or it is known what came of it."""
        row = rounds.AssignmentRow(own, runs.PARTICIPANT, file=file)

        def work(connection: Transaction) -> None:
            rounds.put_assignment(connection, row)
            if own.state == assignment.ACCEPTED:  # what was counted before it is of no more use
                rounds.forget_own_assignments(connection, own.run, own.round)

        await self._db.write(work)

    async def own_assignments(self, run: str, key: str) -> list[Assignment]:
        """What is known of this node's part in a run, in order of round."""
        rows = await self._db.read(lambda connection: rounds.own_assignments(connection, run, key))
        return [row.assignment for row in rows]

    # --- questions ----------------------------------------------------------------------------------

    async def run(self, run: str, owner: str | None) -> RunInfo | None:
        """One run, if it is here and belongs to `owner` (None: whoever it belongs to)."""

        def work(connection: Snapshot) -> RunInfo | None:
            try:
                row = runs.get_run(connection, run)
            except RunNotFound:
                return None
            return _info(row) if owner in {None, row.owner} else None

        return await self._db.read(work)

    async def runs(self, owner: str | None) -> list[RunInfo]:
        """The runs that belong to `owner` (None: all), newest first."""
        rows = await self._db.read(runs.list_runs)
        return [_info(row) for row in rows if owner in {None, row.owner}]

    async def unfinished(self) -> list[Unfinished]:
        """The runs that had not ended when this node stopped."""
        return await self._db.read(lambda c: [_unfinished(c, row) for row in runs.list_runs(c, unfinished=True)])

    async def was_counted(self, run: str, number: int, key: str) -> bool:
        """Whether the update that a node made of a round's model was counted, in that round or a later one."""
        return await self._db.read(lambda connection: rounds.counted_in(connection, run, number, key)) > 0

    async def checkpoint(self, run: str, number: int = 0) -> Path | None:
        """The file of the checkpoint that a round made (0: of the newest), if it is still kept."""
        found = await self._db.read(lambda connection: results.checkpoints(connection, run))
        wanted = [Path(each.file) for each in found if number in {0, each.round}][-1:]
        return next((path for path in wanted if path.exists()), None)

    async def outcome(self, run: str) -> dict[str, Any] | None:
        """How a run ended, as its owner was told; None if it has not."""
        told = await self._db.read(lambda connection: events.of_kind(connection, _owner(run), ENDED))
        return msgspec.json.decode(told[-1].data) if told else None

    async def told(self, run: str, kind: str) -> list[dict[str, Any]]:
        """What a run's owner was told by events of one kind, oldest first."""
        told = await self._db.read(lambda connection: events.of_kind(connection, _owner(run), kind))
        return [msgspec.json.decode(event.data) for event in told]

    async def reports(self, run: str, since: int = 0) -> list[results.ReportRow]:
        """What each node measured of the checkpoints from round `since` on, by round and key."""
        rows = await self._db.read(lambda connection: results.reports(connection, run))
        return [row for row in rows if row.round >= since]

    async def released(self, run: str, key: str, name: str) -> None:
        """A node lets what a run learned be handed out; said once."""
        at = self._now()

        def work(connection: Transaction) -> None:
            if runs.release(connection, run, key, at):
                _tell(connection, run, "released", at, {"node": name}, to_all=False)

        await self._db.write(work)

    async def unreleased(self, run: str) -> list[str]:
        """The nodes that took part in a run and have not let go of it."""
        return await self._db.read(lambda connection: runs.unreleased(connection, run))

    async def names(self, run: str) -> dict[str, str]:
        """The node ids of a run's participants, by key."""
        rows = await self._db.read(lambda connection: runs.participants(connection, run))
        return {row.public_key: row.node_id for row in rows}

    async def task(self, run: str) -> Signed:
        """The task of a run, as it was signed. Raises RunNotFound."""
        row = await self._db.read(lambda connection: runs.get_run(connection, run))
        return msgspec.msgpack.decode(row.task, type=Signed)

    async def arrivals(self, run: str, number: int) -> list[Arrivals]:
        """When the updates of the rounds before one came, as far back as it matters."""
        return await self._db.read(lambda connection: rounds.arrivals(connection, run, number, WINDOW))

    async def events(self, run: str, after: After, *, to_all: bool) -> Events:
        """What was told after a cursor; waits up to `after.wait` seconds for the first of it."""
        topic = _all(run) if to_all else _owner(run)
        return as_events(await self._log.wait(topic, after.after, after.wait), after)


def _owner(run: str) -> str:
    return f"run/{run}"


def _all(run: str) -> str:
    return f"run/{run}/all"


def _here(run: str) -> str:
    """What a participant tells its own owner."""
    return f"run/{run}/here"


def as_events(found: Iterable[events.Event], after: After) -> Events:
    """Entries of the log as they are told, and the cursor to go on from."""
    told = tuple(Event(e.cursor, e.kind, e.at, msgspec.json.decode(e.data)) for e in found)
    return Events(told, told[-1].cursor if told else after.after)


def _tell(connection: Transaction, run: str, kind: str, at: float, told: dict[str, Any], to_all: bool) -> None:
    events.append(connection, _owner(run), kind, at, told)
    if to_all:
        events.append(connection, _all(run), kind, at, told)


def _write_change(connection: Transaction, run: str, r: Round, change: Change, at: float, node: str) -> None:
    if isinstance(change, SpareDrawn):
        rounds.put_assignment(connection, rounds.AssignmentRow(Assignment(run, r.number, change.node)))
        _tell(connection, run, "spare-drawn", at, {"round": r.number, "node": node, "ends": r.ends}, to_all=True)
        return
    state, reason = _became(change)
    try:
        rounds.set_assignment(connection, Assignment(run, r.number, change.node, state, reason))
    except UpdateRepeated:  # it was counted meanwhile, and that stands
        return
    told = {"round": r.number, "node": node, "state": state.value, "reason": reason}
    events.append(connection, _owner(run), "assignment", at, told)


def _became(change: NodeFailed | UpdateRejected | NodeCommitted) -> tuple[assignment.State, str]:
    match change:
        case NodeFailed(reason=reason):
            return assignment.FAILED, reason
        case UpdateRejected(reason=reason):
            return assignment.REJECTED, reason
        case NodeCommitted():
            return assignment.COMMITTED, ""


def _unfinished(connection: Snapshot, row: runs.RunRow) -> Unfinished:
    run, number = row.run.id, row.run.current
    try:
        left = rounds.get_round(connection, run, number)
    except NotFound:
        left = None
    counted = rounds.accepted_updates(connection, run, number)
    updates = tuple((Path(each.file), each.assignment.node, each.base) for each in counted)
    signed = msgspec.msgpack.decode(row.task, type=Signed)
    return Unfinished(row.run, signed, row.bundle, tuple(runs.participants(connection, run)), left, updates)


def _invite(row: runs.RunRow) -> Invite:
    return Invite(msgspec.msgpack.decode(row.task, type=Signed), row.peer, row.prekey or b"")


def _info(row: runs.RunRow) -> RunInfo:
    r = row.run
    return RunInfo(
        run=r.id, state=r.state.value, round=r.current, rounds=r.rounds, created=row.created, reason=r.reason
    )
