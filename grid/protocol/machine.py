"""A state machine as a table.

The table is the law: it names every event a state takes, the rule that is applied, and the states
the rule may end in. `advance` is the only way a record changes its state; `diagram` draws the
picture of `docs/machines.md` from the same table, and a test compares the two.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, Generic, Protocol, TypeVar

from grid.wire.problems import OutOfTurn


class Stateful(Protocol):
    """A frozen record that knows the state it is in."""

    @property
    def state(self) -> StrEnum:
        """The state."""


Record = TypeVar("Record", bound=Stateful)
Effect = TypeVar("Effect")
Rule = Callable[[Record, Any], tuple[Record, tuple[Effect, ...]]]
Table = Mapping[tuple[StrEnum, type], tuple[Rule[Record, Effect], frozenset[StrEnum]]]


class BrokenRule(AssertionError):
    """A rule ended in a state that its row of the table does not name: a fault in this program."""


class Machine(Generic[Record, Effect]):
    """One kind of record, the state it starts in, and its table `{(state, event): (rule, ends)}`."""

    def __init__(self, name: str, start: StrEnum, transitions: Table[Record, Effect]) -> None:
        self.name, self.start, self.transitions = name, start, transitions

    def advance(self, record: Record, event: object) -> tuple[Record, tuple[Effect, ...]]:
        """Move a record by one event: the record after it, and the effects to carry out.

        Raises:
            OutOfTurn: the table has no row for this event in the record's state.
            BrokenRule: the rule ended where the table does not allow.
        """
        try:
            rule, ends = self.transitions[record.state, type(event)]
        except KeyError:
            raise OutOfTurn(f"{_words(type(event))} cannot happen to a {self.name} that is {record.state}") from None
        after, effects = rule(record, event)
        if after.state not in ends:
            raise BrokenRule(f"a {self.name} went from {record.state} to {after.state} by {type(event).__name__}")
        return after, effects

    def takes(self, record: Record, event: type) -> bool:
        """Whether the table has a row for such an event in the record's state."""
        return (record.state, event) in self.transitions

    def final(self, state: StrEnum) -> bool:
        """Whether nothing more can happen in this state."""
        return all(begin != state for begin, _ in self.transitions)


def diagram(machine: Machine[Any, Any]) -> str:
    """The machine as a mermaid `stateDiagram-v2`, states in the order of their enum."""
    arrows: dict[tuple[StrEnum, StrEnum], list[str]] = {}
    for (begin, event), (_, ends) in machine.transitions.items():
        for end in ends:
            arrows.setdefault((begin, end), []).append(event.__name__)
    place = {state: number for number, state in enumerate(type(machine.start))}
    lines = ["stateDiagram-v2", f"    [*] --> {machine.start}"]
    for begin, end in sorted(arrows, key=lambda arrow: (place[arrow[0]], place[arrow[1]])):
        lines.append(f"    {begin} --> {end} : {', '.join(arrows[begin, end])}")
    lines += [f"    {state} --> [*]" for state in place if machine.final(state)]
    return "\n".join(lines)


def _words(event: type) -> str:
    """`UpdateAccepted` as a person says it: `update accepted`."""
    return re.sub(r"(?<!^)(?=[A-Z])", " ", event.__name__).lower()
