"""The projects of fleets and the devices in them: who belongs to what, and when each device last could train."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import msgspec
from msgspec.structs import replace

from grid.node.fleet.weights import KNOWN, check_numbers, raw_parts, zeros
from grid.node.models import Models, called, seen
from grid.node.tasks.registry import summable
from grid.protocol import fleet as rules
from grid.protocol.fleet import FLEET, Halted, Report, Started
from grid.protocol.model_access import Rule
from grid.store import events, fleets, models
from grid.store.database import Database
from grid.store.fleets import DeviceRow, FleetRow, RoundRow
from grid.store.models import CheckpointRow, ModelRow, VariantRow
from grid.store.schema import Snapshot, Transaction
from grid.transport.auth import OWNER, Caller
from grid.transport.parts import Parts
from grid.wire.flaas import Availability, Status, Terms, Wake
from grid.wire.problems import (
    BadRequest,
    DeviceNotFound,
    ModelNotFound,
    NotAllowed,
    ProjectNotFound,
    ProjectRefused,
)

VARIANT = "rounds"
"""The variant of a project's model that its rounds make checkpoints of."""
FIRST = "round-0"
KEPT = 90 * 86_400.0
"""Seconds for which reports of devices are kept."""

STATES: dict[Status, rules.State] = {
    "Stopped": rules.STOPPED,
    "In Progress": rules.RUNNING,
    "Completed": rules.COMPLETED,
}


def topic(number: int) -> str:
    """Under which topic of the log a project's calls to train stand."""
    return f"fleet/{number}"


@dataclass
class Fleets:
    """Projects and devices as rows; their rounds are in the module beside. `changed` rings when a round may move."""

    database: Database
    models: Models
    now: Callable[[], float]
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    # --- projects -------------------------------------------------------------------------------

    async def seen_by(self, caller: Caller) -> list[FleetRow]:
        """The projects that a caller's device belongs to, and its own; all, for the node's owner."""

        def work(connection: Snapshot) -> list[FleetRow]:
            return [row for row in fleets.fleets(connection) if _sees(connection, row, caller)]

        return await self.database.read(work)

    async def get(self, caller: Caller, number: int) -> tuple[FleetRow, RoundRow]:
        """One project and its newest round. Raises ProjectNotFound."""

        def work(connection: Snapshot) -> tuple[FleetRow, RoundRow]:
            return visible(connection, number, caller), fleets.round_of(connection, number)

        return await self.database.read(work)

    async def create(self, caller: Caller, said: dict[str, Any]) -> FleetRow:
        """A new project, with a model of its own that begins as the one that it names.

        Raises:
            BadRequest: it says what no project can.
            ProjectRefused: its title is taken.
            ModelNotFound, ModelRefused: there is no such model, or devices cannot take it.
            StrategyRefused: its updates cannot be summed that way.
        """
        terms, status = _terms(said, {}), _status(said)
        summable(terms.aggregation)
        digest, size = await self._first(caller, terms.model)

        def work(connection: Transaction) -> FleetRow:
            now = self.now()
            row = fleets.add_fleet(connection, terms, called(caller), now)
            models.add_model(connection, ModelRow(row.model, row.owner, terms.title, "", now))
            models.add_variant(connection, VariantRow(row.model, VARIANT, "", {}, "", "", now))
            models.add_checkpoint(connection, CheckpointRow(0, row.model, VARIANT, FIRST, digest, size, "", {}, now))
            fleets.add_round(connection, 0, row.id, FIRST, now)
            events.append(connection, topic(row.id), "created", now, {"title": terms.title})
            return _moved(connection, row, status)

        made = await self.database.write(work)
        self.changed.set()
        return made

    async def change(self, caller: Caller, number: int, said: dict[str, Any]) -> FleetRow:
        """Change what a caller's own project asks from its next round on; start or stop it.

        Raises:
            ProjectNotFound, NotAllowed, BadRequest, ProjectRefused, StrategyRefused
            RunRefused, OutOfTurn: all of its rounds are complete.
        """

        def work(connection: Transaction) -> FleetRow:
            row = owned(connection, number, caller)
            terms = _terms(said, msgspec.to_builtins(row.terms))
            if terms.model != row.terms.model:
                raise ProjectRefused("a project's model never changes: make another project")
            summable(terms.aggregation)
            row = replace(row, terms=terms, fleet=replace(row.fleet, rounds=terms.number_of_rounds))
            fleets.put_fleet(connection, row)
            return _moved(connection, row, _status(said))

        made = await self.database.write(work)
        self.changed.set()
        return made

    async def remove(self, caller: Caller, number: int) -> list[str]:
        """Forget a caller's own project; the tasks of its rounds that were under way.

        Raises:
            ProjectNotFound, NotAllowed
        """

        def work(connection: Transaction) -> tuple[list[str], str]:
            row = owned(connection, number, caller)
            under_way = [each.task for each in fleets.rounds(connection, number) if each.task and each.stopped is None]
            fleets.drop_fleet(connection, number)
            events.append(connection, topic(number), "removed", self.now(), {})
            return under_way, row.model

        under_way, model = await self.database.write(work)
        with suppress(ModelNotFound):  # its owner may have removed that before
            await self.models.remove_model(OWNER, model)
        return under_way

    async def model(self, caller: Caller, number: int, round_number: int) -> Parts:
        """The numbers that a round begins with. Raises ProjectNotFound, RoundNotFound."""

        def work(connection: Snapshot) -> CheckpointRow:
            row = visible(connection, number, caller)
            found = fleets.round_of(connection, number, round_number)
            return models.checkpoint(connection, row.model, VARIANT, found.checkpoint)

        checkpoint = await self.database.read(work)
        return await asyncio.to_thread(raw_parts, self.models.path(checkpoint), checkpoint.digest)

    async def _first(self, caller: Caller, name: str) -> tuple[str, int]:
        """The file of the checkpoint that a project begins with: its SHA-256 and size."""

        def work(connection: Snapshot) -> CheckpointRow:
            row, _ = seen(connection, name, caller)
            variant = models.variant(connection, name, row.canonical or models.variants(connection, name)[0].name)
            return models.checkpoint(connection, name, variant.name, variant.canonical)

        try:
            found = await self.database.read(work)
        except (ModelNotFound, IndexError):
            if name not in KNOWN:
                raise ModelNotFound(f"there is no model {name} here with a checkpoint to begin with") from None
            return await self._zeros(KNOWN[name])
        await asyncio.to_thread(check_numbers, self.models.path(found))
        return found.digest, found.size

    async def _zeros(self, size: int) -> tuple[str, int]:
        draft = self.models.draft()
        try:
            for block in zeros(size):
                draft.write(block)
            await draft.commit()
        except BaseException:
            draft.abort()
            raise
        return draft.digest, draft.size

    # --- devices --------------------------------------------------------------------------------

    async def assign(self, number: int, prefix: str) -> tuple[str, int]:
        """The devices whose names begin so are a project's, and no others; its title, and how many.

        Raises:
            ProjectNotFound, DeviceNotFound
        """
        made = await self.database.write(partial(assign, number=number, prefix=prefix))
        self.changed.set()
        return made

    async def device(self, caller: Caller) -> DeviceRow:
        """The calling device. Raises DeviceNotFound."""
        return await self.database.read(partial(fleets.device, name=caller.account))

    async def wake(self, caller: Caller, wake: Wake | None) -> None:
        """How the calling device is woken. Raises DeviceNotFound."""

        def work(connection: Transaction) -> None:
            fleets.put_wake(connection, fleets.device(connection, caller.account).account, wake)

        await self.database.write(work)

    async def report(self, caller: Caller, said: Availability) -> None:
        """A device is there. Raises DeviceNotFound, RoundNotFound, BadRequest."""
        if said.device_info is None and said.eligible is None:
            raise BadRequest("a report has a device_info, or says by itself whether the device is eligible")
        if said.request_type == "device-train" and said.request_id is None:
            raise BadRequest("a device-train report has the request_id of its call to train")
        report, info = report_of(said, self.now()), said.device_info

        def work(connection: Transaction) -> None:
            device = fleets.device(connection, caller.account)
            about = said.request_id or 0 if said.request_type == "device-train" else 0
            if about and fleets.round_named(connection, about).fleet != device.fleet:
                raise ProjectNotFound("that round is none of your project's")
            version = info.app_details.version_code if info else 0
            bucket = info.usage_stats_details.app_standby_bucket if info else -1
            fleets.add_report(connection, device.account, report, about, version, bucket)

        await self.database.write(work)
        self.changed.set()

    async def forget_reports(self) -> None:
        """Forget what devices reported long ago."""
        await self.database.write(partial(fleets.forget_reports, before=self.now() - KEPT))


def report_of(said: Availability, at: float) -> Report:
    """What is kept of a report: a device that judged by itself says nothing else."""
    if said.eligible is not None or said.device_info is None:
        return Report(at, eligible=said.eligible)
    battery = said.device_info.battery_status
    return Report(at, battery.power_plugged, battery.level)


def visible(connection: Snapshot, number: int, caller: Caller) -> FleetRow:
    """A project of which the caller is a device, or which is its own. Raises ProjectNotFound."""
    row = fleets.fleet(connection, number)
    if not _sees(connection, row, caller):
        raise ProjectNotFound(f"there is no project {number} that you may see")
    return row


def owned(connection: Snapshot, number: int, caller: Caller) -> FleetRow:
    """A caller's own project. Raises ProjectNotFound, NotAllowed."""
    row = visible(connection, number, caller)
    if not _owns(row, caller):
        raise NotAllowed(f"project {number} is another's")
    return row


def assign(connection: Transaction, number: int, prefix: str) -> tuple[str, int]:
    """As `Fleets.assign`. Who is a device of a project may see its model and commit to its tasks, once to each."""
    row = fleets.fleet(connection, number)
    found = fleets.devices(connection, prefix=prefix)
    if not found:
        raise DeviceNotFound(f"no device's name begins with {prefix!r}")
    before = fleets.devices(connection, number)
    fleets.assign(connection, [each.account for each in before], None)
    for each in before:
        models.drop_rule(connection, row.model, each.name)
    for each in found:
        if each.fleet not in (0, number):
            models.drop_rule(connection, fleets.fleet(connection, each.fleet).model, each.name)
        models.put_rule(connection, row.model, Rule(each.name, commits=True, most=1))
    fleets.assign(connection, [each.account for each in found], number)
    return row.terms.title, len(found)


def eligible(devices: Sequence[DeviceRow], terms: Terms, now: float) -> list[DeviceRow]:
    """The devices that can be asked to train."""
    asks = rules.Powered(terms.power_plugged_only, terms.battery_level_threshold)
    return [each for each in devices if rules.is_eligible(each.report, asks, now)]


def _owns(row: FleetRow, caller: Caller) -> bool:
    return caller.owner or (caller.name is not None and caller.name == row.owner)


def _sees(connection: Snapshot, row: FleetRow, caller: Caller) -> bool:
    if _owns(row, caller):
        return True
    try:
        return fleets.device(connection, caller.account).fleet == row.id
    except DeviceNotFound:
        return False


def _terms(said: dict[str, Any], before: dict[str, Any]) -> Terms:
    try:
        return msgspec.convert({**before, **said}, Terms, strict=False)
    except msgspec.ValidationError as error:
        raise BadRequest(str(error)) from None


def _status(said: dict[str, Any]) -> rules.State | None:
    if "status" not in said:
        return None
    try:
        return STATES[said["status"]]
    except (KeyError, TypeError):
        raise BadRequest(f"a project's status is one of {', '.join(STATES)}") from None


def _moved(connection: Transaction, row: FleetRow, wanted: rules.State | None) -> FleetRow:
    """A project in the state that its owner wants. Raises OutOfTurn, RunRefused, ProjectRefused."""
    if wanted is None or wanted == row.fleet.state:
        return row
    if wanted == rules.COMPLETED:
        raise ProjectRefused("a project is completed by its rounds alone")
    after, _ = FLEET.advance(row.fleet, Started() if wanted == rules.RUNNING else Halted())
    row = replace(row, fleet=after)
    fleets.put_fleet(connection, row)
    return row
