"""The checkpoints of one run: safetensors files, on disk before anybody hears of them."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from grid.learning.tensors import Layout, header_bytes
from grid.store.spare import spare

UPDATES = "updates"
"""The folder in a run's folder where updates wait for their round to be complete."""

PLAN = "plan.safetensors"
"""The bundle of a run, in its folder for as long as its checkpoints are: they are numbers for this plan."""

BUNDLE = "bundle-"
"""Bundles of runs to come or going on are files of this name and their digest."""

KEPT = 2
"""How many checkpoints are kept: the newest, and the one that its round began with; the best one beside them."""


class Checkpoints:
    """Numbered by the round that made them; 0 is what the run began with."""

    def __init__(self, folder: Path, layout: Layout) -> None:
        self._folder, self.head = folder, header_bytes(layout)
        self.newest = self.best = -1

    def path(self, number: int) -> Path:
        """Where checkpoint `number` is."""
        return self._folder / f"checkpoint-{number}.safetensors"

    def state(self, number: int) -> Path:
        """Where the server's state after round `number` is, if the strategy has any."""
        return self._folder / f"state-{number}"

    async def write(self, number: int, data: Iterable[memoryview], state: bytes | memoryview = b"") -> Path:
        """Write a checkpoint's data section, and the state that belongs to it; durable when this returns."""
        path = await asyncio.to_thread(self._write, number, data, memoryview(state))
        self.newest = number
        self._forget(number - KEPT)  # its file is written over, if nobody reads it and it is not the best
        return path

    def draft(self, number: int, layout: Layout, data: memoryview) -> Path:
        """Checkpoint `number` in another form, for a while: made anew after a restart, so not durable."""
        target = self._folder / f"broadcast-{number}.draft"
        with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(header_bytes(layout))
            file.write(data)
        return target

    def keep(self, number: int) -> None:
        """This one is the best so far: it stays until another is."""
        before, self.best = self.best, number
        if before <= self.newest - KEPT:
            self._forget(before)

    def _forget(self, number: int) -> None:
        self.state(number).unlink(missing_ok=True)
        if number != self.best:
            self.path(number).unlink(missing_ok=True)

    def sweep(self) -> None:
        """The run is over: only its plan and its checkpoints stay."""
        sweep(self._folder)

    def _write(self, number: int, data: Iterable[memoryview], state: memoryview) -> Path:
        target = self.path(number)
        if state:  # first, so that no checkpoint is without its state
            _durable(self.state(number), [state])
        over = None if number - KEPT == self.best else spare(self.path(number - KEPT), "checkpoint.spare")
        _durable(target, [memoryview(self.head), *data], over)
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return target


def _durable(target: Path, parts: Iterable[memoryview], over: Path | None = None) -> None:
    """A whole file in its place, its bytes on disk; its name is once the folder is. Written `over` one, if given."""
    draft = over or target.with_suffix(".draft")
    emptied = 0 if over else os.O_TRUNC
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | emptied, 0o600), "wb", buffering=0) as file:
        for view in parts:
            while view:
                view = view[file.write(view) :]
        file.truncate()
        os.fsync(file.fileno())
    draft.replace(target)


def sweep(folder: Path) -> None:
    """Remove all but plan and checkpoints from the folder of a run that is over, however it ended."""
    shutil.rmtree(folder / UPDATES, ignore_errors=True)
    for path in folder.glob("*"):
        if path.suffix != ".safetensors":
            path.unlink(missing_ok=True)
