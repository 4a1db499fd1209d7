"""Which NVIDIA GPUs this machine offers, found without CUDA and without torch: by what the driver shows in files.

The daemon asks; CUDA itself is begun in a seat only, after its fork. Whether a GPU that is found also works is seen
there. Source: NVIDIA driver README, "The /proc file system interface"; CUDA C++ Programming Guide, section
"CUDA Environment Variables".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from importlib.util import find_spec
from pathlib import Path

from grid.wire.problems import GpuMissing

DRIVER = Path("proc/driver/nvidia/gpus")
NODE = re.compile(r"nvidia[0-9]+")
VISIBLE = "CUDA_VISIBLE_DEVICES"
BY_NAME = ("GPU-", "MIG-")


class Device(Enum):
    """What an owner wants trainings computed on."""

    AUTO = "auto"  # GPUs where there are some and they work, else the processor
    CPU = "cpu"
    CUDA = "cuda"  # GPUs only: without one the node does not start, and a job that cannot use it fails


@dataclass(frozen=True)
class Gpu:
    """One GPU: what `CUDA_VISIBLE_DEVICES` calls it, and its model, where the driver says that."""

    id: str
    model: str = ""

    def __str__(self) -> str:
        """As status and progress show it, such as `cuda:0 (NVIDIA H200)`."""
        return f"cuda:{self.id} ({self.model})" if self.model else f"cuda:{self.id}"


@dataclass(frozen=True)
class Found:
    """The GPUs that a seat may use; where there are none, why."""

    gpus: tuple[Gpu, ...] = ()
    why: str = ""


def look(root: Path, environment: Mapping[str, str], torch: Path | None) -> Found:
    """What there is below `root` (a machine's `/`), as far as `CUDA_VISIBLE_DEVICES` lets it be seen.

    `torch` is the folder of the installed torch, None if there is none.
    """
    if torch is None:
        return Found(why="torch is not installed")
    if not (torch / "lib" / "libtorch_cuda.so").exists():
        return Found(why="the torch that is installed was built without CUDA")
    models = _models(root / DRIVER)
    count = sum(1 for node in _listed(root / "dev") if NODE.fullmatch(node.name))
    if not (count or models):
        return Found(
            why="there is no /dev/nvidia0 and no /proc/driver/nvidia: no NVIDIA driver, or no GPU was passed in"
        )
    named = [Gpu(str(place), _model(models, place, count)) for place in range(count or len(models))]
    return _seen(named, environment.get(VISIBLE))


def chosen(device: Device, found: Found) -> tuple[Gpu, ...]:
    """The GPUs to use for trainings.

    Raises:
        GpuMissing: GPUs are demanded and there is none.
    """
    if device is Device.CPU:
        return ()
    if device is Device.CUDA and not found.gpus:
        raise GpuMissing(f"this node is told to compute on a GPU, and {found.why}")
    return found.gpus


def here(environment: Mapping[str, str]) -> Found:
    """What this machine offers to the torch of this Python. Imports nothing."""
    spec = find_spec("torch")
    return look(Path("/"), environment, None if spec is None or not spec.origin else Path(spec.origin).parent)


def _seen(gpus: list[Gpu], visible: str | None) -> Found:
    """Those that the variable names, in its order; as CUDA does, it stops at the first name that is none."""
    if visible is None:
        return Found(tuple(gpus))
    kept: list[Gpu] = []
    for word in map(str.strip, visible.split(",")):
        if word.isdecimal() and int(word) < len(gpus):
            kept.append(gpus[int(word)])
        elif word.startswith(BY_NAME):
            kept.append(Gpu(word))
        else:
            break
    unique = tuple(dict.fromkeys(kept))
    return Found(unique, "" if unique else f"{VISIBLE} is {visible!r}, which shows none of the {len(gpus)} there are")


def _models(driver: Path) -> list[str]:
    """The model of each GPU that the driver knows, in the order of their places on the bus."""
    found = []
    for folder in sorted(_listed(driver)):
        try:
            text = (folder / "information").read_text(errors="replace")
        except OSError:
            text = ""
        line = next((line for line in text.splitlines() if line.startswith("Model:")), "")
        found.append(line.removeprefix("Model:").strip()[:64])
    return found


def _model(models: list[str], place: int, count: int) -> str:
    """A container may hold fewer than the driver knows; then which is which cannot be said, unless all are alike."""
    if count in {0, len(models)}:
        return models[place]
    return models[0] if len(set(models)) == 1 else ""


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []
