"""All that a daemon knows of people, put together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from grid.accounts.book import Book
from grid.accounts.circles import Groups, Roles
from grid.accounts.logins import Logins
from grid.accounts.passwords import GUESS, Effort
from grid.accounts.people import People
from grid.crypto.identity import Identity
from grid.protocol.roles import Role
from grid.store.database import Database


@dataclass(frozen=True)
class House:
    """The people of a daemon: who they are, their roles and groups, and how they sign in."""

    book: Book
    people: People
    roles: Roles
    groups: Groups
    logins: Logins


def open_house(
    database: Database,
    identity: Identity,
    presets: tuple[Role, ...],
    now: Callable[[], float],
    effort: Effort = GUESS,
) -> House:
    """The people of the daemon with this `identity`; `effort` is what a guess at a password costs."""
    book = Book(database, presets)
    people = People(book, identity.id, now, effort)
    return House(book, people, Roles(book), Groups(book), Logins(book, people, identity, now, effort))
