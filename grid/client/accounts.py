"""Signing in at a node or a gateway: the caller's key stands for an account from then on."""

from __future__ import annotations

from grid.client.calls import Calls
from grid.crypto.identity import Identity, public_from_id
from grid.protocol.documents import sign_document
from grid.wire import accounts as wire

PROOF = 120.0
"""Seconds within which the key's word must have arrived."""


async def sign_in(
    calls: Calls, identity: Identity, address: str, daemon: str, name: str, password: str, now: float
) -> wire.AccountInfo:
    """Sign in at the daemon with this key (id): once, for whatever `identity` signs is the account's after that.

    Raises:
        NotAuthenticated: no account has this name and password.
        AccountRefused: the key stands for another account there.
        TooManyRequests.
    """
    said = sign_document(identity, wire.ACCOUNT_KEY, wire.KeyOf(name, daemon, now + PROOF))
    peer = public_from_id(daemon)
    await calls.call(address, wire.LOGIN, wire.Login(name, password, said), peer=peer)
    return await calls.call(address, wire.ME, peer=peer)
