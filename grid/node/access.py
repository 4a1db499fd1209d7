"""Who may do what at a node.

The owner (a token, or the owner's key) may do everything; trusted keys and accounts may have runs driven and train;
on which data, `permissions` says.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple

from grid.crypto.identity import public_from_id
from grid.store import keys as store
from grid.store.database import Database
from grid.store.schema import Transaction
from grid.transport.auth import NOBODY, Caller, Standing
from grid.wire.node import Trust
from grid.wire.problems import NotAllowed, NotFound

OWNER = "owner"
"""The label of the owner's token."""

_TOKEN_BYTES = 32
_TOKEN_LENGTH = 43


def new_token() -> str:
    """A new random token (256 bits); only its SHA-256 is kept."""
    return secrets.token_urlsafe(_TOKEN_BYTES)


class Asker(NamedTuple):
    """Somebody who asks for data: the account, its groups, whether it owns the node, whether its key is trusted."""

    account: str | None = None
    groups: frozenset[str] = frozenset()
    owner: bool = False
    trusted: bool = False


class Access:
    """The node's rules. `owners` are the keys (ids) that speak for the owner besides the token.

    `standing` tells of the account that a key stands for.
    """

    def __init__(
        self,
        database: Database,
        now: Callable[[], float],
        owners: Iterable[str] = (),
        standing: Callable[[str], Standing | None] = lambda _: None,
    ) -> None:
        self._database, self._now, self._standing = database, now, standing
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

    def asker(self, caller: Caller) -> Asker:
        """Who asks in a request."""
        return Asker(caller.account, caller.groups, caller.owner, caller.id in self._trusted)

    def asker_of(self, public_key: str) -> Asker:
        """Who asks in what a key (an id) signed."""
        account, groups, _, owns = self._standing(public_key) or NOBODY
        return Asker(account, groups, owns or public_key in self._owners, public_key in self._trusted)

    def may_train(self, public_key: str | None) -> None:
        """Whether the holder of a key (an id) may have plans carried out here: on which data, `permissions` says.

        Raises:
            NotAllowed: it may not; the detail says what to ask the owner for.
        """
        if public_key is None:
            raise NotAllowed("training needs a key that can sign; a token has none")
        asker = self.asker_of(public_key)
        if not (asker.trusted or asker.owner or asker.account is not None):
            ask = f"ask its owner for an account, or for `grid-node peer trust {public_key}`"
            raise NotAllowed(f"this node's owner has not trusted {public_key}: {ask}")
