"""What the values of a column have in common, and how they become numbers.

A first pass looks at every value, `settle` decides, a second pass encodes. Whole numbers from zero up are
their own codes in a target, so that nodes which lack a class still agree about the others.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import NamedTuple

from grid.node.tables import Cells, Table, kept_names
from grid.wire.problems import DatasetRefused

MAX_WORDS = 1024
"""The most classes of a target, and the most words of a column."""

FEW_WORDS = 16
"""So many words may be different in every row; with more of them, half must be repeats."""

FLOAT32_MAX = 3.4028234663852886e38
_MISSING = frozenset({"", "na", "n/a", "nan", "null"})


@dataclass(frozen=True)
class Encoding:
    """How a column's values become numbers: as they are, or as places in `categories`."""

    categories: tuple[str, ...] = ()
    codes: Mapping[str | float, int] = field(default_factory=dict)

    def encode(self, values: Cells) -> array[float]:
        """The numbers of some values. Raises KeyError or ValueError for a value that the survey never saw."""
        if self.codes:
            return array("d", map(self.codes.__getitem__, values))
        return array("d", map(float, values))


class Survey:
    """Everything that one pass over a column finds out.

    `unit` is what places count. Missing are empty cells, NA, N/A, NaN and null.
    """

    def __init__(self, name: str, unit: str = "line") -> None:
        self.name, self._unit = name, unit
        self._rows = self._missing = 0
        self._first_missing = 0
        self._first_word = ""
        self._low, self._high, self._whole = math.inf, -math.inf, True
        self._words: set[str | float] | None = set()

    def look(self, places: Sequence[int], values: Cells) -> None:
        """Take note of some more values; `places` says where each stands."""
        self._rows += len(values)
        found = _numbers(values)
        if found and math.isfinite(sum(found)) and self._within(min(found), max(found)):
            self._whole = self._whole and all(map(float.is_integer, found))
        else:
            self._look_closely(places, values)
        if self._words is not None:
            self._words.update(values)
            self._words = self._words if len(self._words) <= MAX_WORDS else None

    def feature(self) -> Encoding:
        """How the column is read as a feature.

        Raises:
            DatasetRefused: values are missing, or words hardly ever repeat: names or free text, which a
                description must not tell.
        """
        if self._missing:
            raise self._refuse(f"{self._gaps()}; fill them, or leave the column out with --drop '{self.name}'")
        return self._of_words() if self._first_word else Encoding()

    def target(self, classes: Sequence[str] = (), regression: bool = False) -> Encoding:
        """How the column is read as what is to be learned: classes, or numbers if they are not whole.

        `classes` fixes names and order; `regression` learns whole numbers as numbers.

        Raises:
            DatasetRefused: values are missing, are none of the `classes`, or there are too many classes.
        """
        if self._missing:
            raise self._refuse(f"{self._gaps()}; a target must be known in every row")
        if self._first_word:
            return self._of_words(classes)
        if regression or not (self._whole or classes):
            return Encoding()
        return self._of_numbers(classes)

    def _within(self, low: float, high: float) -> bool:
        self._low, self._high = min(low, self._low), max(high, self._high)
        return low >= -FLOAT32_MAX and high <= FLOAT32_MAX

    def _look_closely(self, places: Sequence[int], values: Cells) -> None:
        """Value by value: something is missing here, is a word, or is no number of ours."""
        for value, times in Counter(_plain(value) for value in values).items():
            if value is None:
                self._missing += times
                self._first_missing = self._first_missing or _place(places, values, value)
            elif isinstance(value, str):
                self._first_word = self._first_word or f"{value[:40]!r} in {self._unit} {_place(places, values, value)}"
            elif not self._within(value, value):
                where = f"{self._unit} {_place(places, values, value)}"
                raise self._refuse(f"{value} in {where} is infinite, or too large for a 32-bit number")
            else:
                self._whole = self._whole and value.is_integer()

    def _of_words(self, classes: Sequence[str] = ()) -> Encoding:
        if self._words is None:
            raise self._refuse(f"more than {MAX_WORDS} different words; the first is {self._first_word}{_HINT}")
        words = {word: str(word).strip() for word in self._words}
        different = set(words.values())
        if not classes and len(different) > max(FEW_WORDS, self._rows // 2):
            raise self._refuse(f"{len(different)} words in {self._rows} rows, first {self._first_word}{_HINT}")
        return self._coded(words, classes or sorted(different))

    def _of_numbers(self, classes: Sequence[str]) -> Encoding:
        if self._words is None:
            raise self._refuse(
                f"more than {MAX_WORDS} whole numbers; are they to be learned as numbers (--regression)?"
            )
        words = {word: _label(float(word)) for word in self._words}
        if not classes and self._low >= 0 and self._high < MAX_WORDS:
            classes = [str(code) for code in range(int(self._high) + 1)]
        return self._coded(words, classes or sorted(set(words.values()), key=float))

    def _coded(self, words: Mapping[str | float, str], classes: Sequence[str]) -> Encoding:
        codes = {name: code for code, name in enumerate(classes)}
        for name in sorted(set(words.values()) - codes.keys()):
            raise self._refuse(f"{name[:40]!r} is none of the classes {', '.join(classes)[:200]}")
        return Encoding(tuple(classes), {word: codes[name] for word, name in words.items()})

    def _gaps(self) -> str:
        return f"{self._missing} missing values, the first in {self._unit} {self._first_missing}"

    def _refuse(self, why: str) -> DatasetRefused:
        return DatasetRefused(f"column {self.name!r}: {why}")


class Surveyed(NamedTuple):
    """A column, how it is read, and its place among the features; None for the target."""

    name: str
    encoding: Encoding
    position: int | None


def survey(
    table: Table, target: str | None = None, classes: Sequence[str] = (), regression: bool = False
) -> tuple[int, list[Surveyed]]:
    """One pass over a table: its rows, and how each of its columns is to be read.

    Raises:
        DatasetRefused: there are no rows, no such target, or a column cannot be read (see `Survey`).
    """
    kept_names(table.names, (), target)
    rows, columns = 0, [Survey(name, table.unit) for name in table.names]
    for block in table.blocks():
        rows += len(block.places)
        for column, values in zip(columns, block.columns, strict=True):
            column.look(block.places, values)
    if not rows:
        raise DatasetRefused("has names of columns and no rows")
    positions = count()
    return rows, [
        Surveyed(column.name, column.target(classes, regression), None)
        if column.name == target
        else Surveyed(column.name, column.feature(), next(positions))
        for column in columns
    ]


_HINT = "; names and free text would be told in the description: leave the column out with --drop"


def _numbers(values: Cells) -> array[float] | None:
    """The values as numbers, if that is what they all are (in Python, `1_0` is one; here it is a word)."""
    try:
        found = array("d", map(float, values))
    except ValueError:
        return None
    return None if isinstance(values[0], str) and "_" in "".join(map(str, values)) else found


def _plain(value: object) -> str | float | None:
    """A number if it is one, None if it is missing, otherwise the word."""
    text = str(value).strip()
    if text.casefold() in _MISSING:
        return None
    try:
        return text if "_" in text else float(text)
    except ValueError:
        return text


def _place(places: Sequence[int], values: Cells, wanted: str | float | None) -> int:
    return next(place for place, value in zip(places, values, strict=True) if _plain(value) == wanted)


def _label(number: float) -> str:
    return str(int(number)) if number.is_integer() else str(number)
