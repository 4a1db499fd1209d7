"""Accounts: made, changed and removed by those whose role lets them, their keys by themselves."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from functools import partial

import msgspec

from grid.accounts.book import Book
from grid.accounts.passwords import GUESS, Effort, kept
from grid.protocol.documents import read_document
from grid.protocol.roles import Role, may_give
from grid.store import accounts as rows
from grid.store.accounts import AccountRow
from grid.store.schema import Transaction
from grid.transport.auth import Caller
from grid.wire.accounts import ACCOUNT_KEY, AccountName, KeyOf
from grid.wire.documents import Signed
from grid.wire.problems import AccountRefused, BadSignature, NotAllowed
from grid.wire.rights import Right

LEAST = 12
"""Letters of a password."""
_KEY = re.compile(r"[A-Za-z0-9_-]{43}")


class People:
    """The accounts of a daemon, whose own key (id) is `daemon`. `effort`: what a guess at a new password costs."""

    def __init__(self, book: Book, daemon: str, now: Callable[[], float], effort: Effort = GUESS) -> None:
        self.book, self._daemon, self._now, self._effort = book, daemon, now, effort

    async def create(
        self,
        by: Caller,
        name: str,
        password: str = "",
        email: str = "",
        role: str = "",
        keys: Sequence[str] = (),
    ) -> AccountRow:
        """A new account; the first one owns this daemon, if no `role` is named. Without a password it has keys only.

        Raises:
            AccountRefused: it cannot have that name, password or key.
            NotAllowed: the caller may not make one of that role.
            NotFound: there is no such role.
        """
        check_name(name)
        given = self.book.role(role) if role else self.book.presets[0]
        first = self.book.presets[-1].id if by.owner and not role else None
        self._may_give(by, given)
        row = AccountRow(0, name, email, await self._kept(password), given.id, self._now(), tuple(dict.fromkeys(keys)))
        made = await self.book.database.write(partial(rows.add_account, row=row, first=first))
        return await self.book.reread(made.id)

    async def change(
        self,
        by: Caller,
        name: str,
        *,
        email: str | None = None,
        password: str | None = None,
        role: str | None = None,
        groups: Sequence[str] | None = None,
    ) -> AccountRow:
        """Another address or password, of oneself or of whom the caller may change; another role or other groups.

        Raises:
            AccountRefused: it cannot have that password.
            NotAllowed: the caller may not do that.
            NotFound: there is no such account, role or group.
        """
        row = self.book.account(name)
        if by.account != name or role is not None:
            self.may_change(by, row)
        given = self.book.role_of(row) if role is None else self.book.role(role)
        if role is not None:
            self._may_give(by, given)
        numbers = None if groups is None else [self.book.group(each).id for each in groups]
        if numbers is not None and not by.has(Right.CREATE_GROUPS):
            raise NotAllowed("your role does not let you say who is in which group")
        digest = row.password if password is None else await self._kept(password)
        address = row.email if email is None else email

        def write(connection: Transaction) -> None:
            rows.change_account(connection, row.id, address, digest, given.id)
            if numbers is not None:
                rows.put_in_groups(connection, row.id, numbers)

        await self.book.database.write(write)
        if numbers is not None:
            await self.book.reload()  # groups know who is in them
        return await self.book.reread(row.id)

    async def remove(self, by: Caller, name: str) -> None:
        """Forget an account; its keys stand for nobody. Raises NotAllowed, NotFound."""
        row = self.book.account(name)
        self.may_change(by, row)
        await self.book.database.write(partial(rows.delete_account, number=row.id))
        self.book.sessions = {s.id: s for s in self.book.sessions.values() if s.account != row.id}
        await self.book.reload()

    async def add_key(self, by: Caller, name: str, key: str, proof: Signed | None = None) -> AccountRow:
        """A key stands for an account from now on: by its own word, or by that of who may change the account.

        Raises:
            AccountRefused: it stands for another.
            BadSignature, Replayed: the proof is none of this key, for this account, or too old.
            NotAllowed: neither proved, nor may the caller change the account.
        """
        row = self.book.account(name)
        if proof is not None:
            self.check_proof(proof, name, key)
        if proof is None or by.account != name:
            self.may_change(by, row)
        await self.book.database.write(partial(rows.add_key, number=row.id, key=key, at=self._now()))
        return await self.book.reread(row.id)

    async def remove_key(self, by: Caller, name: str, key: str) -> AccountRow:
        """It stands for the account no longer. Raises NotAllowed, NotFound."""
        row = self.book.account(name)
        if by.account != name:
            self.may_change(by, row)
        await self.book.database.write(partial(rows.remove_key, number=row.id, key=key))
        return await self.book.reread(row.id)

    def check_proof(self, proof: Signed, name: str, key: str) -> None:
        """Whether a key says that it is this account's. Raises BadSignature, BadRequest, Replayed."""
        said = read_document(proof, KeyOf, ACCOUNT_KEY, now=self._now(), signer=key)
        if (said.account, said.daemon) != (name, self._daemon):
            raise BadSignature("the key says that it belongs to another account, or of another daemon")

    def may_change(self, by: Caller, row: AccountRow) -> None:
        """Whether a caller may change somebody else's account. Raises NotAllowed."""
        if not by.has(Right.CREATE_USERS):
            raise NotAllowed("your role does not let you change accounts")
        self._may_give(by, self.book.role_of(row))

    def visible(self, by: Caller) -> list[AccountRow]:
        """The accounts that a caller may see: one's own, or all."""
        if any(by.has(right) for right in (Right.CREATE_USERS, Right.TRIAGE_REQUESTS, Right.CREATE_GROUPS)):
            return list(self.book.accounts.values())
        return [row for row in self.book.accounts.values() if row.name == by.account]

    def _may_give(self, by: Caller, role: Role) -> None:
        if by.account is not None:  # a token or a key of the owner's stands for none
            may_give(frozenset(Right) if by.owner else by.rights, role)
        elif not by.owner:
            raise NotAllowed("your role does not let you change accounts")

    async def _kept(self, password: str) -> str:
        if not password:
            return ""
        if len(password) < LEAST:
            raise AccountRefused(f"a password has at least {LEAST} letters")
        return await asyncio.to_thread(kept, password, self._effort)


def check_name(name: str) -> None:
    """Whether an account or a group can have this name. Raises AccountRefused."""
    try:
        msgspec.convert(name, AccountName)
    except msgspec.ValidationError:
        raise AccountRefused("a name has letters, digits and @ . + _ - only, and at least one of them") from None
    if _KEY.fullmatch(name):
        raise AccountRefused("a name cannot look like a key")
