"""What the commands of FLaaS print: rows of a node's fleets in, lines out. The shapes are those of its README."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from grid.cli.describe import plain
from grid.node.tasks.outcome import comparison_of
from grid.protocol import fleet
from grid.protocol.fleet import Powered, has_power
from grid.store import fleets, tasks
from grid.store.fleets import RoundRow, Told
from grid.store.schema import Snapshot
from grid.wire.problems import DeviceNotFound, RoundNotFound

Lines = Callable[[Snapshot], list[str]]

PERFORMANCE = "performance.json"
WORKER = "local_training_worker"
WORDS = {
    fleet.WAITING: "wait",
    fleet.COLLECTING: "training",
    fleet.AGGREGATING: "training",
    fleet.COMPLETE: "complete",
    fleet.INVALID: "invalid",
}
"""FLaaS's names of the states of a round."""


class Asked(NamedTuple):
    """Which reports are wanted: since when (UTC seconds), and of which power."""

    since: float
    power: Powered

    def reports(self, connection: Snapshot) -> list[Told]:
        """Those, newest first."""
        return [told for told in fleets.reports(connection, self.since) if has_power(told.report, self.power)]


class Measured(NamedTuple):
    """A round as its devices measured it: accuracy (None: not evaluated), mean and deviation of their losses."""

    accuracy: float | None
    losses: list[float]

    @property
    def mean(self) -> float:
        """Of the losses; not a number, where there are none."""
        return statistics.fmean(self.losses) if self.losses else float("nan")

    @property
    def deviation(self) -> float:
        """Of the losses, as of a population."""
        return statistics.pstdev(self.losses) if self.losses else float("nan")


# --- reports ------------------------------------------------------------------------------------


def count_responses(asked: Asked, names: Iterable[str]) -> Lines:
    """How often each device reported."""

    def lines(connection: Snapshot) -> list[str]:
        counted = Counter(told.name for told in asked.reports(connection))
        return ["username, responses", *(f"{name}, {counted[name]}" for name in _chosen(connection, names))]

    return lines


def responses_per_user(asked: Asked, names: Iterable[str]) -> Lines:
    """What each device reported."""

    def lines(connection: Snapshot) -> list[str]:
        found, said = asked.reports(connection), []
        for name in _chosen(connection, names):
            mine = [f"    {_moment(told.report.at)} - {_detail(told)}" for told in found if told.name == name]
            if mine:
                said += [f"Filtered Device Status Responses of user '{name}':", *mine, ""]
        return said

    return lines


def project_responses(asked: Asked, number: int, details: bool) -> Lines:
    """How many devices of a project reported, and with what each did last."""

    def lines(connection: Snapshot) -> list[str]:
        fleets.fleet(connection, number)
        mine = {each.name for each in fleets.devices(connection, number)}
        last: dict[str, Told] = {}
        for told in asked.reports(connection):
            if told.name in mine:
                last.setdefault(told.name, told)
        ratio = f"{len(last) / len(mine):.2f}" if mine else "inf"
        said = [f"Project responses: {len(last)}/{len(mine)} (ratio: {ratio})"]
        if details:
            found = sorted(last.values(), key=lambda told: told.name)
            said += [f"    {told.name} - last_reponse: {_moment(told.report.at)} - {_detail(told)}" for told in found]
        return said

    return lines


def device_responses(begin: float, end: float) -> Callable[[Snapshot], list[dict[str, str]]]:
    """When which device reported between two times (UTC seconds), reports about trainings not counted."""

    def rows(connection: Snapshot) -> list[dict[str, str]]:
        found = [told for told in fleets.reports(connection, begin, end) if not told.round]
        return [{"timestamp": f"{_utc(told.report.at):%Y-%m-%dT%H:%M:%S}", "username": told.name} for told in found]

    return rows


# --- rounds -------------------------------------------------------------------------------------


def joined_rounds(number: int) -> Lines:
    """How many rounds each device joined."""

    def lines(connection: Snapshot) -> list[str]:
        fleets.fleet(connection, number)
        joined = Counter(name for each in fleets.rounds(connection, number) for name in _joined(connection, each))
        return ["username, joined_rounds", *(f"{name}, {count}" for name, count in sorted(joined.items()))]

    return lines


def round_stats(number: int) -> Lines:
    """Who joined which round."""

    def lines(connection: Snapshot) -> list[str]:
        fleets.fleet(connection, number)
        of, said = len(fleets.devices(connection, number)), ["round, status, joined_devices_ratio, usernames"]
        for each in fleets.rounds(connection, number):
            joined = _joined(connection, each)
            ratio = f"{len(joined) / of:.2f}" if of else "inf"
            said.append(f"{each.turn.number}, {WORDS[each.turn.state]}, {ratio}, {joined}")
        return said

    return lines


def project_starts(connection: Snapshot) -> list[str]:
    """When each project began, and when its last round's time is over at the latest."""
    said = []
    for row in fleets.fleets(connection):
        found = fleets.rounds(connection, row.id)
        begin, end = _moment(found[0].created), _moment(found[-1].created + 60 * row.terms.max_training_time)
        said.append(f"Project {row.id} ({plain(row.terms.title)}) \t Begin: {begin} \t End: {end}")
    return said


def train_responses(number: int, kind: str) -> Callable[[Snapshot], list[list[dict[str, Any]]]]:
    """For each round that is complete or under way, the devices that were available, joined, or replied."""

    def rows(connection: Snapshot) -> list[list[dict[str, Any]]]:
        fleets.fleet(connection, number)
        samples = {each.name: each.samples for each in fleets.devices(connection)}
        of = {"available": _available, "joined": _joined, "replied": _replied}[kind]
        return [
            [{"username": name, "samples_index": samples[name]} for name in of(connection, each) if name in samples]
            for each in fleets.rounds(connection, number)
            if each.turn.state in (fleet.COMPLETE, fleet.COLLECTING, fleet.AGGREGATING)
        ]

    return rows


# --- performance --------------------------------------------------------------------------------


def performance(number: int, which: int | None) -> Lines:
    """How one round of a project did: the last complete one, if none is named."""

    def lines(connection: Snapshot) -> list[str]:
        said = _head(connection, number)
        if which is None:
            found = _complete(connection, number)[-1]
            said.insert(1, f"Exact round was not specified, using last completed round '{found.turn.number}'")
        else:
            found = fleets.round_of(connection, number, which)
        name, measured = f"Round {found.turn.number}", measure(connection, found)
        accuracy = "TBD" if measured.accuracy is None else f"{measured.accuracy:.2f}"
        loss = f"{measured.mean:.2f} ({measured.deviation:.2f})"
        return [*said, f"{name} Test Accuracy: {accuracy}", f"{name} Loss: {loss}"]

    return lines


def performance_multirounds(number: int, first: int, last: int | None) -> Lines:
    """How all complete rounds of a project did, from a first to a last one."""

    def lines(connection: Snapshot) -> list[str]:
        said = [*_head(connection, number), "round, test_accuracy, loss_mean, loss_sd"]
        for each in _complete(connection, number):
            if first <= each.turn.number <= (each.turn.number if last is None else last):
                found = measure(connection, each)
                accuracy = "TBD" if found.accuracy is None else f"{found.accuracy:.2f}"
                said.append(f"{each.turn.number}, {accuracy}, {found.mean:.2f}, {found.deviation:.2f}")
        return said

    return lines


def measure(connection: Snapshot, found: RoundRow) -> Measured:
    """What is known of how a round did."""
    losses = [loss for data in fleets.results(connection, found.id, PERFORMANCE) for loss in _losses(data)]
    compared = comparison_of(tasks.get_task(connection, found.task)) if found.task else None
    score = compared.aggregated if compared else None
    return Measured(score.metrics.get("accuracy") if score else None, losses)


def _head(connection: Snapshot, number: int) -> list[str]:
    row = fleets.fleet(connection, number)
    states = Counter(each.turn.state for each in fleets.rounds(connection, number))
    done = f"{states[fleet.COMPLETE]}/{row.terms.number_of_rounds} (plus {states[fleet.INVALID]} invalid)"
    return [f"Project: {plain(row.terms.title)}", f"Rounds completed: {done}"]


def _complete(connection: Snapshot, number: int) -> list[RoundRow]:
    found = [each for each in fleets.rounds(connection, number) if each.turn.state == fleet.COMPLETE]
    if not found:
        raise RoundNotFound(f"no round of project {number} is complete yet")
    return found


def _losses(data: bytes) -> Iterator[float]:
    """The last loss that a device measured; where its apps trained by themselves, the mean of theirs."""
    try:
        said = msgspec.json.decode(data, type=dict[str, Any])[WORKER]
        apps = [said] if said.get("epochs") else list(said.values())
        yield statistics.fmean(float(app["epochs"][-1]) for app in apps)
    except (AttributeError, KeyError, IndexError, TypeError, ValueError):
        return  # a phone may say anything; what is no loss is not counted


# --- names --------------------------------------------------------------------------------------


def _available(connection: Snapshot, found: RoundRow) -> list[str]:
    return fleets.asked(connection, found.id)


def _joined(connection: Snapshot, found: RoundRow) -> list[str]:
    return [job.client for job in tasks.jobs(connection, found.task)] if found.task else []


def _replied(connection: Snapshot, found: RoundRow) -> list[str]:
    jobs = tasks.jobs(connection, found.task) if found.task else []
    return [job.client for job in jobs if job.assignment.state in tasks.HANDED_IN]


def _chosen(connection: Snapshot, names: Iterable[str]) -> list[str]:
    """The devices of these names, or all. Raises DeviceNotFound."""
    there = [each.name for each in fleets.devices(connection)]
    if missing := [name for name in names if name not in there]:
        raise DeviceNotFound(f"there is no device {missing[0]}")
    return [*names] or there


def _detail(told: Told) -> str:
    said, report = f"version_code: {told.version} - bucket: {told.bucket}", told.report
    if report.eligible is not None:  # that is all that it tells
        return f"{said} - eligible: {report.eligible}"
    level = "unknown" if report.level is None else f"{report.level:.2f}"
    return f"{said} - power_plugged: {report.plugged} - battery: {level}"


def _moment(at: float) -> str:
    return f"{_utc(at):%d/%m/%Y %H:%M:%S.%f}"[:-3]


def _utc(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)
