"""What a node lets out by itself: sums over enough rows, no count of a few, no fit with hardly a row to spare.

Under masks a node's part is seen by nobody, so its counts may be small; the rest holds there as well. These are rules
of thumb of the kind that statistical offices use; they do not add up over many questions, as a privacy budget does.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from grid.learning.analytics import Asked, Rows, Vector
from grid.learning.questions import CoxRegression, Histogram, KaplanMeier, coefficients, reads
from grid.wire.problems import QuestionRefused

PER_COEFFICIENT = 3
"""Rows for each number that is fitted, at least: with as many numbers as rows, a fit gives the rows back."""


def check_rows_enough(count: int, least: int) -> None:
    """Whether a node answers for so many rows. Raises QuestionRefused."""
    if count < least:
        raise QuestionRefused(f"{count} rows; this node answers for {least} and more")


def check_disclosure(question: Asked, rows: Rows, part: Vector, least: int, masked: bool) -> None:
    """Whether a part may leave the node that computed it from these rows.

    Raises:
        QuestionRefused: it may not; the detail says what could be asked instead.
    """
    count = len(rows[reads(question)[0]])
    check_rows_enough(count, least)
    if count < PER_COEFFICIENT * (p := coefficients(question)):
        raise QuestionRefused(f"{count} rows for {p} coefficients; there have to be {PER_COEFFICIENT} for each")
    if masked:
        return
    for counts in _counts(question, rows, part):
        if np.any((counts > 0) & (counts < least)):
            raise QuestionRefused(
                f"its answer would hold counts of fewer than {least} rows: ask in a secure sum, or more coarsely"
            )


def _counts(question: Asked, rows: Rows, part: Vector) -> Iterator[Vector]:
    """All numbers of rows that can be told from a part: those in it, and sums over columns that have two values."""
    match question:
        case Histogram():
            yield part[1:]
        case KaplanMeier(time=time, event=event) | CoxRegression(time=time, event=event):
            for happened in (0.0, 1.0):  # who is at risk no more, though nothing happened, is told as well
                yield np.bincount(rows[time][rows[event] == happened].astype(np.int64)).astype(np.float64)
    ones = [values == values.max() for values in (rows[name] for name in _summed(question)) if _two(values)]
    if ones:
        table = np.column_stack([*ones, *(~each for each in ones)]).astype(np.float64)
        yield (table.T @ table).ravel() if coefficients(question) else table.sum(axis=0)


def _summed(question: Asked) -> tuple[str, ...]:
    """The columns whose sums, or sums of whose products, are in a part."""
    match question:
        case Histogram() | KaplanMeier():
            return ()
        case CoxRegression(columns=columns):
            return columns
        case _:
            return reads(question)


def _two(values: Vector) -> bool:
    return bool(np.all((values == values.min()) | (values == values.max())) and values.min() < values.max())
