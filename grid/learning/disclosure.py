"""What a node lets out by itself: sums over enough rows, no count of a few, no fit with hardly a row to spare.

Under masks a node's part is seen by nobody, so its counts may be small; the rest holds there as well. These are rules
of thumb of the kind that statistical offices use; they do not add up over many questions, as a privacy budget does.
"""

from __future__ import annotations

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
    small = _counts(question, part)
    if np.any((small > 0) & (small < least)):
        raise QuestionRefused(
            f"its answer would hold counts of fewer than {least} rows: ask in a secure sum, or more coarsely"
        )


def _counts(question: Asked, part: Vector) -> Vector:
    """The numbers of rows in a part."""
    match question:
        case Histogram():
            return part[1:]
        case KaplanMeier(horizon=horizon) | CoxRegression(horizon=horizon):
            return part[1 : horizon + 2]
        case _:
            return part[:1]
