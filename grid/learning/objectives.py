"""Losses and metrics by name."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional

Score = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def _alike(score: Score) -> Score:
    """A score of targets in the output's shape and dtype: (B,) goes with (B, 1)."""

    def apply(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return score(output, target.to(output.dtype).view_as(output))

    return apply


def _cross_entropy(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(output, target.view(-1) if output.dim() == 2 else target)


def _accuracy(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Share of right answers: the largest of several scores, or the sign of a single logit."""
    answer = output.argmax(1) if output.dim() > 1 and output.shape[1] > 1 else output > 0
    return (answer.reshape(-1) == target.reshape(-1)).float().mean()


def _top5(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Whether fewer than five scores are above the right one's, as a share."""
    right = output.gather(1, target.long().view(-1, 1))
    return ((output > right).sum(1) < 5).float().mean()


# Each is a mean over the batch. Output and target: (B, ...).
LOSSES: dict[str, Score] = {
    "cross_entropy": _cross_entropy,
    "mse": _alike(functional.mse_loss),
    "l1": _alike(functional.l1_loss),
    "huber": _alike(functional.huber_loss),
    "bce_with_logits": _alike(functional.binary_cross_entropy_with_logits),
}
METRICS: dict[str, Score] = {
    "accuracy": _accuracy,
    "top5": _top5,
    "mse": _alike(functional.mse_loss),
    "mae": _alike(functional.l1_loss),
}
CLASSES = "cross_entropy"  # the loss whose targets are class numbers
