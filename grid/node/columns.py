"""Where the columns of a question lie in a dataset, by its description alone."""

from __future__ import annotations

import math
from collections.abc import Iterable

from grid.wire.node import Column, DatasetInfo
from grid.wire.problems import QuestionRefused

Place = tuple[str, int, tuple[float, ...]]
"""A tensor, the place in its rows, and the numbers that its codes stand for (none: as they are)."""


def places(info: DatasetInfo, names: Iterable[str]) -> dict[str, Place]:
    """Where each column is, by its name.

    A name is that of a table's column; `column=word` of the rows where a column holds that word, as 0 and 1; that of a
    tensor with one number in each row; or `tensor.3`, for the fourth number of its rows.

    Raises:
        QuestionRefused: there is no such column, or words are no numbers.
    """
    return {name: _place(info, name) for name in names}


def _place(info: DatasetInfo, name: str) -> Place:
    for column in info.columns:
        words = _words(info, column)
        if column.name == name:
            return column.tensor, column.position, _numbers(name, words)
        if words and name.startswith(f"{column.name}="):
            word = name[len(column.name) + 1 :]
            return column.tensor, column.position, tuple(float(word == each) for each in words)
    tensor, _, place = name.rpartition(".")
    widths = {each.name: math.prod(each.shape[1:]) for each in info.tensors}
    if widths.get(name) == 1:
        return name, 0, ()
    if tensor in widths and place.isdecimal() and int(place) < widths[tensor]:
        return tensor, int(place), ()
    known = ", ".join([column.name for column in info.columns] or [f"{each}.0 ..." for each in widths])
    raise QuestionRefused(f"dataset {info.name!r} has no column {name!r}; it has {known[:400]}")


def _words(info: DatasetInfo, column: Column) -> tuple[str, ...]:
    """What the codes of a column stand for; the target's are the classes of the dataset."""
    if column.kind == "number":
        return ()
    return column.categories or info.classes


def _numbers(name: str, words: tuple[str, ...]) -> tuple[float, ...]:
    try:
        return tuple(map(float, words))
    except ValueError:
        hint = f"{name}={words[0]}"[:80]
        raise QuestionRefused(f"column {name!r} holds words; ask for one of them, as in {hint!r}") from None
