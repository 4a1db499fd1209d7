"""Everybody who is registered: ten bytes each, and no object for whoever is idle."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from grid.protocol import membership
from grid.protocol.membership import LeaseEnded, Member, Renewed, State
from grid.simulation.chance import Ids, Purpose, fractions
from grid.simulation.clock import Clock
from grid.simulation.figures import Figures
from grid.simulation.scenario import Scenario

LEASE = 90.0
"""Seconds, as a gateway's."""
BLOCK = 1024
"""So many lots are drawn at once."""
_STATES = list(State)
_CODES = {state: code for code, state in enumerate(_STATES)}
_ONLINE = _CODES[State.ONLINE]


class Population:
    """Nodes 0 to `size`: the state and the lease of each as its membership machine left them, and who is drawn.

    An event takes a member out of the arrays, moves it by the machine's rule, and puts it back. That idle nodes renew
    their leases changes nothing, so it is not played: their leases have no end.
    """

    def __init__(self, scenario: Scenario, clock: Clock, figures: Figures) -> None:
        self.size = scenario.population
        self._scenario, self._clock, self._figures = scenario, clock, figures
        self._states = np.full(self.size, _ONLINE, np.uint8)
        self._ends = np.full(self.size, np.inf)
        self._drawn = np.zeros(self.size, np.bool_)
        self.growing = bool(scenario.joins)
        self._waits = self._drawn_waits()

    def draw(self, count: int, turn: int) -> Ids:
        """As many nodes who are there and free, or as there are. None is drawn again until its `release`."""
        chosen = self._of_many(count, turn) if count * 8 < self.size else self._of_few(count, turn)
        self._drawn[chosen] = True
        return chosen

    def _of_few(self, count: int, turn: int) -> Ids:
        everybody = np.arange(self.size)
        lots = fractions(self._scenario.seed, Purpose.DRAW, everybody, turn)
        free: Ids = everybody[np.argsort(lots)]
        return free[self._free(free)][:count]

    def _of_many(self, count: int, turn: int) -> Ids:
        """Lots from a stream, without those met before: no array as long as the population."""
        chosen = np.empty(0, np.int64)
        for start in range(0, self.size, 2 * count):
            lots = fractions(self._scenario.seed, Purpose.DRAW, np.arange(start, start + 2 * count), turn)
            found = np.concatenate([chosen, (lots * self.size).astype(np.int64)])
            _, first = np.unique(found, return_index=True)
            found = found[np.sort(first)]
            chosen = found[self._free(found)][:count]
            if len(chosen) == count:
                break
        return chosen

    def _free(self, nodes: Ids) -> NDArray[np.bool_]:
        free: NDArray[np.bool_] = (self._states[nodes] == _ONLINE) & ~self._drawn[nodes]
        return free

    def release(self, node: int) -> None:
        """It may be drawn again."""
        self._drawn[node] = False

    def put_back(self, nodes: Ids) -> None:
        """As `release`, for many."""
        self._drawn[nodes] = False

    # --- what happens to a member -----------------------------------------------------------------

    def lose(self, node: int) -> None:
        """It has vanished: its lease, renewed until now, runs out, and later it is back."""
        self._ends[node] = self._clock.now + LEASE
        self._clock.after(LEASE, self._lapse, node)
        self._clock.after(self._scenario.away, self._come_back, node)

    def _lapse(self, node: int) -> None:
        self._advance(node, LeaseEnded(self._clock.now))

    def _come_back(self, node: int) -> None:
        self._advance(node, Renewed(self._clock.now, math.inf))
        self.release(node)

    def grow(self) -> None:
        """Let new nodes join, one after the other, at the scenario's rate."""
        if self.growing:
            self._clock.after(next(self._waits), self._join)

    def _drawn_waits(self) -> Iterator[float]:
        """Seconds from one join to the next."""
        for start in itertools.count(0, BLOCK):
            lots = fractions(self._scenario.seed, Purpose.JOINS, np.arange(start, start + BLOCK), 0)
            yield from (-np.log(lots) / self._scenario.joins).tolist()

    def _join(self) -> None:
        node = self.size
        if not self.growing:
            return
        if node == len(self._states):
            self._states = np.concatenate([self._states, np.zeros(node // 4 + 64, np.uint8)])
            self._ends = np.concatenate([self._ends, np.full(node // 4 + 64, np.inf)])
            self._drawn = np.concatenate([self._drawn, np.zeros(node // 4 + 64, np.bool_)])
        self.size += 1
        self._put(node, membership.joined(str(node), self._clock.now, LEASE, verified=True))
        self._advance(node, Renewed(self._clock.now, math.inf))
        self._figures.joined += 1
        self.grow()

    def _advance(self, node: int, event: object) -> None:
        member = Member(str(node), float(self._ends[node]), verified=True, state=_STATES[self._states[node]])
        self._put(node, membership.advance(member, event)[0])
        self._figures.machine_events += 1

    def _put(self, node: int, member: Member) -> None:
        self._states[node], self._ends[node] = _CODES[member.state], member.lease_ends
