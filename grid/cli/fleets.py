"""Puts a node's fleets of devices together, and the ways in which these are woken."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from aiohttp import ClientSession
from msgspec import Struct

from grid.node.dialects.flaas_rows import FlaasParts
from grid.node.dialects.flea_rows import FleaParts
from grid.node.fleet.push import Driver, Waker
from grid.node.fleet.push_apns import APPLE, SANDBOX, ApnsDriver, ApnsKey, apple_tls, read_key
from grid.node.fleet.push_fcm import FcmDriver, service_account
from grid.node.fleet.push_web import WebDriver, load_key
from grid.node.fleet.registry import Fleets
from grid.node.fleet.rounds import Rounds
from grid.node.means import Means
from grid.node.tasks.outcome import Spawn
from grid.store.events import EventLog
from grid.wire.flaas import Apns, Fcm, WebPush
from grid.wire.problems import BadRequest


class Firebase(Struct, frozen=True, rename="kebab", forbid_unknown_fields=True):
    """The file of a service account."""

    service_account: str


class Apple(Struct, frozen=True, rename="kebab", forbid_unknown_fields=True):
    """The file of a key, what Apple calls it, whose it is, and for which app."""

    key: str
    key_id: str
    team: str
    topic: str
    sandbox: bool = False


class Push(Struct, frozen=True, rename="kebab", forbid_unknown_fields=True):
    """Whom push services write to about this node, and the accounts that it has there."""

    contact: str = "mailto:nobody@localhost.localdomain"
    fcm: Firebase | None = None
    apns: Apple | None = None


class Outside(NamedTuple):
    """What fleets reach beyond the node: connections, and the file of their accounts with push services, if any."""

    http: ClientSession
    push: Path | None


def open_fleets(
    means: Means, log: EventLog, tasks: FleaParts, spawn: Spawn, data: Path, outside: Outside
) -> FlaasParts:
    """The fleets of a node, over its models and tasks; its scheduler looks at them from now on.

    Raises:
        BadRequest: the file of accounts with push services, or one that it names, says something else.
    """
    said, http = push_settings(outside.push), outside.http
    fleets = Fleets(tasks.registry.database, tasks.models, means.now)
    web = WebDriver(http, means.egress, load_key(data / "push.pem"), said.contact, means.now)
    drivers: dict[type, Driver] = {WebPush: web}
    if said.fcm:
        drivers[Fcm] = FcmDriver(http, service_account(Path(said.fcm.service_account)), means.now)
    if said.apns:
        of = said.apns
        key = ApnsKey(read_key(Path(of.key)), of.key_id, of.team, of.topic)
        drivers[Apns] = ApnsDriver(key, means.now, SANDBOX if of.sandbox else APPLE, apple_tls())
    rounds = Rounds(fleets, tasks.registry, tasks.jobs, tasks.outcome, Waker(fleets, drivers, spawn))
    spawn(rounds.keep())
    return FlaasParts(means.house, fleets, rounds, tasks.jobs, log, data / "samples", web.public)


def push_settings(file: Path | None) -> Push:
    """What a TOML file says of push services; nothing, where there is none. Raises BadRequest."""
    if file is None:
        return Push()
    try:
        found: dict[str, Any] = tomllib.loads(file.read_text(encoding="utf-8"))
        return msgspec.convert(found, Push)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise BadRequest(f"the file of push services cannot be read: {error}") from None
