"""One secure sum: what a node checks before each of its steps, and what its coordinator waits for.

Four steps, each closed when all have answered, or at a deadline if the threshold has: keys are told, shares are dealt,
masked vectors are handed in, and what is needed to lift the masks is revealed. Whoever is gone by then is left out.

A node reveals once, for one set of survivors, and for each node either the share of its own mask (it survived) or of
its mask key (it did not), never both: with both its vector could be read.

Source: Bonawitz et al. 2017, ePrint 2017/281, figure 4, the variant for active adversaries (signed keys, and a
consistency check of the survivors).
"""

from __future__ import annotations

from collections.abc import Set
from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

from grid.protocol.machine import Machine
from grid.protocol.neighbours import Circle
from grid.wire.problems import SumRefused

# --- what a node checks -----------------------------------------------------------------------


class Terms(Struct, frozen=True):
    """What a node's owner asks of a sum: at least `nodes` in the roster and in the set that is summed.

    `threshold` shares lift a mask; with n nodes of which c may collude with the coordinator, 2 threshold > n + c.
    """

    nodes: int = 3
    colluding: int = 0

    def check(self, roster: int, threshold: int) -> None:
        """Whether a roster and a threshold will do.

        Raises:
            SumRefused
        """
        if roster < max(self.nodes, 2):
            raise SumRefused(f"{roster} nodes in the roster, this node asks for {max(self.nodes, 2)}")
        if not threshold <= roster or 2 * threshold <= roster + self.colluding:
            raise SumRefused(
                f"a threshold of {threshold} among {roster} nodes does not hold against {self.colluding} that collude"
            )


def usual_threshold(roster: int) -> int:
    """More than two thirds: it withstands a third of the nodes less one."""
    return 2 * roster // 3 + 1


class State(StrEnum):
    """A node's way through one sum."""

    TOLD = "told"
    DEALT = "dealt"
    MASKED = "masked"
    REVEALED = "revealed"
    REFUSED = "refused"


TOLD, DEALT, MASKED, REVEALED, REFUSED = State


class Part(Struct, frozen=True):
    """One node's part in a sum. Nodes are named by their public key (wire form).

    `holders` have shares of this node's secrets, and it of theirs, `needed` of which lift a mask (`neighbours`).
    `dealers` are those of them whose shares came here; of them, only these can be in the sum. `survivors` is the set
    that was revealed.
    """

    me: str
    roster: frozenset[str]
    threshold: int
    holders: frozenset[str]
    needed: int
    terms: Terms = Terms()
    state: State = TOLD
    dealers: Set[str] = frozenset()
    survivors: Set[str] = frozenset()
    reason: str = ""


class SharesCame(Struct, frozen=True):
    """The coordinator passed on the shares of these nodes, this one's own included."""

    dealers: frozenset[str]


class VectorSent(Struct, frozen=True):
    """The masked vector was handed in."""


class SurvivorsNamed(Struct, frozen=True):
    """The coordinator says whose vectors it has; `signed` are the nodes whose signatures of just that set it shows."""

    survivors: frozenset[str]
    signed: frozenset[str]


class Broken(Struct, frozen=True):
    """Something did not hold: nothing more is told in this sum."""

    reason: str


class Reveal(Struct, frozen=True):
    """Make it durable that this is revealed, then send it: shares of masks of the one, of mask keys of the other."""

    masks: frozenset[str]
    keys: frozenset[str]


Outcome = tuple[Part, tuple[Reveal, ...]]


def took_part(me: str, roster: tuple[str, ...], threshold: int, terms: Terms, circle: Circle) -> Part:
    """A node's part in a sum over a roster, if its terms allow it.

    Raises:
        SumRefused: it is not in the roster, a node is there twice, or the terms do not hold.
    """
    if me not in roster:
        raise SumRefused("this node is not in the roster")
    if len(set(roster)) != len(roster):
        raise SumRefused("a node is in the roster twice")
    terms.check(len(roster), threshold)
    circle.spread.check(terms.colluding)
    return Part(me, frozenset(roster), threshold, frozenset(circle.holders(me)), circle.needed, terms)


def deal(p: Part, e: SharesCame) -> Outcome:
    """From here on only those whose shares are here can be in the sum."""
    if not e.dealers <= p.holders or p.me not in e.dealers:
        raise SumRefused("shares came of nodes that deal it none, or this node's own were left out")
    if p.holders == p.roster:
        _enough(p, e.dealers, "dealt shares")
    elif len(e.dealers) < p.needed:
        raise SumRefused(f"{len(e.dealers)} neighbours dealt shares, {p.needed} are needed")
    return replace(p, state=DEALT, dealers=e.dealers), ()


def hand_in(p: Part, e: VectorSent) -> Outcome:
    """The vector is out, under masks that all dealers have a part in."""
    return replace(p, state=MASKED), ()


def consider(p: Part, survivors: Set[str]) -> None:
    """Whether this node would sign that it sees these survivors. Raises SumRefused."""
    near = survivors & p.holders
    if not (survivors <= p.roster and near <= p.dealers) or p.me not in survivors:
        raise SumRefused("the survivors are not among those who dealt shares, or this node is left out")
    _enough(p, survivors, "survived")
    if len(near) < p.needed:
        raise SumRefused(f"{len(near)} neighbours survived, {p.needed} are needed")


def reveal(p: Part, e: SurvivorsNamed) -> Outcome:
    """Tell what lifts the masks of the sum, once enough nodes have signed that they see the same survivors."""
    consider(p, e.survivors)
    if len(e.signed & e.survivors) < p.threshold:
        raise SumRefused(f"{len(e.signed & e.survivors)} nodes signed this set of survivors, not {p.threshold}")
    after = replace(p, state=REVEALED, survivors=e.survivors)
    return after, (_revealed(after),)


def again(p: Part, e: SurvivorsNamed) -> Outcome:
    """The answer was lost: the same is told again. Of another set nothing is."""
    if e.survivors != p.survivors:
        raise SumRefused("another set of survivors was named before")
    return p, (_revealed(p),)


def refuse(p: Part, e: Broken) -> Outcome:
    """Out of it."""
    return replace(p, state=REFUSED, reason=e.reason), ()


def _revealed(p: Part) -> Reveal:
    return Reveal(frozenset(p.survivors & p.holders), frozenset(p.dealers - p.survivors))


def _enough(p: Part, nodes: Set[str], did: str) -> None:
    least = max(p.threshold, p.terms.nodes)
    if len(nodes) < least:
        raise SumRefused(f"{len(nodes)} nodes {did}, {least} are needed")


PART: Machine[Part, Reveal] = Machine(
    "part",
    TOLD,
    {
        (TOLD, SharesCame): (deal, frozenset({DEALT})),
        (TOLD, Broken): (refuse, frozenset({REFUSED})),
        (DEALT, VectorSent): (hand_in, frozenset({MASKED})),
        (DEALT, Broken): (refuse, frozenset({REFUSED})),
        (MASKED, SurvivorsNamed): (reveal, frozenset({REVEALED})),
        (MASKED, Broken): (refuse, frozenset({REFUSED})),
        (REVEALED, SurvivorsNamed): (again, frozenset({REVEALED})),
    },
)
advance = PART.advance
