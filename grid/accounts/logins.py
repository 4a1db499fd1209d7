"""Signing in with a password: guesses are dear and few, tokens short, sessions can be seen and ended.

A token names its session and its end, signed by the daemon. Going on takes the session's newest secret, which is good
once: who comes with an older one shows that two hold it, and the session ends for both (RFC 9700, 4.14.2).
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import os
import secrets
from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import partial
from typing import Literal

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from grid.accounts.book import Book
from grid.accounts.passwords import GUESS, Effort, fits, is_old, kept
from grid.accounts.people import People
from grid.crypto import errors, signing
from grid.crypto.identity import Identity
from grid.store import accounts as rows
from grid.store.accounts import AccountRow, SessionRow
from grid.transport.auth import Caller
from grid.wire.accounts import Login, Tokens
from grid.wire.problems import NotAuthenticated, NotFound, TooManyRequests
from grid.wire.rights import Right

TOKEN = 900.0
"""Seconds that a token is good for."""
SESSION = 30 * 86_400.0
"""Seconds after which a session ends that nobody goes on with."""
FAILURES, WINDOW = 10, 60.0
"""Wrong passwords for one name within so many seconds, after which no more are tried."""
FAILURES_FROM = 50
"""Likewise, from one address."""
MOST = 1000
"""Sessions of one account; the oldest ends when there is one more."""
_DOMAIN = "account-token"
_WRONG = "no account has this name and password"


class _Token(Struct, frozen=True, array_like=True):
    session: str
    expires: float


class Logins:
    """Passwords, sessions and tokens of a daemon with this `identity`."""

    def __init__(
        self, book: Book, people: People, identity: Identity, now: Callable[[], float], effort: Effort = GUESS
    ) -> None:
        self._book, self._people, self._identity, self._now, self._effort = book, people, identity, now, effort
        self._nobody = kept(secrets.token_hex(), effort)
        self._key = os.urandom(32)
        self._known: dict[str, tuple[bytes, str]] = {}  # by name: keyed hash of the password, and what is kept of it
        self._failures: defaultdict[str, list[float]] = defaultdict(list)
        self._trying = asyncio.Semaphore(2)

    # --- passwords --------------------------------------------------------------------------------

    async def check(self, name: str, password: str, place: str = "") -> Caller:
        """Who has this name (or address of e-mail) and password. A password that was right is remembered, keyed.

        Raises:
            NotAuthenticated: no such account, or not its password; which of the two is not said.
            TooManyRequests: there were too many wrong ones for this name, or from this `place`.
        """
        row = self._named(name)
        keyed = hmac.digest(self._key, password.encode(), "sha256")
        known = self._known.get(name)
        if row is None or known is None or not hmac.compare_digest(known[0], keyed) or known[1] != row.password:
            row = await self._try(name, password, row, place)
            self._known[name] = (keyed, row.password)
        return self._caller(row, "account")

    def _named(self, name: str) -> AccountRow | None:
        found = self._book.by_name.get(name)
        if found is None and "@" in name:
            having = [row for row in self._book.accounts.values() if row.email == name]
            found = having[0] if len(having) == 1 else None
        return found

    async def _try(self, name: str, password: str, row: AccountRow | None, place: str) -> AccountRow:
        now = self._now()
        for whose, most in ((f"name {name}", FAILURES), (f"from {place}", FAILURES_FROM if place else 0)):
            recent = self._failures[whose] = [at for at in self._failures[whose] if at > now - WINDOW]
            if most and len(recent) >= most:
                raise TooManyRequests("too many wrong passwords", retry_after=WINDOW)
        against = row.password if row is not None and row.password else self._nobody
        async with self._trying:
            right = await asyncio.to_thread(fits, password, against)
        if row is None or not row.password or not right:
            for whose in (f"name {name}", f"from {place}"):
                self._failures[whose].append(now)
            if len(self._failures) > 10_000:  # names of a stranger's making
                self._failures.clear()
            raise NotAuthenticated(_WRONG)
        self._failures.pop(f"name {name}", None)
        return await self._renewed(row, password) if is_old(row.password) else row

    async def _renewed(self, row: AccountRow, password: str) -> AccountRow:
        digest = await asyncio.to_thread(kept, password, self._effort)
        await self._book.database.write(
            partial(rows.change_account, number=row.id, email=row.email, password=digest, role=row.role)
        )
        return await self._book.reread(row.id)

    # --- sessions ---------------------------------------------------------------------------------

    async def login(self, asked: Login, place: str) -> Tokens:
        """Sign in, and have a key stand for the account if one is shown. Raises as `check` and `People.add_key` do."""
        caller = await self.check(asked.name, asked.password, place)
        row = self._book.account(caller.account or "")
        if asked.key is not None:
            await self._people.add_key(caller, row.name, asked.key.signer, asked.key)
        now = self._now()
        mine = sorted((s for s in self._book.sessions.values() if s.account == row.id), key=lambda s: s.used)
        await self._end([s.id for n, s in enumerate(mine) if s.expires <= now or n <= len(mine) - MOST])
        session = SessionRow(secrets.token_urlsafe(16), row.id, b"", now, now, now + SESSION, place)
        return await self._go_on(session, row)

    async def refresh(self, word: str) -> Tokens:
        """The next token of a session. Raises NotAuthenticated."""
        number, _, secret = word.partition(".")
        session = self._book.session(number)
        if session is None or session.expires <= self._now():
            raise NotAuthenticated("this session is over; sign in again")
        if not hmac.compare_digest(hashlib.sha256(secret.encode()).digest(), session.secret):
            await self._end([session.id])
            raise NotAuthenticated("this was used before: two hold it, and the session is over; sign in again")
        return await self._go_on(session, self._book.accounts[session.account])

    async def _go_on(self, session: SessionRow, row: AccountRow) -> Tokens:
        now, secret = self._now(), secrets.token_urlsafe(32)
        digest = hashlib.sha256(secret.encode()).digest()
        session = replace(session, secret=digest, used=now, expires=now + SESSION)
        self._book.sessions[session.id] = session  # at once: of two that come with one word, the second is refused
        await self._book.database.write(partial(rows.put_session, row=session))
        expires = now + TOKEN
        return Tokens(row.name, self._token(session.id, expires), expires, f"{session.id}.{secret}")

    def visible(self, by: Caller) -> list[tuple[SessionRow, str]]:
        """The sessions that a caller may see, newest first, with the names of their accounts."""
        accounts, now = self._book.accounts, self._now()
        named = [(s, accounts[s.account].name) for s in self._book.sessions.values() if s.account in accounts]
        seen = [(s, name) for s, name in named if s.expires > now and self._may_see(by, name)]
        return sorted(seen, key=lambda each: -each[0].used)

    async def end(self, by: Caller, session: str) -> None:
        """End a session: one's own, or that of an account that the caller may change. Raises NotAllowed, NotFound."""
        row = self._book.session(session)
        if row is None or not self._may_see(by, self._book.accounts[row.account].name):
            raise NotFound("there is no such session")
        if by.account != self._book.accounts[row.account].name:
            self._people.may_change(by, self._book.accounts[row.account])
        await self._end([session])

    async def end_all(self, account: str, but: str | None = None) -> None:
        """End all sessions of an account, `but` one: its password is another, or it is gone."""
        row = self._book.account(account)
        await self._end([s.id for s in self._book.sessions.values() if s.account == row.id and s.id != but])

    def _may_see(self, by: Caller, name: str) -> bool:
        return by.account == name or by.has(Right.CREATE_USERS)

    async def _end(self, sessions: Iterable[str]) -> None:
        over = tuple(sessions)
        for each in over:
            self._book.sessions.pop(each, None)
        if over:
            await self._book.database.write(partial(rows.end_sessions, ids=over))

    # --- tokens -----------------------------------------------------------------------------------

    def bearer(self, token: str) -> Caller | None:
        """Who has this token; None if it is none of this daemon's, or its time or its session is over."""
        try:
            said, signature = (base64.urlsafe_b64decode(each + "=" * (-len(each) % 4)) for each in token.split("."))
            signing.verify(self._identity.public, _DOMAIN, said, signature)
            found = msgspec.msgpack.decode(said, type=_Token)
        except (ValueError, errors.CryptoError, msgspec.DecodeError):
            return None
        session = self._book.session(found.session)
        if session is None or found.expires <= self._now():
            return None
        return self._caller(self._book.accounts[session.account], "token", session.id)

    def _token(self, session: str, expires: float) -> str:
        said = msgspec.msgpack.encode(_Token(session, expires))
        parts = (said, self._identity.sign(_DOMAIN, said))
        return ".".join(base64.urlsafe_b64encode(each).decode().rstrip("=") for each in parts)

    def _caller(self, row: AccountRow, kind: Literal["account", "token"], session: str | None = None) -> Caller:
        standing = self._book.standing_of(row)
        return Caller(None, None, standing.owner, kind, row.name, standing.groups, standing.rights, session)
