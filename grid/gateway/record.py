"""The gateway's record of sites, projects and runs: its services, put together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from grid.accounts.house import House
from grid.gateway.consortia import Consortia
from grid.gateway.deposits import Deposits
from grid.gateway.shared_runs import SharedRuns
from grid.gateway.sites import Sites
from grid.store.blobs import Blobs
from grid.store.database import Database


@dataclass(frozen=True)
class Record:
    """What dialects speak for."""

    house: House
    sites: Sites
    consortia: Consortia
    runs: SharedRuns
    deposits: Deposits


def open_record(database: Database, blobs: Blobs, now: Callable[[], float], room: int, house: House) -> Record:
    """The record in `database`, of the accounts of a `house`.

    Sealed envelopes that are left with runs lie in `blobs`, `room` bytes at most.
    """
    sites = Sites(database, now)
    consortia = Consortia(database, sites, now)
    runs = SharedRuns(database, consortia, now)
    return Record(house, sites, consortia, runs, Deposits(database, runs, blobs, now, room))
