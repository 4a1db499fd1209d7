"""What is simulated, as data: a population, what befalls its nodes, and the policy of the rounds."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from grid.wire.problems import RunRefused


def _count(description: str) -> Meta:
    return Meta(ge=1, le=100_000_000, description=description)


def _share(description: str) -> Meta:
    return Meta(ge=0.0, le=1.0, description=description)


def _seconds(description: str) -> Meta:
    return Meta(ge=0.0, le=1e9, description=description)


def _bytes(description: str) -> Meta:
    return Meta(gt=0.0, le=1e15, description=description)


class Scenario(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One simulation. Times are simulated seconds, sizes bytes.

    A synchronous round draws `drawn` nodes and closes with `goal` updates. Buffered, `drawn` nodes are at work at any
    time, each from the model that was newest when it began, and every `goal` updates make a new model (FedBuff, Nguyen
    et al. 2022, arXiv:2106.06581); an update that is s models old counts by 1 / sqrt(1 + s).

    A node's training time is its own, the same whenever it is drawn.
    """

    name: Annotated[str, Meta(max_length=40, description="what it is called")] = "plain"
    mode: Annotated[Literal["synchronous", "buffered"], Meta(description="how updates become models")] = "synchronous"
    rounds: Annotated[int, _count("rounds, or buffers, to play")] = 10
    population: Annotated[int, _count("nodes that are registered")] = 1_000
    joins: Annotated[float, Meta(ge=0.0, le=1e6, description="new nodes a second")] = 0.0
    goal: Annotated[int, _count("updates that close a round or fill a buffer")] = 100
    drawn: Annotated[int, _count("nodes drawn for a round, or at work at a time")] = 130
    quorum: Annotated[int, _count("fewest updates that make a round count")] = 80
    deadline: Annotated[float, Meta(gt=0.0, le=1e9, description="seconds for a round, and for a node's training")] = (
        600.0
    )
    grace: Annotated[float, _seconds("seconds more for uploads that had begun")] = 10.0
    check_in: Annotated[float, _seconds("mean seconds until an invited node commits (exponential)")] = 5.0
    times: Annotated[
        Literal["lognormal", "pareto", "fixed"], Meta(description="how training times are distributed")
    ] = "lognormal"
    median: Annotated[float, _seconds("median seconds of training")] = 60.0
    shape: Annotated[float, Meta(gt=0.0, le=100.0, description="lognormal's sigma, or Pareto's alpha")] = 0.5
    lost: Annotated[float, _share("share of drawn nodes that vanish while they train")] = 0.0
    noticed: Annotated[float, _seconds("seconds until the coordinator notices")] = 2.0
    away: Annotated[float, Meta(ge=0.0, le=86_400.0, description="seconds until such a node is back")] = 600.0
    rejected: Annotated[float, _share("share of updates that cannot be counted")] = 0.0
    hears: Annotated[float, _share("share of nodes that stop once a round is over; others come late")] = 0.0
    model: Annotated[float, _bytes("bytes of a model, and of an update")] = 1e6
    down: Annotated[float, _bytes("bytes a second to a node")] = 2e6
    up: Annotated[float, _bytes("bytes a second from a node")] = 1e6
    summing: Annotated[float, _seconds("seconds from the last update to the next model")] = 1.0
    seed: Annotated[int, Meta(ge=0, le=1 << 53, description="another seed, other chances")] = 0

    @property
    def over_selection(self) -> float:
        """Nodes drawn for each update that is wanted."""
        return self.drawn / self.goal


def checked(scenario: Scenario) -> Scenario:
    """The scenario, if it can be played.

    Raises:
        RunRefused: a figure out of its bounds, or figures that contradict each other; the detail says which.
    """
    try:
        found = msgspec.convert(msgspec.to_builtins(scenario), Scenario)
    except msgspec.ValidationError as error:
        raise RunRefused(f"scenario {scenario.name}: {error}") from None
    if not found.quorum <= found.goal <= found.drawn <= found.population:
        raise RunRefused(f"scenario {found.name}: needs quorum <= goal <= drawn <= population")
    if not all(math.isfinite(value) for value in msgspec.structs.astuple(found) if isinstance(value, float)):
        raise RunRefused(f"scenario {found.name}: every figure must be finite")
    return found


# Bonawitz et al. 2019, arXiv:1902.01046: 130 % of the goal is drawn, since 6 to 10 % of the devices drop out; who comes
# late is ignored. The times are ours.
_BONAWITZ = Scenario(
    name="bonawitz",
    rounds=20,
    population=1_000_000,
    joins=5.0,
    goal=300,
    drawn=390,
    quorum=240,
    deadline=600.0,
    median=90.0,
    shape=0.5,
    lost=0.1,
)

# After Huba et al. 2022, arXiv:2111.04877: devices whose times differ by orders of magnitude, in synchronous rounds of
# a thousand with 30 % more drawn than wanted; as many at work with a buffer of a hundred; waiting for everybody. Our
# own model, not their fleet: no day and night, no tasks that compete, no link between a node's time and its examples.
_PAPAYA = Scenario(
    name="over-selected",
    rounds=40,
    population=1_000_000,
    goal=1_000,
    drawn=1_300,
    quorum=500,
    deadline=1_800.0,
    median=30.0,
    shape=1.4,
    lost=0.05,
)

# Ten hospitals, few enough that each one counts: all who are there are asked, and one in ten is lost in a round and
# away for longer than a round takes. How many must be enough?
_HOSPITALS = Scenario(
    name="eight-needed",
    rounds=100,
    population=10,
    goal=10,
    drawn=10,
    quorum=8,
    deadline=3_600.0,
    median=600.0,
    shape=0.4,
    lost=0.1,
    away=1_800.0,
    hears=1.0,
    model=1e8,
    down=1e7,
    up=5e6,
    summing=5.0,
)

SCENARIOS: dict[str, tuple[Scenario, ...]] = {
    "plain": (Scenario(),),
    "bonawitz": (_BONAWITZ,),
    "papaya": (
        _PAPAYA,
        replace(_PAPAYA, name="buffered", mode="buffered", rounds=400, goal=100, quorum=50),
        replace(_PAPAYA, name="everybody", drawn=1_000),
    ),
    "hospitals": (
        _HOSPITALS,
        replace(_HOSPITALS, name="five-needed", quorum=5),
        replace(_HOSPITALS, name="five-first", quorum=5, goal=7),
    ),
}
"""What is shipped: a name, and the scenarios compared under it. The first is what the others are measured by."""
