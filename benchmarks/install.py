"""What an installation takes on disk, byte code and all, as `du` counts it: client, gateway, node without torch.

Each goes into a fresh virtual environment, in the versions that `requirements/` pins. Without pip itself. Where no
package index can be reached there is nothing to measure, and it says so.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.daemons import scratch
from benchmarks.row import Row

ROOT = Path(__file__).resolve().parents[1]
WITHIN = 200.0
SETS = (("client", "", 50.0), ("gateway", "[gateway]", 100.0), ("node", "[node]", 140.0))
"""What to install, and the most that it may take, MB."""


class NoIndex(Exception):
    """Packages cannot be had here."""


def call(*command: str | Path) -> None:
    words = list(map(str, command))
    try:
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=WITHIN, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoIndex(str(error)) from None
    if done.returncode:
        raise NoIndex((done.stdout + done.stderr).strip()[-500:])


def wheel(folder: Path) -> Path:
    """This project as it would be installed."""
    call(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder)
    return next(folder.glob("*.whl"))


def pins(folder: Path) -> Path:
    """The pinned versions, without hashes: a wheel built here has none."""
    found = re.findall(
        r"^([A-Za-z0-9._-]+==\S+)(?: ; ([^\\\n]+))?", (ROOT / "requirements/dev.txt").read_text(), re.MULTILINE
    )
    target = folder / "pins.txt"
    target.write_text("".join(f"{name} ; {where.strip()}\n" if where else f"{name}\n" for name, where in found))
    return target


def install(folder: Path, what: str, constraints: Path) -> Path:
    """A fresh environment with `what` in it; its site-packages."""
    call(sys.executable, "-m", "venv", "--without-pip", folder)
    python = folder / "bin" / "python"
    uv = Path(sys.prefix) / "uv" / "bin" / "uv"
    pip: tuple[str | Path, ...] = (sys.executable, "-m", "pip", "--python", python, "install")
    if uv.exists():
        pip = (uv, "pip", "install", "--compile-bytecode", "--python", python)
    call(*pip, "--quiet", "--constraint", constraints, what)
    return next((folder / "lib").glob("python*/site-packages"))


def size(folder: Path) -> float:
    """MB on disk."""
    return sum(os.lstat(Path(root, name)).st_blocks * 512 for root, _, names in os.walk(folder) for name in names) / 1e6


def rows() -> Iterator[Row]:
    """The rows of this benchmark."""
    with scratch() as folder:
        try:
            built, constraints = wheel(folder), pins(folder)
            for name, extras, most in SETS:
                packages = install(folder / name, f"{built}{extras}", constraints)
                count = len(list(packages.glob("*.dist-info")))
                yield Row(f"install.{name}", f"{count} packages, without torch", size(packages), "MB", most=most)
        except NoIndex as error:
            print(f"skipped, no packages to be had: {error}", flush=True)
