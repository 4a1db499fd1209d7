"""Accounts: people and programs that call this gateway with a name and a password (HTTP Basic), and no key."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import partial

from grid.store import accounts as rows
from grid.store.accounts import AccountRow, GroupRow
from grid.store.database import Database
from grid.transport.auth import Caller
from grid.wire.problems import AccountRefused, NotAuthenticated, NotFound, TooManyRequests

COST = 2**14
"""scrypt's n, with r = 8 and p = 1: 16 MiB and some 50 ms for each guess (RFC 7914)."""
FAILURES, WINDOW = 10, 60.0
"""Wrong passwords for one name within so many seconds, after which no more are tried."""
LEAST = 12
"""Letters of a password."""


class Accounts:
    """Who has an account. A password that was right is remembered as a keyed hash: it costs scrypt once a process.

    `cost` is scrypt's n: of new passwords and those that are tried alike.
    """

    def __init__(self, database: Database, now: Callable[[], float], cost: int = COST) -> None:
        self._db, self._now, self._cost = database, now, cost
        self._key = os.urandom(32)
        self._known: dict[str, tuple[bytes, bytes]] = {}  # by name: keyed hash of the password, and the row's hash
        self._failures: defaultdict[str, list[float]] = defaultdict(list)
        self._trying = asyncio.Semaphore(2)

    async def check(self, name: str, password: str) -> Caller:
        """Who calls.

        Raises:
            NotAuthenticated: no such account, or not its password; which of the two is not said.
            TooManyRequests: there were too many wrong ones.
        """
        row = await self._db.read(partial(rows.find_account, name=name))
        keyed = hmac.digest(self._key, password.encode(), "sha256")
        known = self._known.get(name)
        if row is None or known is None or not hmac.compare_digest(known[0], keyed) or known[1] != row.hash:
            await self._try(name, password, row)
            assert row is not None
            self._known[name] = (keyed, row.hash)
        return Caller(None, None, owner=False, kind="account", account=name)

    async def _try(self, name: str, password: str, row: AccountRow | None) -> None:
        now = self._now()
        recent = self._failures[name] = [at for at in self._failures[name] if at > now - WINDOW]
        if len(recent) >= FAILURES:
            raise TooManyRequests("too many wrong passwords", retry_after=WINDOW)
        async with self._trying:
            found = await asyncio.to_thread(_scrypt, password, row.salt if row else b"nobody".ljust(16), self._cost)
        if row is None or not hmac.compare_digest(found, row.hash):
            self._failures[name].append(now)
            if len(self._failures) > 10_000:  # names of a stranger's making
                self._failures.clear()
            raise NotAuthenticated("no account has this name and password")
        self._failures.pop(name, None)

    async def create(self, name: str, password: str, email: str = "") -> AccountRow:
        """A new account. Raises AccountRefused, also where the password is too short or the name cannot be one."""
        if len(password) < LEAST:
            raise AccountRefused(f"a password has at least {LEAST} letters")
        if not name or ":" in name:  # HTTP Basic puts a colon between name and password
            raise AccountRefused("a name has a letter and no colon")
        salt = os.urandom(16)
        digest = await asyncio.to_thread(_scrypt, password, salt, self._cost)
        at = self._now()
        number = await self._db.write(lambda c: rows.add_account(c, name, email, salt, digest, at))
        return AccountRow(number, name, email, salt, digest, at)

    async def all(self) -> list[AccountRow]:
        """All accounts, oldest first."""
        return await self._db.read(rows.accounts)

    async def get(self, number: int) -> AccountRow:
        """One account. Raises NotFound."""
        found = [row for row in await self.all() if row.id == number]
        if not found:
            raise NotFound("there is no such account")
        return found[0]

    async def change(self, number: int, email: str | None, password: str | None) -> AccountRow:
        """Another address or password. Raises NotFound, AccountRefused."""
        row = await self.get(number)
        salt, digest = row.salt, row.hash
        if password is not None:
            if len(password) < LEAST:
                raise AccountRefused(f"a password has at least {LEAST} letters")
            salt = os.urandom(16)
            digest = await asyncio.to_thread(_scrypt, password, salt, self._cost)
        address = row.email if email is None else email
        await self._db.write(lambda c: rows.change_account(c, row.name, address, salt, digest))
        return await self.get(number)

    async def delete(self, number: int) -> None:
        """Forget an account. Raises NotFound."""
        await self._db.write(lambda c: rows.delete_account(c, number))

    # --- groups -----------------------------------------------------------------------------------

    async def groups(self) -> list[GroupRow]:
        """All groups, oldest first."""
        return await self._db.read(rows.groups)

    async def group(self, number: int) -> GroupRow:
        """One group. Raises NotFound."""
        found = [row for row in await self.groups() if row.id == number]
        if not found:
            raise NotFound("there is no such group")
        return found[0]

    async def put_group(self, name: str, number: int | None = None) -> GroupRow:
        """A new group, or another name for one. Raises AccountRefused where the name is taken, NotFound."""
        return await self.group(await self._db.write(lambda c: rows.put_group(c, number, name)))

    async def delete_group(self, number: int) -> None:
        """Forget a group; the accounts in it stay. Raises NotFound."""
        await self._db.write(lambda c: rows.delete_group(c, number))

    async def put_in_groups(self, account: int, numbers: Iterable[int]) -> None:
        """An account is in these groups, and in no others. Raises NotFound."""
        await self.get(account)
        await self._db.write(lambda c: rows.put_in_groups(c, account, numbers))


def _scrypt(password: str, salt: bytes, cost: int) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, n=cost, r=8, p=1)
