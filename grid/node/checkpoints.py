"""The checkpoints of one run: safetensors files, on disk before anybody hears of them."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from grid.learning.tensors import Layout, header_bytes

UPDATES = "updates"
"""The folder in a run's folder where updates wait for their round to be complete."""

KEPT = 2
"""How many checkpoints are kept: the newest, and the one that its round began with."""


class Checkpoints:
    """Numbered by the round that made them; 0 is what the run began with."""

    def __init__(self, folder: Path, layout: Layout) -> None:
        self._folder, self._head = folder, header_bytes(layout)
        self.newest = -1

    def path(self, number: int) -> Path:
        """Where checkpoint `number` is."""
        return self._folder / f"checkpoint-{number}.safetensors"

    async def write(self, number: int, data: Iterable[memoryview]) -> Path:
        """Write a checkpoint's data section; it is durable when this returns."""
        path = await asyncio.to_thread(self._write, number, data)
        self.newest = number
        self.path(number - KEPT).unlink(missing_ok=True)
        return path

    def sweep(self) -> None:
        """The run is over: only its checkpoints stay."""
        sweep(self._folder)

    def _write(self, number: int, data: Iterable[memoryview]) -> Path:
        target = self.path(number)
        draft = target.with_suffix(".draft")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb", buffering=0) as file:
            for view in (memoryview(self._head), *data):
                while view:
                    view = view[file.write(view) :]
            os.fsync(file.fileno())
        draft.replace(target)
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return target


def sweep(folder: Path) -> None:
    """Remove all but checkpoints from the folder of a run that is over, however it ended."""
    shutil.rmtree(folder / UPDATES, ignore_errors=True)
    for path in folder.glob("*"):
        if path.suffix != ".safetensors":
            path.unlink(missing_ok=True)
