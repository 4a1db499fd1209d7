"""What FLaaS is told: this node's fleets in its fields and numbers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from grid.accounts.house import House
from grid.node.fleet.registry import STATES, Fleets
from grid.node.fleet.rounds import Rounds
from grid.node.tasks.jobs import Jobs
from grid.protocol import fleet
from grid.store.events import EventLog
from grid.store.fleets import FleetRow, RoundRow

STATUS = {state: name for name, state in STATES.items()}
NUMBERS = {fleet.WAITING: 1, fleet.COLLECTING: 2, fleet.AGGREGATING: 2, fleet.COMPLETE: 3, fleet.INVALID: 4}
"""The states of a round, as FLaaS numbers them."""
DECIMALS = (
    "responses_ratio_threshold",
    "valid_round_training_threshold",
    "battery_level_threshold",
)
"""Fields that travel as text with two digits, as Django's decimals do."""


@dataclass(frozen=True)
class FlaasParts:
    """The services of the node that FLaaS's words are calls on.

    `samples`: the folder of the devices' samples; `push_key`: what browsers name when they subscribe.
    """

    house: House
    fleets: Fleets
    rounds: Rounds
    jobs: Jobs
    events: EventLog
    samples: Path
    push_key: str


def project_told(row: FleetRow, current: int) -> dict[str, Any]:
    """A project, and the number of its newest round."""
    terms: dict[str, Any] = msgspec.to_builtins(row.terms)
    terms |= {name: f"{terms[name]:.2f}" for name in DECIMALS}
    told = {"id": row.id, "create_date": moment(row.created), "status": STATUS[row.fleet.state]}
    return {**told, **terms, "current_round": current}


def round_told(row: FleetRow, found: RoundRow) -> dict[str, Any]:
    """A round; what it asks of a device is its project's."""
    terms = row.terms
    return {
        "id": found.id,
        "model": terms.model,
        "dataset": terms.dataset,
        "dataset_type": terms.dataset_type,
        "training_mode": terms.training_mode,
        "number_of_apps": terms.number_of_apps,
        "create_date": moment(found.created),
        "round_number": found.turn.number,
        "status": NUMBERS[found.turn.state],
        "start_training_date": moment(found.started),
        "stop_training_date": moment(found.stopped),
        "number_of_samples": terms.number_of_samples,
        "number_of_epochs": terms.number_of_epochs,
        "seed": terms.seed,
        "project": row.id,
    }


def moment(at: float | None) -> str | None:
    """A time (UTC seconds) as Django tells it."""
    return None if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
