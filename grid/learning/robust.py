"""Rules that look at all updates of a round side by side, so that a few liars cannot have their way.

They read the updates block-wise from where they are kept, within a budget of memory that the caller states, whatever
the number and size of updates. All are unweighted, since a liar would claim many examples; the geometric median can
be asked for weights. Running statistics are treated as any other number, and left out of distances.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from grid.learning.layouts import Role
from grid.learning.spans import Block, Span, Values, store, stored, widened
from grid.learning.strategy import Bulyan, GeometricMedian, Krum, Median, MultiKrum, Robust, TrimmedMean
from grid.learning.tensors import ITEM_BYTES, Layout

COPIES, ROWS = 2, 10
"""What is held at once of a block, at most: its matrix and another made of it, and so many rows of scratch."""

MOST_COLUMNS = 1 << 20  # squares of differences of the largest numbers, summed over so many, stay in a float32
SETTLED = 1e-7

Distances = NDArray[np.float64]  # (n, n), squared
Statistic = Callable[[Values], Values]  # of a matrix (n, columns), which it may reorder, to (columns,)


class Updates(Protocol):
    """The updates of a round, kept as data sections of one layout."""

    def __len__(self) -> int:
        """How many there are."""

    def append(self, update: memoryview) -> None:
        """Keep one more."""

    def read(self, index: int, begin: int, target: memoryview) -> None:
        """Fill `target` with the bytes of an update from `begin` on."""

    def clear(self) -> None:
        """Forget all."""


class UpdatesInMemory:
    """Updates kept as they are, where nobody asks for a bound."""

    def __init__(self) -> None:
        self._updates: list[bytes] = []

    def __len__(self) -> int:
        return len(self._updates)

    def append(self, update: memoryview) -> None:
        """Keep a copy."""
        self._updates.append(bytes(update))

    def read(self, index: int, begin: int, target: memoryview) -> None:
        """Copy a part."""
        target[:] = memoryview(self._updates[index])[begin : begin + len(target)]

    def clear(self) -> None:
        """Forget all."""
        self._updates.clear()


class SideBySide:
    """The updates of one round as matrices: one row for each update, as many columns as the budget allows."""

    def __init__(self, updates: Updates, layout: Layout, spans: tuple[Span, ...], budget: int) -> None:
        self.updates, self.layout, self.spans, self._budget = updates, layout, spans, budget

    def blocks(self, span: Span, rows: Sequence[int]) -> Iterator[Block]:
        """The numbers of a span, wide: values (len(rows), columns), in memory that the next block is read into."""
        most = self._budget // (np.dtype(span.wide).itemsize * (COPIES * len(rows) + ROWS))
        columns = max(1, min(most, MOST_COLUMNS, span.numbers))
        room = np.empty(len(rows) * columns, span.wide)
        for place in span.blocks(columns):
            width = place.stop - place.start
            matrix = room[: len(rows) * width].reshape(len(rows), width)
            self._fill(matrix, span, place.start, rows)
            yield Block(span, place, matrix)

    def _fill(self, matrix: Values, span: Span, start: int, rows: Sequence[int]) -> None:
        raw = bytearray(matrix.shape[1] * ITEM_BYTES[span.dtype])
        piece = span._replace(end=span.begin + len(raw))
        for row, index in enumerate(rows):
            self.updates.read(index, span.begin + start * ITEM_BYTES[span.dtype], memoryview(raw))
            matrix[row] = widened(stored(raw, piece, 0), span.dtype)

    def reduced(self, rows: Sequence[int], statistic: Statistic) -> Iterator[Block]:
        """One number for each coordinate; of counters and flags, the lower median."""
        for span in self.spans:
            for _, place, matrix in self.blocks(span, rows):
                yield Block(span, place, statistic(matrix) if span.is_float else _lower_median(matrix))

    def averaged(self, weights: dict[int, float]) -> Iterator[Block]:
        """The weighted mean of some rows; of counters and flags, the lower median of those rows."""
        shares = np.array(list(weights.values()))
        shares = shares / shares.sum()
        return self.reduced(list(weights), lambda matrix: _weighted(matrix, shares))

    def distances(self) -> Distances:
        """Squared distances between all pairs, over the parameters; differences first, so that nothing cancels out."""
        everybody = range(len(self.updates))
        squared = np.zeros((len(everybody), len(everybody)))
        for span in self._parameters():
            scratch = np.empty(0, span.wide)
            for _, _, matrix in self.blocks(span, everybody):
                scratch = scratch if scratch.size >= matrix.size else np.empty_like(matrix.ravel())
                room = scratch[: matrix.size].reshape(matrix.shape)
                for row in everybody:
                    apart = np.subtract(matrix[row + 1 :], matrix[row], out=room[row + 1 :])
                    squared[row, row + 1 :] += np.einsum("ij,ij->i", apart, apart)
        return squared + squared.T

    def distances_to(self, point: memoryview) -> NDArray[np.float64]:
        """The distance of each update to a data section of the layout, over the parameters."""
        everybody = range(len(self.updates))
        squared = np.zeros(len(everybody))
        for span in self._parameters():
            for _, place, matrix in self.blocks(span, everybody):
                matrix -= widened(stored(point, span)[place], span.dtype)
                squared += np.einsum("ij,ij->i", matrix, matrix)
        return np.sqrt(squared)

    def _parameters(self) -> Iterator[Span]:
        return (span for span in self.spans if span.role is Role.PARAMETER)


def robust_blocks(rule: Robust, rows: SideBySide, examples: Sequence[float], point: memoryview) -> Iterator[Block]:
    """The aggregate of all updates, block by block; there must be `strategy.least_updates` of them.

    `examples` n_k of each, for the rule that asks; `point` a data section of the layout, to work in.
    """
    everybody = range(len(rows.updates))
    match rule:
        case Median():
            return rows.reduced(everybody, median)
        case TrimmedMean(trim=trim):
            return rows.reduced(everybody, lambda matrix: trimmed_mean(matrix, trim))
        case Krum(liars=liars):
            return rows.averaged({krum_order(rows.distances(), everybody, liars)[0]: 1.0})
        case MultiKrum(liars=liars, kept=kept):
            best = krum_order(rows.distances(), everybody, liars)[: kept or len(everybody) - liars - 2]
            return rows.averaged(dict.fromkeys(sorted(best), 1.0))
        case Bulyan(liars=liars):
            chosen = bulyan_choice(rows.distances(), liars)
            return rows.reduced(chosen, lambda matrix: mean_around_median(matrix, len(chosen) - 2 * liars))
        case GeometricMedian():
            return rows.averaged(geometric_weights(rule, rows, examples, point))


def median(matrix: Values) -> Values:
    """Of each column; the mean of the two in the middle where their number is even. arXiv:1803.01498, definition 1."""
    matrix.sort(axis=0)
    low, high = matrix[(len(matrix) - 1) // 2], matrix[len(matrix) // 2]
    return np.asarray(low / 2 + high / 2, matrix.dtype) if len(matrix) % 2 == 0 else low


def trimmed_mean(matrix: Values, trim: float) -> Values:
    """Of each column, without the floor(trim n) largest and smallest. arXiv:1803.01498, definition 2."""
    matrix.sort(axis=0)
    cut = int(trim * len(matrix) + 1e-9)
    return np.asarray(matrix[cut : len(matrix) - cut].mean(axis=0))


def mean_around_median(matrix: Values, kept: int) -> Values:
    """Of each column, the mean of the `kept` numbers nearest to its median. arXiv:1802.07927, section 4.

    In order, the nearest are neighbours; so what is looked for is the window whose farther end is nearest.
    """
    middle = median(matrix)  # which leaves the columns in order
    reach = matrix[kept - 1 :] - middle  # to the upper end of each window
    for begin, row in enumerate(reach):
        np.maximum(row, middle - matrix[begin], out=row)
    nearest = reach.argmin(axis=0)
    total = np.zeros_like(middle)
    for step in range(kept):
        total += np.take_along_axis(matrix, (nearest + step)[None], axis=0)[0]
    return np.asarray(total / kept, matrix.dtype)


def krum_order(distances: Distances, members: Sequence[int], liars: int) -> list[int]:
    """Members by Krum score, best first: the sum of squared distances to the n - f - 2 nearest others.

    Two that are each other's nearest have the same score where n - f - 2 is 1; then who is nearer to all comes first.
    Source: arXiv:1703.02757, section 4. Bulyan asks it for few members, too; one neighbour at least counts.
    """
    near = max(1, len(members) - liars - 2)
    others = np.sort(distances[np.ix_(members, members)], axis=1)[:, 1:]  # without itself, at distance 0
    scores, totals = others[:, :near].sum(axis=1), others.sum(axis=1)
    return [members[place] for place in np.lexsort((totals, scores))]


def bulyan_choice(distances: Distances, liars: int) -> list[int]:
    """n - 2f members: Krum's choice, then its choice of the rest, and so on. arXiv:1802.07927, section 4."""
    rest, chosen = list(range(len(distances))), []
    for _ in range(len(distances) - 2 * liars):
        best = krum_order(distances, rest, liars)[0]
        rest.remove(best)
        chosen.append(best)
    return sorted(chosen)


def geometric_weights(
    rule: GeometricMedian, rows: SideBySide, examples: Sequence[float], point: memoryview
) -> dict[int, float]:
    """Weights whose mean is the smoothed geometric median, by Weiszfeld's iteration.

    beta_k = alpha_k / max(nu, ||v - w_k||), v = sum_k beta_k w_k / sum_k beta_k: arXiv:1912.13445, Algorithm 2.
    """
    alphas = np.asarray(examples if rule.weight == "examples" else np.ones(len(examples)), np.float64)
    shares = alphas / alphas.sum()
    _write(rows.reduced(range(len(shares)), median), point)
    weights = shares
    for _ in range(rule.iterations):
        before, weights = weights, shares / np.maximum(rule.eps, rows.distances_to(point))
        weights = weights / weights.sum()
        if np.abs(weights - before).max() < SETTLED:
            break
        _write(rows.averaged(dict(enumerate(weights))), point)
    return dict(enumerate(weights))


def _write(blocks: Iterator[Block], point: memoryview) -> None:
    for span, place, values in blocks:
        store(values, stored(point, span)[place], span.dtype)


def _weighted(matrix: Values, shares: NDArray[np.float64]) -> Values:
    """In float64, row by row: a product of matrices would hold them all as float64 at once."""
    total = np.zeros(matrix.shape[1])
    for row, share in zip(matrix, shares, strict=True):
        total += np.multiply(row, share, dtype=np.float64)
    return total.astype(matrix.dtype)


def _lower_median(matrix: Values) -> Values:
    matrix.sort(axis=0)
    return np.asarray(matrix[(len(matrix) - 1) // 2])
