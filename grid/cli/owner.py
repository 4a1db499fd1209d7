"""The owner's token: printed once when a daemon first starts, kept only as its SHA-256."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable
from pathlib import Path

from grid.transport.auth import token_check

FILE = "owner.sha256"


def owner_token(
    data: Path, make: Callable[[], str] = secrets.token_urlsafe
) -> tuple[Callable[[str], bool], str | None]:
    """A check for the owner's token, and the token itself if it was made just now.

    To get another, delete `owner.sha256` in the data directory and start again.
    """
    file, token = data / FILE, make()
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = _write_once(file, hashlib.sha256(token.encode()).hexdigest())
    return token_check(bytes.fromhex(file.read_text().strip())), token if new else None


def _write_once(file: Path, text: str) -> bool:
    """Make a file that its owner alone can read; False if there is one. Never half a file."""
    if file.exists():
        return False
    draft = file.with_suffix(f".{os.getpid()}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w") as handle:
        handle.write(text)
        handle.flush()
        os.fsync(handle.fileno())
    try:
        os.link(draft, file)  # fails where a rename would overwrite
    except FileExistsError:
        return False  # another process was first
    finally:
        draft.unlink()
    return True
