"""The arithmetic of a weighted mean with torch: one pass over sum and update, where numpy needs a product first."""

from __future__ import annotations

import torch

from grid.learning.spans import Values


def add_scaled(total: Values, values: Values, factor: float) -> None:
    """total += factor * values, in place: one-dimensional float arrays of one length and type.

    Product and sum are rounded once instead of twice where the processor can: a unit in the last place from numpy's.
    """
    torch.from_numpy(total).add_(torch.from_numpy(_writable(values)), alpha=factor)


def _writable(values: Values) -> Values:
    """Torch has no arrays that may not be written to; an update never is."""
    return values if values.flags.writeable else values.copy()


def warm_up() -> None:
    """Add once, so that a process which forks has loaded what a sum needs."""
    total = torch.zeros(16, dtype=torch.float32).numpy()
    add_scaled(total, total.copy(), 2.0)
