"""Sets of nodes and notes about them that never change, and of which a changed copy shares most with the old.

A rule makes a new record at each event. Copying a few names whole is quickest; of many, that would make an event cost
as much as there are nodes. So beyond `FEW` they lie in parts, and a change copies one part.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Set
from itertools import chain
from typing import TypeVar

FEW = 256
"""So many are copied whole: about a microsecond."""
PARTS = 64
"""In so many parts at first. A change copies one part and the list of all, so both grow as the square root."""

Note = TypeVar("Note")
Part = TypeVar("Part")


def added(names: Set[str], name: str) -> Set[str]:
    """These names and one more."""
    if name in names:
        return names
    if type(names) is SpreadNames:
        return names.added(name)
    grown = names | {name}
    return grown if len(grown) <= FEW else SpreadNames.of(grown)


def removed(names: Set[str], name: str) -> Set[str]:
    """These names without one, which need not be among them."""
    if name not in names:
        return names
    return names.removed(name) if type(names) is SpreadNames else names - {name}


def noted(notes: Mapping[str, Note], name: str, note: Note) -> Mapping[str, Note]:
    """These notes and one more, behind the others; a note on the same name is replaced in its place."""
    if type(notes) is SpreadNotes:
        return notes.noted(name, note)
    grown = {**notes, name: note}
    return grown if len(grown) <= FEW else SpreadNotes.of(grown)


def forgotten(notes: Mapping[str, Note], name: str) -> Mapping[str, Note]:
    """These notes without the one on a name, if there is one."""
    if name not in notes:
        return notes
    if type(notes) is SpreadNotes:
        return notes.forgotten(name)
    return {other: note for other, note in notes.items() if other != name}


class SpreadNames(Set[str]):
    """A frozen set in parts. What is computed from it with `&`, `|` and `-` is a frozenset."""

    __slots__ = ("_parts", "_size")

    def __init__(self, parts: tuple[frozenset[str], ...], size: int) -> None:
        self._parts, self._size = parts, size

    @classmethod
    def of(cls, names: Collection[str]) -> SpreadNames:
        """These names, spread."""
        parts: list[set[str]] = [set() for _ in range(_parts_for(len(names)))]
        for name in names:
            parts[hash(name) & len(parts) - 1].add(name)
        return cls(tuple(map(frozenset, parts)), sum(map(len, parts)))

    @classmethod
    def _from_iterable(cls, names: Iterable[str]) -> frozenset[str]:  # type: ignore[override]  # as the class says
        return frozenset(names)

    def __contains__(self, name: object) -> bool:
        return name in self._parts[hash(name) & len(self._parts) - 1]

    def __iter__(self) -> Iterator[str]:
        return chain.from_iterable(self._parts)

    def __len__(self) -> int:
        return self._size

    def __repr__(self) -> str:
        return f"SpreadNames({list(self)})"

    @property
    def crowded(self) -> bool:
        """Whether there are too few parts."""
        return 2 * self._size > len(self._parts) ** 2

    def added(self, name: str) -> SpreadNames:
        """With one that is not among them."""
        at = hash(name) & len(self._parts) - 1
        grown = SpreadNames(_exchanged(self._parts, at, self._parts[at] | {name}), self._size + 1)
        return SpreadNames.of(grown) if grown.crowded else grown

    def removed(self, name: str) -> SpreadNames:
        """Without one that is among them."""
        at = hash(name) & len(self._parts) - 1
        return SpreadNames(_exchanged(self._parts, at, self._parts[at] - {name}), self._size - 1)


class SpreadNotes(Mapping[str, Note]):
    """A frozen dict in parts, in the order in which the notes came: each lies beside its number."""

    __slots__ = ("_next", "_parts", "_size")

    def __init__(self, parts: tuple[dict[str, tuple[int, Note]], ...], size: int, following: int) -> None:
        self._parts, self._size, self._next = parts, size, following

    @classmethod
    def of(cls, notes: Mapping[str, Note]) -> SpreadNotes[Note]:
        """These notes, spread."""
        parts: tuple[dict[str, tuple[int, Note]], ...] = tuple({} for _ in range(_parts_for(len(notes))))
        for number, (name, note) in enumerate(notes.items()):
            parts[hash(name) & len(parts) - 1][name] = (number, note)
        return cls(parts, len(notes), len(notes))

    def __getitem__(self, name: str) -> Note:
        return self._parts[hash(name) & len(self._parts) - 1][name][1]

    def __contains__(self, name: object) -> bool:
        return name in self._parts[hash(name) & len(self._parts) - 1]

    def __iter__(self) -> Iterator[str]:
        ordered = sorted((number, name) for part in self._parts for name, (number, _) in part.items())
        return iter([name for _, name in ordered])

    def __len__(self) -> int:
        return self._size

    def __repr__(self) -> str:
        return f"SpreadNotes({dict(self)})"

    @property
    def crowded(self) -> bool:
        """Whether there are too few parts."""
        return 2 * self._size > len(self._parts) ** 2

    def noted(self, name: str, note: Note) -> SpreadNotes[Note]:
        """With one more, or another in its place."""
        at = hash(name) & len(self._parts) - 1
        part = self._parts[at]
        number = part[name][0] if name in part else self._next
        grown = self._with(at, {**part, name: (number, note)})
        return SpreadNotes.of(grown) if grown.crowded else grown

    def forgotten(self, name: str) -> SpreadNotes[Note]:
        """Without the one on a name."""
        at = hash(name) & len(self._parts) - 1
        return self._with(at, {other: note for other, note in self._parts[at].items() if other != name})

    def _with(self, at: int, part: dict[str, tuple[int, Note]]) -> SpreadNotes[Note]:
        size = self._size + len(part) - len(self._parts[at])
        return SpreadNotes(_exchanged(self._parts, at, part), size, self._next + 1)


def _parts_for(size: int) -> int:
    """A power of four, so that it is seldom counted anew."""
    parts = PARTS
    while 2 * size > parts * parts:
        parts *= 4
    return parts


def _exchanged(parts: tuple[Part, ...], at: int, part: Part) -> tuple[Part, ...]:
    others = list(parts)
    others[at] = part
    return tuple(others)
