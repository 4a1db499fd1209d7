"""The grid for async programs: `async with grid.aio.connect(url) as g: ...`."""

from __future__ import annotations

from grid.cli.connect import aconnect as connect

__all__ = ["connect"]
