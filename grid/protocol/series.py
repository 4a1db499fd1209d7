"""A series of rounds for devices that come by: who is let into a round, when it ends, when the others shall come again.

A series and its rounds move by the machines of fleets (`protocol.fleet`); other than there, its devices are not known
before they come. Sources: PyGrid's model-centric cycles (server_config); Bonawitz et al. 2019, "Towards federated
learning at scale", section 2.3, for the times at which devices come again.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

from grid.protocol.fleet import Enough, TooFew

RATE = 100.0
"""Check-ins a second that devices are spread to: those who were refused come again no faster, all together."""
SOONEST = 5.0
"""Seconds after which a device comes again at the soonest."""
LATEST = 86_400.0
"""Seconds after which it may come again in any case."""


class Terms(Struct, frozen=True):
    """What a series asks.

    `rounds` of them are to be complete, each with `least` updates. A round ends at `most` updates (0: no maximum) or
    `length` seconds after its first device (0: no end), and lets `devices` in (0: all): the first who come, or a
    `random` choice of all who do. A device rests for `rest` rounds after one. `up` and `down` (kilobits a second) are
    the speeds that it needs. `strategy` sums the updates.
    """

    rounds: int = 1
    least: int = 1
    most: int = 0
    devices: int = 0
    length: float = 0.0
    selection: Literal["random", "iterate"] = "iterate"
    rest: int = 0
    up: float = 0.0
    down: float = 0.0
    strategy: dict[str, Any] | str = "fedavg"

    @property
    def measured(self) -> bool:
        """Whether a device has to know its speeds."""
        return self.up > 0 or self.down > 0


class Speeds(Struct, frozen=True):
    """What a device measured: kilobits a second, and milliseconds there and back. None: it did not."""

    up: float | None = None
    down: float | None = None
    ping: float | None = None


class Door(Struct, frozen=True):
    """A round as it stands: its `number`, the devices that have a place in it, its end (UTC seconds; 0: none)."""

    number: int
    held: int
    ends: float = 0.0


class Refusal(Struct, frozen=True):
    """Not now, and why; `retry_after` in seconds, None: never again."""

    slug: str
    words: str
    retry_after: float | None


def admit(
    terms: Terms, door: Door, *, last: int | None, speeds: Speeds, asking: int, chance: tuple[float, float], now: float
) -> Refusal | None:
    """Whether a device may take part in a round that goes on; None: it may.

    `last` is the round that it took part in before. `asking`: about how many devices came within the last minute.
    `chance`: two numbers from 0 to 1.
    """
    draw, spread = chance
    left = max(0.0, door.ends - now) if door.ends else 0.0
    if slow := _too_slow(terms, speeds):
        return Refusal("too-slow", slow, retry_after(0.0, asking, spread) + 3600.0)
    if last is not None and last < door.number <= last + terms.rest:
        words = f"this device took part in round {last}, and is asked again after round {last + terms.rest}"
        return Refusal("rests", words, retry_after(left, asking, spread))
    if not terms.devices:
        return None
    free = terms.devices - door.held
    if free <= 0:
        return Refusal("full", f"all {terms.devices} places of this round are taken", retry_after(left, asking, spread))
    if terms.selection == "random" and draw >= share(free, asking - door.held):
        words = "this round is for others, chosen by lot"
        return Refusal("not-drawn", words, retry_after(0.0, asking, spread))
    return None


def share(free: int, asking: int) -> float:
    """With which chance a device is taken, so that about `free` of the `asking` are: the more places, the surer."""
    return min(1.0, free / max(1, asking))


def retry_after(left: float, asking: int, spread: float) -> float:
    """Seconds until a device shall come again: after `left`, spread over more time the more devices ask.

    `spread` is a number from 0 to 1 of its own for each.
    """
    return min(LATEST, left + SOONEST + spread * max(SOONEST, asking / RATE))


def next_event(terms: Terms, *, held: int, done: int, failed: int, over: bool) -> Enough | TooFew | None:
    """What becomes of a round with so many devices, of which so many have handed in or given up; None: it goes on."""
    if terms.most and done >= terms.most:
        return Enough()
    if over:
        return Enough() if done >= terms.least else TooFew(f"{done} updates came in time, of {terms.least} at least")
    settled = bool(terms.devices) and held >= terms.devices and done + failed >= held
    bounded = terms.most or terms.length
    if done >= terms.least and (settled or not bounded):
        return Enough()
    return None


def _too_slow(terms: Terms, speeds: Speeds) -> str:
    for asked, found, words in ((terms.up, speeds.up, "upload"), (terms.down, speeds.down, "download")):
        if asked and found is None:
            return f"say how fast this device can {words}: measure it first"
        if asked and found is not None and found < asked:
            return (
                f"an {words} of {asked:g} kbit/s is needed"
                if words == "upload"
                else (f"a {words} of {asked:g} kbit/s is needed")
            )
    return ""
