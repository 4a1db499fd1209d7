"""Steps that wait for nobody: a round is one step of the server, and takes updates that began with earlier models.

An update made of the model of round m that is judged while round n is open is n - m steps old. It counts in round n
like one of its own, and weighs less (`grid.learning.weighing`). A node counts at most once in each step, so that no
fast node makes a step alone; what one node made of one model counts at most once in all.
"""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from grid.protocol.round import COLLECTING, INVALID, WAITING, Policy, Round, admit_update
from grid.wire.problems import RoundClosed


class Steps(Struct, frozen=True):
    """So many updates make a step, and none of them is more than `oldest` steps old."""

    size: int
    oldest: int


def step_policy(policy: Policy, steps: Steps) -> Policy:
    """The policy of a round that is a step: it counts and closes with exactly `size` updates."""
    return replace(policy, quorum=steps.size, target=steps.size)


def staleness(r: Round, base: int) -> int:
    """How many steps the model went on since an update began with that of round `base`."""
    return r.number - base


def admit_late(r: Round, node: str, base: int, steps: Steps, last: int, now: float) -> bool:
    """Whether a node's update, begun with the model of round `base`, can be judged in this round now.

    False: not yet, in the next round perhaps. `last` is the number of the last round.

    Raises:
        RoundClosed: it never will: too old, of a model that is yet to come, its node counts in this step already,
            or no step comes any more.
        NotInvited, UpdateRefused: as `admit_update`.
    """
    if not 1 <= base <= r.number:
        raise RoundClosed(f"round {base} is not open")
    if (old := staleness(r, base)) > steps.oldest:
        raise RoundClosed(f"it began with the model of round {base}, {old} steps ago; at most {steps.oldest} are taken")
    if r.state == INVALID or (r.number >= last and r.state not in {WAITING, COLLECTING}):
        raise RoundClosed("the run has taken its last step")
    if r.state not in {WAITING, COLLECTING} or now > r.ends:
        return False
    if node in r.accepted:
        raise RoundClosed(f"round {r.number} has an update of this node already; it is called again in the next")
    admit_update(r, node, now)
    return True
