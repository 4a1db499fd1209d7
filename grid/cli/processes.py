"""Daemons as real processes: started together, ready when they say so, and none of them left behind."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

import click

READY = "listening on "
"""What a daemon's one line on standard output begins with; its address follows."""

START_DEADLINE = 60.0
STOP_DEADLINE = 15.0
LOG_LINES = 15


class DaemonFailed(click.ClickException):
    """A daemon did not start, or ended before it should."""


class Daemon:
    """A daemon in a process of its own. `address` is where it answers; `log` what it wrote on standard error."""

    def __init__(self, name: str, process: Process, log: Path) -> None:
        self.name, self.log, self.address = name, log, ""
        self._process = process

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def check(self) -> None:
        """Raises DaemonFailed, with the end of its log, if it does not run any more."""
        if self._process.returncode is not None:
            raise self._failed(f"ended with status {self._process.returncode}")

    async def ready(self) -> None:
        """Wait for the line that it says when it answers.

        Raises:
            DaemonFailed: it ended instead, or took too long.
        """
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(START_DEADLINE):
                async for line in self._process.stdout:
                    if line.startswith(READY.encode()):
                        self.address = line.decode().removeprefix(READY).strip()
                        return
                await self._process.wait()
        except TimeoutError:
            raise self._failed(f"was not ready after {START_DEADLINE:g} s") from None
        self.check()

    def terminate(self) -> None:
        """Ask it to drain and end."""
        with suppress(ProcessLookupError):
            self._process.terminate()

    def kill(self) -> None:
        """End it now; one that has ended already stays so."""
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.kill()

    async def ended(self) -> None:
        """Wait until it is gone."""
        await self._process.wait()

    def _failed(self, how: str) -> DaemonFailed:
        lines = self.log.read_text("utf-8", "replace").splitlines()[-LOG_LINES:]
        return DaemonFailed("\n".join([f"{self.name} {how}; the end of its log:", *(f"  {line}" for line in lines)]))


class Daemons:
    """All daemons that were started here; when the block ends, so do they, unless they were `left`.

    Logs are written to `folder`.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: list[Daemon] = []
        self._left = False

    async def start(self, name: str, module: str, *words: str) -> Daemon:
        """Run `python -m module words` and wait until it is ready. Raises DaemonFailed."""
        daemon = await self._spawn(name, [sys.executable, "-m", module, *words])
        await daemon.ready()
        return daemon

    def check(self) -> None:
        """Raises DaemonFailed if one of them does not run any more."""
        for daemon in self._running:
            daemon.check()

    def leave(self) -> list[int]:
        """Let them go on after the block; their process ids."""
        self._left = True
        return [daemon.pid for daemon in self._running]

    async def stop(self) -> None:
        """End all of them: they drain; who has not ended in time, or when we are hurried, is killed."""
        for daemon in self._running:
            daemon.terminate()
        try:
            async with asyncio.timeout(STOP_DEADLINE):
                await asyncio.gather(*(daemon.ended() for daemon in self._running))
        except TimeoutError:
            pass
        finally:
            for daemon in self._running:
                daemon.kill()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if not self._left:
            await self.stop()

    async def _spawn(self, name: str, command: Sequence[str]) -> Daemon:
        log = self._folder / f"{name}.log"
        # A session of their own: Ctrl-C reaches us alone, and we end them in order.
        with log.open("wb") as errors:
            process = await asyncio.create_subprocess_exec(
                *command, stdin=DEVNULL, stdout=PIPE, stderr=errors, start_new_session=True, env=_environment()
            )
        daemon = Daemon(name, process, log)
        self._running.append(daemon)
        return daemon


def _environment() -> dict[str, str]:
    """Ours, without settings that are meant for a daemon somewhere else."""
    return {name: value for name, value in os.environ.items() if name != "PORT" and not name.startswith("GRID_")}
