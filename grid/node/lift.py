"""What both sides of a secure sum make of a roster: its transcript, and the seeds that lift a sum's masks."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec

from grid.crypto.identity import public_from_id
from grid.crypto.masks import RoundKeys, Transcript
from grid.wire.runs import Task
from grid.wire.sums import SumKeys


class Place(NamedTuple):
    """Which sum: its round, and the number that the coordinator gave it."""

    round: int
    sum: int


class Lift(NamedTuple):
    """Seeds (16 bytes each) of keystreams to add to a sum and to subtract from it; `parties`: nodes of the roster."""

    added: tuple[bytes, ...]
    subtracted: tuple[bytes, ...]
    parties: int


def survivors_digest(survivors: Iterable[str]) -> str:
    """What nodes consent to: the SHA-256 of these survivors, in hex, whoever lists them in whichever order."""
    return hashlib.sha256("\n".join(sorted(survivors)).encode()).hexdigest()


def transcript_of(
    task: Task, number: int, told: Mapping[str, SumKeys], threshold: int, bound: float, numbers: int
) -> bytes:
    """The digest of all that the nodes of a sum must agree on. `told`: each one's keys, by its own."""
    model = next(iter(told.values())).model
    roster = tuple(
        RoundKeys(node=public_from_id(key), masks=told[key].masks, shares=told[key].shares) for key in sorted(told)
    )
    transcript = Transcript(
        run=task.run,
        round=number,
        plan=bytes.fromhex(task.plan),
        model=bytes.fromhex(model),
        strategy=hashlib.sha256(msgspec.json.encode(task.strategy, order="deterministic")).digest(),
        roster=roster,
        threshold=threshold,
        range_=bound,
        numbers=numbers,
    )
    return transcript.digest()
