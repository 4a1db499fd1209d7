"""Who may do what at a node.

The owner (a token, or the owner's key) may do everything; trusted keys may train; every signed caller may read
descriptions; nobody but the owner downloads data.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from functools import partial

from grid.crypto.identity import public_from_id
from grid.store import keys as store
from grid.store.database import Database
from grid.store.schema import Transaction
from grid.wire.node import Trust
from grid.wire.problems import NotAllowed, NotFound

OWNER = "owner"
"""The label of the owner's token."""

_TOKEN_BYTES = 32
_TOKEN_LENGTH = 43


def new_token() -> str:
    """A new random token (256 bits); only its SHA-256 is kept."""
    return secrets.token_urlsafe(_TOKEN_BYTES)


class Access:
    """The node's rules. `owners` are the keys (ids) that speak for the owner besides the token."""

    def __init__(self, database: Database, now: Callable[[], float], owners: Iterable[str] = ()) -> None:
        self._database, self._now = database, now
        self._owners = frozenset(owners)
        self._trusted = {who.public_key: who for who in database.read_now(store.trusted)}

    # --- the owner ------------------------------------------------------------------------------

    def owner_keys(self) -> frozenset[bytes]:
        """The public keys (32 bytes) that speak for the owner."""
        return frozenset(map(public_from_id, self._owners))

    def is_owner(self, token: str) -> bool:
        """Whether this is the owner's token."""
        if len(token) != _TOKEN_LENGTH:
            return False
        return self._database.read_now(partial(store.token_label, token=token)) == OWNER

    async def renew_token(self) -> str:
        """A new token for the owner, told only here and now; the one before no longer lets anybody in."""
        token = new_token()

        def replace(connection: Transaction) -> None:
            store.revoke_tokens(connection, OWNER)
            store.add_token(connection, token, OWNER, self._now())

        await self._database.write(replace)
        return token

    # --- who may train --------------------------------------------------------------------------

    async def trust(self, public_key: str, name: str = "") -> None:
        """Let the holder of a key train here; without a name it keeps the one it has."""
        known = self._trusted.get(public_key, Trust(public_key))
        who = Trust(public_key, name or known.name)
        await self._database.write(partial(store.trust, who=who, at=self._now()))
        self._trusted[public_key] = who

    async def distrust(self, public_key: str) -> None:
        """No longer let the holder of a key train here. Raises NotFound if it could not anyway."""
        if not await self._database.write(partial(store.distrust, public_key=public_key)):
            raise NotFound(f"{public_key} was not trusted")
        self._trusted.pop(public_key, None)

    def trusted(self) -> tuple[Trust, ...]:
        """Whose keys may train here, in the order in which they were trusted."""
        return tuple(self._trusted.values())

    def may_train(self, public_key: str | None) -> None:
        """Whether the holder of a key (an id) may learn from this node's data.

        Raises:
            NotAllowed: it may not; the detail says what to ask the owner for.
        """
        if public_key is None:
            raise NotAllowed("training needs a key that can sign; a token has none")
        if public_key not in self._trusted and public_key not in self._owners:
            ask = f"ask its owner for `grid-node peer trust {public_key}`"
            raise NotAllowed(f"this node's owner has not trusted {public_key}: {ask}")

    def may_download(self, owner: bool) -> None:
        """Whether a caller, the owner or not, may have the data itself. Raises NotAllowed."""
        if not owner:
            raise NotAllowed("the data stays here; only the node's owner may download it")
