"""Models as phones take them: the numbers of a checkpoint and nothing else, float32, little-endian."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from grid.learning.tensors import Layout, TensorSpec, header_bytes
from grid.node.models import head_of, learned
from grid.transport.body import BLOCK
from grid.transport.parts import Parts
from grid.wire.problems import ModelRefused

KNOWN = {"CIFAR10_B20": 62_720 * 10 + 10}
"""Models of FLaaS that begin with zeros where this node has none of that name, by how many numbers they have.

Source: FLaaS-Server, consts.MODEL_SIZE: the last layer of a MobileNetV2 for CIFAR-10, 62,720 x 10 weights, 10 biases.
"""


def check_numbers(path: Path) -> Layout:
    """What is trained of a checkpoint, if phones can take it. Raises ModelRefused, PlanRefused."""
    layout, _ = learned(path)
    other = sorted(spec.name for spec in layout.specs if spec.dtype != "F32")
    if other:
        raise ModelRefused(f"devices take float32 alone, and {', '.join(other[:5])} is of another type")
    return layout


def raw_parts(path: Path, tag: str) -> Parts:
    """What of a checkpoint is trained, its tensors one after the other."""
    layout, _ = learned(path)
    with path.open("rb", buffering=0) as file:
        held, _, offset = head_of(file)
    starts = [(offset + held.by_name[spec.name].begin, begin, end) for spec, begin, end in layout.slots]

    async def read(begin: int, end: int) -> AsyncIterator[bytes]:
        with path.open("rb", buffering=0) as file:
            for where, first, last in starts:
                for at in range(max(first, begin), min(last, end), BLOCK):
                    file.seek(where + at - first)
                    yield file.read(min(BLOCK, min(last, end) - at))

    return Parts(f"{tag}-numbers", layout.size, read)


def zeros(size: int) -> Iterator[bytes]:
    """The file of a checkpoint of so many zeros, in blocks."""
    layout = Layout([TensorSpec("weights", "F32", (size,))])
    yield header_bytes(layout)
    for begin in range(0, layout.size, BLOCK):
        yield bytes(min(BLOCK, layout.size - begin))
