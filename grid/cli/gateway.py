"""`grid-gateway`: the command that runs a gateway."""

from __future__ import annotations

import asyncio
import gc
import time
from functools import partial
from importlib.metadata import version
from pathlib import Path

import click

from grid.accounts.house import open_house
from grid.associations.service import Associations
from grid.cli import people
from grid.cli.association import association
from grid.cli.config import SETTINGS, daemon_options, default_data, is_loopback
from grid.cli.daemon import Post, alone, new_loop, reachable
from grid.cli.owner import FILE, owner_token
from grid.cli.plainly import Plainly
from grid.client.calls import Calls
from grid.client.egress import Egress, open_http
from grid.crypto.identity import Identity
from grid.gateway.app import Policy, open_gateway
from grid.gateway.kept import KeptLog, KeptMembers
from grid.gateway.log import Log
from grid.gateway.record import open_record
from grid.protocol.roles import NETWORK_ROLES
from grid.relay.mailboxes import Mailboxes
from grid.relay.quotas import ROOM
from grid.store.blobs import Blobs
from grid.store.database import Database
from grid.store.events import EventLog
from grid.transport import logs
from grid.transport.auth import Authenticator
from grid.transport.serve import serve


@click.group(cls=Plainly, context_settings={"obj": "gateway"})
@click.version_option(version("grid-daemon"))
def main() -> None:
    """A gateway of the grid: lists nodes and finds data by its tags. It never sees data or models."""


@main.command(context_settings=SETTINGS)
@daemon_options(port=5000, data=default_data("gateway"))
@click.option(
    "--allow-unsigned/--no-allow-unsigned",
    default=None,
    show_default="allowed if --host is loopback",
    help="List nodes that prove nothing (the grid RFC's two fields), marked unverified.",
)
@click.option(
    "--allow-private/--no-allow-private",
    default=None,
    show_default="allowed if --host is loopback",
    help="List nodes at private and loopback addresses.",
)
@click.option("--lease", type=click.FloatRange(5, 86400), default=90.0, help="Seconds a node stays without renewing.")
@click.option(
    "--check-interval", type=click.FloatRange(1, 3600), default=30.0, help="Seconds between health checks of a node."
)
@click.option(
    "--relay-room",
    type=click.IntRange(0),
    default=ROOM // 1024**2,
    show_default=True,
    help="MiB of sealed letters that wait for nodes without an inbound port; 0: relay nothing.",
)
@click.option("--address", help="URL at which nodes reach it, if that is not where it listens.")
def start(
    host: str,
    port: int,
    data: Path,
    log_level: str,
    allow_unsigned: bool | None,
    allow_private: bool | None,
    lease: float,
    check_interval: float,
    relay_room: int,
    address: str | None,
) -> None:
    """Run a gateway until SIGTERM.

    When it is ready it prints one line, `listening on http://HOST:PORT`.
    """
    logs.setup(log_level)
    local = is_loopback(host)
    policy = Policy(
        allow_unsigned=local if allow_unsigned is None else allow_unsigned,
        allow_private=local if allow_private is None else allow_private,
        lease=lease,
        check_interval=check_interval,
    )
    gc.freeze()  # what was imported stays: no collection need look at it again
    with alone(data) as post, asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(run(host, port, data, policy, post, relay_room * 1024**2, address))


async def run(
    host: str, port: int, data: Path, policy: Policy, post: Post, room: int = ROOM, address: str | None = None
) -> None:
    """Serve a gateway whose state is in `data`, until a signal ends it; `room`: bytes for letters, 0: no relay.

    `address`: where nodes reach it, if that is not where it listens.
    """
    is_owner, token = owner_token(data)
    if token:
        click.echo(f"owner's token, shown this once (delete {data / FILE} to get another): {token}", err=True)
    identity = Identity.load_or_create(data / "identity.key")
    egress, at = Egress(policy.allow_private), [address or ""]
    async with Database(data / "gateway.db", "gateway") as database, open_http(egress) as http:
        house = open_house(database, identity, NETWORK_ROLES, time.time)
        record = open_record(database, Blobs(data / "deposits"), time.time, room or ROOM, house)
        auth = Authenticator(
            identity,
            time.time,
            is_owner=is_owner,
            owner_keys=lambda: frozenset({identity.public}),  # who reads its key owns it
            accounts=house.logins.check,
            tokens=house.logins.bearer,
            standing=house.book.standing,
        )
        associations = Associations(
            database,
            identity,
            "gateway",
            "gateway",
            lambda: at[0],
            Calls(http, identity=identity),
            egress,
            time.time,
        )
        log, events = Log(KeptLog(database), identity, time.time), EventLog(database)
        mailboxes = Mailboxes(database, events, Blobs(data / "letters"), time.time, room) if room else None
        async with open_gateway(
            identity,
            KeptMembers(database, log),
            policy,
            auth=auth,
            now=time.time,
            version=version("grid-daemon"),
            log=log,
            mailboxes=mailboxes,
            record=record,
            associations=associations,
        ) as app:
            await serve(
                app, host=host, port=port, ready=partial(_ready, post, at), on_drain=partial(_let_go, mailboxes)
            )


main.add_command(association)
for command in people.COMMANDS:
    main.add_command(command)


async def _let_go(mailboxes: Mailboxes | None) -> None:
    """Those who listen are answered, so that they come back once the gateway does."""
    if mailboxes is not None:
        mailboxes.close()


def _ready(post: Post, at: list[str], address: str) -> None:
    at[0] = at[0] or reachable(address)
    post.announce(address)
    click.echo(f"listening on {address}")  # flushes


if __name__ == "__main__":
    main()
