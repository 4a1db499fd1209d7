"""A network of your own on the digits at the nodes: `python examples/capture/train.py FOLDER [GATEWAY]`.

FOLDER is where `examples/digits/share.py` wrote test.csv. The module stays here: what travels is a list of its
operations and its parameters. What comes back goes into the module again, and is measured on the test set.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import torch
from torch import nn

import grid


def network() -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        nn.Conv2d(1, 16, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(16 * 4 * 4, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )


def test_set(file: Path) -> tuple[torch.Tensor, torch.Tensor]:
    with file.open(newline="") as table:
        rows = [[float(cell) for cell in row] for row in list(csv.reader(table))[1:]]
    values = torch.tensor(rows)
    return values[:, :64], values[:, 64].long()


def take_over(module: nn.Module, plan: grid.Plan) -> None:
    """Put what was learned into the module: a plan's tensors have the names of the module's own."""
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            tensor.copy_(torch.frombuffer(bytearray(plan.values[name]), dtype=tensor.dtype).view_as(tensor))


def main(folder: Path, gateway: str) -> None:
    torch.manual_seed(0)
    net = network()
    plan = grid.Plan.capture(
        net, torch.zeros(8, 64), loss="cross_entropy", metrics=["accuracy"], optimizer="adam", lr=0.002, epochs=2
    )
    print(plan)
    with grid.connect(gateway) as g:
        result = g.train(plan, data="#digits", rounds=10).result()
    take_over(net, result.plan)
    pixels, digits = test_set(folder / "test.csv")
    right = (net.eval()(pixels).argmax(1) == digits).float().mean().item()
    print(f"accuracy on the {len(digits)} scans of the test set: {right:.4f}")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), (sys.argv[2:] or ["http://127.0.0.1:5000"])[0])
