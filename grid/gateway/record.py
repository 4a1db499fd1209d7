"""The gateway's record of accounts, sites, projects and runs: its services, put together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from grid.gateway.accounts import COST, Accounts
from grid.gateway.consortia import Consortia
from grid.gateway.deposits import Deposits
from grid.gateway.shared_runs import SharedRuns
from grid.gateway.sites import Sites
from grid.store.blobs import Blobs
from grid.store.database import Database


@dataclass(frozen=True)
class Record:
    """What dialects speak for."""

    accounts: Accounts
    sites: Sites
    consortia: Consortia
    runs: SharedRuns
    deposits: Deposits


def open_record(database: Database, blobs: Blobs, now: Callable[[], float], room: int, cost: int = COST) -> Record:
    """The record in `database`; sealed envelopes that are left with runs lie in `blobs`, `room` bytes at most.

    `cost` is that of trying a password (`Accounts`).
    """
    sites = Sites(database, now)
    consortia = Consortia(database, sites, now)
    runs = SharedRuns(database, consortia, now)
    return Record(Accounts(database, now, cost), sites, consortia, runs, Deposits(database, runs, blobs, now, room))
