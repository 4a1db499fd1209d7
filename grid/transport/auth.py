"""Who calls: sessions, single signed requests, and the owner's token."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from grid.crypto import errors
from grid.crypto.encoding import b64
from grid.crypto.identity import Identity
from grid.crypto.replay import WINDOW, NonceCache
from grid.crypto.session import (
    ServedSession,
    accept,
    parse_authorization,
    verify_request,
)
from grid.wire.problems import (
    BadSignature,
    GridError,
    NotAuthenticated,
    Replayed,
    SessionUnknown,
    TooManyRequests,
)
from grid.wire.rights import Right

SESSIONS = 100_000
DAY = 86_400.0


class Standing(NamedTuple):
    """What an account is here: its name, the names of its groups, what its role lets it do, and whether it owns all."""

    account: str | None
    groups: frozenset[str] = frozenset()
    rights: frozenset[str] = frozenset()
    owner: bool = False


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request. `public` (32 bytes) and `id` name its key; tokens and passwords have none.

    `account`, `groups` and `rights` are of the account that the key, token or password belongs to. `session` is that
    of a token.
    """

    public: bytes | None
    id: str | None
    owner: bool
    kind: Literal["anonymous", "session", "signature", "token", "letter", "account"]
    account: str | None = None
    groups: frozenset[str] = frozenset()
    rights: frozenset[str] = frozenset()
    session: str | None = None

    @property
    def name(self) -> str | None:
        """By what this caller is known: its account, else its key."""
        return self.account or self.id

    def has(self, right: Right) -> bool:
        """Whether its role lets it do that. An owner may do everything."""
        return self.owner or right in self.rights

    def standing_as(self, standing: Standing, *, owner: bool) -> Caller:
        """The same caller as of now: its account may have come, gone, or become another's."""
        if (self.account, self.groups, self.rights, self.owner) == (*standing[:3], owner):
            return self
        account, groups, rights, _ = standing
        return replace(self, account=account, groups=groups, rights=rights, owner=owner)


NOBODY = Standing(None)
ANONYMOUS = Caller(None, None, owner=False, kind="anonymous")
OWNER = Caller(None, None, owner=True, kind="token")


def token_check(digest: bytes) -> Callable[[str], bool]:
    """A check for the token whose SHA-256 is `digest`, the only form in which a daemon keeps it."""
    return lambda token: hmac.compare_digest(hashlib.sha256(token.encode()).digest(), digest)


class Authenticator:
    """Finds out who sent a request from its Authorization header.

    `is_owner` judges the owner's token, `tokens` those of accounts, `accounts` a name and its password; `standing`
    tells of the account that a key (its id) belongs to, if any; `owner_keys` names the public keys (32 bytes) that
    speak for the owner. `refuse` raises KeyRevoked for the id of a key that is believed no more, in whatever it signs.
    Sessions live in memory for `lifetime` seconds; when there are `capacity` of them the one
    unused for longest goes, and its caller signs in again.
    """

    def __init__(
        self,
        identity: Identity,
        now: Callable[[], float],
        entropy: Callable[[int], bytes] = os.urandom,
        is_owner: Callable[[str], bool] | None = None,
        owner_keys: Callable[[], Collection[bytes]] = frozenset,
        accounts: Callable[[str, str], Awaitable[Caller]] | None = None,
        tokens: Callable[[str], Caller | None] = lambda _: None,
        standing: Callable[[str], Standing | None] = lambda _: None,
        capacity: int = SESSIONS,
        lifetime: float = DAY,
        refuse: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._identity, self._now, self._entropy = identity, now, entropy
        self._is_owner, self._owner_keys, self._accounts = is_owner, owner_keys, accounts
        self._tokens, self._standing = tokens, standing
        self._capacity, self._lifetime, self._refuse = capacity, lifetime, refuse
        self._sessions: OrderedDict[str, tuple[ServedSession, Caller]] = OrderedDict()
        self._offers, self._nonces = NonceCache(), NonceCache()
        self._vouched: dict[str, bytes] = {}

    def __len__(self) -> int:
        """How many sessions are open."""
        return len(self._sessions)

    def open_session(self, offer: bytes) -> bytes:
        """Answer a key agreement, and remember the session it makes.

        Raises:
            NotAuthenticated: not an offer.
            BadSignature: forged, or meant for another daemon.
            Replayed: too old or from the future, or seen before.
            TooManyRequests: more offers than can be remembered.
            KeyRevoked.
        """
        try:
            accepted, public, key = accept(
                self._identity,
                offer,
                self._now(),
                nonces=self._offers,
                lifetime=self._lifetime,
                entropy=self._entropy,
            )
        except errors.CryptoError as error:
            raise _refusal(error) from None
        caller = self._known(public, "session")
        if len(self._sessions) >= self._capacity:
            self._sessions.popitem(last=False)
        self._sessions[key.id] = ServedSession(key, public), caller
        return accepted

    @contextmanager
    def vouching(self, public: bytes) -> Iterator[str]:
        """The Authorization header of one request whose sender (public key, 32 bytes) this process has proved itself.

        It is for requests that came in a sealed letter; it is good once, and no longer than the block.
        """
        word = b64(self._entropy(32))
        self._vouched[word] = public
        try:
            yield f"Letter {word}"
        finally:
            self._vouched.pop(word, None)

    def caller(self, header: str, method: str, target: str, digest: bytes) -> Caller:
        """Who sent this: `target` is the raw path and query, `digest` the SHA-256 of the body.

        Raises:
            NotAuthenticated: the header says nothing, or a token that is not the owner's.
            SessionUnknown: the session ended; sign in again.
            BadSignature: the MAC or signature belongs to another request.
            Replayed: this very request came before, or is too old.
            KeyRevoked: the key was, perhaps since the session began.
        """
        try:
            if header.startswith("Session "):
                return self._in_session(header, method, target, digest)
            if header.startswith("Signature "):
                return self._signed(header, method, target, digest)
        except errors.CryptoError as error:
            raise _refusal(error) from None
        if header.startswith("Letter ") and (public := self._vouched.pop(header[7:], None)) is not None:
            return self._known(public, "letter")
        if header.startswith("Bearer ") and (bearer := self._bearer(header[7:].strip())) is not None:
            return bearer
        raise NotAuthenticated("this Authorization header opens nothing here")

    async def account(self, header: str) -> Caller:
        """Who sent this, by name and password (HTTP Basic, RFC 7617), or by a token.

        Raises:
            NotAuthenticated: neither; also where this daemon has no accounts.
            TooManyRequests: too many wrong passwords.
        """
        if header.startswith("Bearer ") and (bearer := self._bearer(header[7:].strip())) is not None:
            return bearer
        try:
            name, colon, password = (
                base64.b64decode(header.removeprefix("Basic ").strip(), validate=True).decode().partition(":")
            )
        except ValueError:
            colon = ""
        if self._accounts is None or not colon or not header.startswith("Basic "):
            raise NotAuthenticated("a name and a password are asked for here (HTTP Basic)")
        return await self._accounts(name, password)

    def _bearer(self, token: str) -> Caller | None:
        if self._is_owner is not None and self._is_owner(token):
            return OWNER
        return self._tokens(token)

    def _in_session(self, header: str, method: str, target: str, digest: bytes) -> Caller:
        given, now = parse_authorization(header), self._now()
        found = self._sessions.get(given.id)
        if found is None or found[0].key.expires <= now:
            self._sessions.pop(given.id, None)
            raise SessionUnknown
        session, caller = found
        session.admit(given, method, target, digest, now)
        self._sessions.move_to_end(given.id)
        return self._still(caller)

    def _signed(self, header: str, method: str, target: str, digest: bytes) -> Caller:
        public = verify_request(header, self._identity.public, method, target, digest, self._now(), nonces=self._nonces)
        return self._known(public, "signature")

    def _known(self, public: bytes, kind: Literal["session", "signature", "letter"]) -> Caller:
        caller = Caller(public, b64(public), public in self._owner_keys(), kind)
        return self._still(caller)

    def _still(self, caller: Caller) -> Caller:
        """The caller as of now: a key may have become the owner's, or ceased to be, or was revoked meanwhile."""
        if caller.id is not None:
            self._refuse(caller.id)
        standing = self._standing(caller.id or "") or NOBODY
        return caller.standing_as(standing, owner=standing.owner or caller.public in self._owner_keys())


def _refusal(error: errors.CryptoError) -> GridError:
    match error:
        case errors.BadSignature():
            return BadSignature(str(error))
        case errors.Replayed():
            return Replayed(str(error))
        case errors.NoncesFull():
            return TooManyRequests(str(error), retry_after=WINDOW)
        case _:
            return NotAuthenticated(str(error))
