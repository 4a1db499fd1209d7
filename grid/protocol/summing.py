"""A secure sum as its coordinator sees it: which step it is in, and who has answered.

Keys, shares, vectors, consents, reveals: each step is over when everybody has answered who is asked, or when its time
is and enough have; whoever has not is out of the sum from there on. The nodes' side is `secure_sum`.

Source: Bonawitz et al. 2017, ePrint 2017/281, figure 4 (the server's part), for active adversaries.
"""

from __future__ import annotations

from collections.abc import Set
from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

from grid.protocol.machine import Machine
from grid.protocol.secure_sum import usual_threshold
from grid.wire.problems import SumRefused

LEAST = 3
"""Nodes of a sum: of two, each knows the other's part from its own."""


class State(StrEnum):
    """The step that is waited for. Lifted: enough was revealed. Broken: there will be no sum, see `reason`."""

    KEYS = "keys"
    SHARES = "shares"
    VECTORS = "vectors"
    CONSENTS = "consents"
    REVEALS = "reveals"
    LIFTED = "lifted"
    BROKEN = "broken"


KEYS, SHARES, VECTORS, CONSENTS, REVEALS, LIFTED, BROKEN = State


class Sum(Struct, frozen=True):
    """One sum. Nodes are named by public key (wire form).

    `asked` are those of whom the present step waits for an answer, `answered` those who gave it. `roster` told keys,
    `dealers` dealt shares to all of it, `survivors` handed in vectors; each is a part of the one before it.
    """

    asked: frozenset[str]
    state: State = KEYS
    answered: Set[str] = frozenset()
    threshold: int = 0
    roster: frozenset[str] = frozenset()
    dealers: frozenset[str] = frozenset()
    survivors: frozenset[str] = frozenset()
    reason: str = ""


class Answered(Struct, frozen=True):
    """A node has given its answer to the present step."""

    node: str


class Gone(Struct, frozen=True):
    """A node will not answer: the round has lost it."""

    node: str


class TimeOver(Struct, frozen=True):
    """The present step has waited long enough."""


class Collected(Struct, frozen=True):
    """The round is closed; these nodes' vectors are in the sum."""

    survivors: frozenset[str]


Outcome = tuple[Sum, tuple[()]]


def answered(s: Sum, e: Answered) -> Outcome:
    """One more; the last one closes the step."""
    if e.node not in s.asked:
        raise SumRefused("this node is not asked: it missed a step of this sum")
    s = replace(s, answered=s.answered | {e.node})
    return (_over(s), ()) if s.answered >= s.asked else (s, ())


def gone(s: Sum, e: Gone) -> Outcome:
    """One less to wait for."""
    s = replace(s, asked=s.asked - {e.node})
    return (_over(s), ()) if s.answered >= s.asked else (s, ())


def time_over(s: Sum, e: TimeOver) -> Outcome:
    """On with those who are here."""
    return _over(s), ()


def collected(s: Sum, e: Collected) -> Outcome:
    """Whose vectors are here is settled."""
    survivors = e.survivors & s.dealers
    after = replace(s, state=CONSENTS, survivors=survivors, asked=survivors, answered=frozenset())
    return _unless_few(after, len(survivors), "handed in vectors"), ()


def _over(s: Sum) -> Sum:
    here = frozenset(s.answered)
    match s.state:
        case State.KEYS:
            threshold = usual_threshold(len(here))
            after = replace(s, state=SHARES, threshold=threshold, roster=here, asked=here, answered=frozenset())
            return _unless_few(after, len(here), "told keys")
        case State.SHARES:
            after = replace(s, state=VECTORS, dealers=here, asked=here, answered=frozenset())
            return _unless_few(after, len(here), "dealt shares")
        case State.CONSENTS:
            after = replace(s, state=REVEALS, asked=s.survivors, answered=frozenset())
            return _unless_few(after, len(here), "consented")
        case _:
            return _unless_few(replace(s, state=LIFTED), len(here), "revealed shares")


def _unless_few(s: Sum, count: int, did: str) -> Sum:
    least = max(s.threshold, LEAST)
    if count >= least:
        return s
    return replace(s, state=BROKEN, reason=f"{count} nodes {did}, a secure sum needs {least}")


_ASKING = (KEYS, SHARES, CONSENTS, REVEALS)
_NEXT = {
    KEYS: {KEYS, SHARES, BROKEN},
    SHARES: {SHARES, VECTORS, BROKEN},
    CONSENTS: {CONSENTS, REVEALS, BROKEN},
    REVEALS: {REVEALS, LIFTED, BROKEN},
}

SUM: Machine[Sum, None] = Machine(
    "sum",
    KEYS,
    {
        **{(state, Answered): (answered, frozenset(_NEXT[state])) for state in _ASKING},
        **{(state, Gone): (gone, frozenset(_NEXT[state])) for state in _ASKING},
        **{(state, TimeOver): (time_over, frozenset(_NEXT[state] - {state})) for state in _ASKING},
        (VECTORS, Collected): (collected, frozenset({CONSENTS, BROKEN})),
    },
)
advance = SUM.advance
