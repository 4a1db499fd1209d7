"""Bearer tokens that a maintainer keeps in a file, a type for each: programs that can neither sign nor sign in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType

from grid.transport.auth import Caller, Standing
from grid.wire.problems import BadRequest
from grid.wire.rights import Right

TYPES: Mapping[str, frozenset[Right]] = MappingProxyType(
    {
        "FleaAdmin": frozenset({Right.EDIT_SETTINGS}),
        "FleaTaskGen": frozenset({Right.MAKE_REQUESTS}),
        "FleaClient": frozenset(),
        "ModelsAdmin": frozenset({Right.EDIT_SETTINGS, Right.UPLOAD_DATA}),
        "ModelsWriter": frozenset({Right.UPLOAD_DATA}),
        "ModelsReader": frozenset(),
    }
)
"""What each type of token lets its holder do, here as anywhere: what is not listed, nobody may with a token."""

SHORTEST = 16
"""Characters of a token: fewer could be guessed."""
LONGEST = 1 << 20
"""Bytes of the file."""


class Tokens:
    """The tokens of a file, of which only their SHA-256 is kept in memory.

    A line is `TYPE TOKEN`, or `TYPE TOKEN ACCOUNT` where the holder is to be an account of this node: then rules about
    that account and its groups (`standing` tells them) are about this token. Without one it has a name of its own,
    made of the token, so that two clients never count as one. `#` begins a comment.
    """

    def __init__(self, file: Path | None, standing: Callable[[str], Standing | None] = lambda _: None) -> None:
        self._file, self._standing = file, standing
        self._callers: dict[bytes, Caller] = {}

    async def reload(self) -> int:
        """Read the file again, all of it or nothing; how many tokens there are. A token that is gone opens nothing.

        Raises:
            BadRequest: it cannot be read, or says something else: the detail names the line.
        """
        if self._file is not None:
            self._callers = await asyncio.to_thread(_read, self._file)
        return len(self._callers)

    def bearer(self, token: str) -> Caller | None:
        """Who has this token."""
        caller = self._callers.get(sha256(token.encode()).digest())
        if caller is None:
            return None
        standing = self._standing(caller.account or "")
        return caller if standing is None else caller.standing_as(standing._replace(rights=caller.rights), owner=False)


def _read(file: Path) -> dict[bytes, Caller]:
    try:
        with file.open(encoding="utf-8") as lines:
            text = lines.read(LONGEST + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise BadRequest(f"the file of tokens cannot be read: {error}") from None
    if len(text) > LONGEST:
        raise BadRequest(f"the file of tokens has more than {LONGEST} characters")
    callers: dict[bytes, Caller] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if words:
            digest, caller = _caller(words, f"line {number} of the file of tokens")
            if digest in callers:
                raise BadRequest(f"line {number} of the file of tokens has the token of another line")
            callers[digest] = caller
    return callers


def _caller(words: list[str], where: str) -> tuple[bytes, Caller]:
    if not 2 <= len(words) <= 3 or words[0] not in TYPES:
        raise BadRequest(f"{where} is not TYPE TOKEN or TYPE TOKEN ACCOUNT, with one of {', '.join(TYPES)}")
    kind, token = words[:2]
    if len(token) < SHORTEST:
        raise BadRequest(f"{where} has a token of fewer than {SHORTEST} characters, which could be guessed")
    digest = sha256(token.encode()).digest()
    account = words[2] if len(words) == 3 else f"{kind}:{digest.hex()[:12]}"  # an account's name has no colon
    return digest, Caller(None, None, owner=False, kind="token", account=account, rights=TYPES[kind])
