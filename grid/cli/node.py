"""`grid-node`: the command that runs a node and manages its data and its trust."""

from __future__ import annotations

import asyncio
import time
from importlib.metadata import version
from pathlib import Path

import click

from grid.cli import people
from grid.cli.assemble import NodeSettings, gpus_for, run_node
from grid.cli.association import association, own_statistics
from grid.cli.audit import audit
from grid.cli.budget import budget
from grid.cli.config import SETTINGS, daemon_options, is_loopback
from grid.cli.daemon import Post, alone, new_loop
from grid.cli.dataset import dataset
from grid.cli.demo import demo
from grid.cli.desk import DATA, data_option, open_desk
from grid.cli.dht import dht
from grid.cli.flaas import flaas
from grid.cli.models import model
from grid.cli.network import Belonging
from grid.cli.pinned import in_full, one_line
from grid.cli.plainly import Plainly, word
from grid.cli.projects import project
from grid.cli.request import audit_log, request
from grid.cli.revoke import revoke, rotate
from grid.cli.runs import runs
from grid.cli.tasks import task
from grid.cli.worker import worker
from grid.crypto.errors import Malformed
from grid.crypto.identity import Identity, fingerprint
from grid.learning.questions import LEAST_ROWS
from grid.node.access import Access
from grid.protocol.pins import spelled
from grid.store.database import Database
from grid.transport import logs
from grid.wire.names import Address, NodeId, PublicKey
from grid.wire.node import KnownPeer
from grid.wire.problems import GpuMissing

KEY = word(PublicKey, "key (43 letters, as `grid id` prints it)")
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
URL = word(Address, "url (http://HOST:PORT)")


@click.group(cls=Plainly, context_settings={"obj": "node"})
@click.version_option(version("grid-daemon"))
def main() -> None:
    """A node of the grid: keeps data where it is, and lets those whom its owner trusts learn from it."""


@main.command(context_settings=SETTINGS)
@daemon_options(port=5001, data=DATA)
@click.option("--id", type=word(NodeId, "name of a node"), help="Its name in directories.  [default: made of its key]")
@click.option(
    "--identity-key",
    metavar="SECRET",
    help="The node's key, where disks are wiped: see `grid-node id --secret`; best as GRID_IDENTITY_KEY.",
)
@click.option("--address", type=URL, help="Where others reach this node.  [default: where it listens]")
@click.option(
    "--listen/--no-listen",
    default=True,
    help="Answer on a port, or have no port at all: letters are fetched from a --gateway, or a node with --relay.",
)
@click.option("--gateway", type=URL, multiple=True, help="A gateway to be listed at; may be repeated.")
@click.option("--dht", is_flag=True, help="Be a peer of a network without a centre, beside gateways or without any.")
@click.option(
    "--allow-unsigned/--no-allow-unsigned",
    default=None,
    show_default="allowed if --host is loopback",
    help="With --dht, list here nodes that prove nothing (the grid RFC's two fields), marked unverified.",
)
@click.option("--relay", is_flag=True, help="Keep sealed letters there for nodes without a port. [needs --dht]")
@click.option(
    "--relay-room", type=click.IntRange(1), default=1024, help="MiB of letters that wait here at most, with --relay."
)
@click.option("--bootstrap", type=URL, multiple=True, help="A peer of that network; may be repeated. [implies --dht]")
@click.option("--network", default="", help="The name of that network, where there is more than one.")
@click.option("--issuer", type=KEY, multiple=True, help="A key whose members alone may take part; may be repeated.")
@click.option("--membership", type=FILE, help="What an issuer gave this node: see `grid-node dht invite`.")
@click.option(
    "--network-secret", type=FILE, help="A file whose content tags are keyed with, the same at all its peers."
)
@click.option("--trust", type=KEY, multiple=True, help="A key whose holder may train here; may be repeated.")
@click.option(
    "--allow-private/--no-allow-private",
    default=None,
    show_default="allowed if --host is loopback",
    help="Call gateways and coordinators at private and loopback addresses.",
)
@click.option(
    "--isolation",
    type=click.Choice(["require", "prefer"]),
    default="require",
    help="Whether a job may run where this kernel cannot confine it fully (prefer), or never (require).",
)
@click.option("--workers", type=click.IntRange(1, 256), default=2, help="Jobs at once.")
@click.option("--worker-idle", type=click.FloatRange(0), default=600.0, help="Seconds an unused worker stays; 0: ever.")
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    help="What trainings are computed on: NVIDIA GPUs if there are some (auto), never, or nothing else (cuda).",
)
@click.option("--gpu-seats", type=click.IntRange(1, 64), default=2, help="Jobs that share one GPU at most.")
@click.option("--sums-only/--no-sums-only", default=False, help="Train only where updates are seen summed alone.")
@click.option(
    "--dp-required",
    type=click.FloatRange(0),
    default=0.0,
    metavar="EPSILON",
    help="Learn from records under differential privacy alone: this epsilon for a run at most; 0: not asked.",
)
@click.option("--sum-nodes", type=click.IntRange(3, 4096), default=3, help="The fewest nodes of such a sum.")
@click.option("--sum-colluding", type=click.IntRange(0, 4096), default=0, help="Nodes that may collude in one.")
@click.option(
    "--least-rows", type=click.IntRange(1), default=LEAST_ROWS, help="The fewest rows that a statistic may be about."
)
@click.option(
    "--tokens",
    type=FILE,
    envvar=["GRID_TOKENS", "AUTH_TOKENS_FILE"],
    help="A file of bearer tokens for programs that can neither sign nor sign in: see docs/flea.md.",
)
@click.option("--push", type=FILE, help="A file of accounts with push services: see docs/flaas.md.")
@click.option("--warm/--no-warm", default=False, help="Start the workers at once instead of with the first job.")
def start(
    host: str,
    port: int,
    data: Path,
    log_level: str,
    id: str | None,  # noqa: A002 - the flag's name is the setting's
    identity_key: str | None,
    address: str | None,
    listen: bool,
    gateway: tuple[str, ...],
    dht: bool,
    allow_unsigned: bool | None,
    relay: bool,
    relay_room: int,
    bootstrap: tuple[str, ...],
    network: str,
    issuer: tuple[str, ...],
    membership: Path | None,
    network_secret: Path | None,
    trust: tuple[str, ...],
    allow_private: bool | None,
    isolation: str,
    workers: int,
    worker_idle: float,
    device: str,
    gpu_seats: int,
    sums_only: bool,
    dp_required: float,
    sum_nodes: int,
    sum_colluding: int,
    least_rows: int,
    tokens: Path | None,
    push: Path | None,
    warm: bool,
) -> None:
    """Run a node until SIGTERM.

    When it is ready it prints one line, `listening on http://HOST:PORT`; with --no-listen that is its mailbox.
    """
    logs.setup(log_level)
    _check(listen=listen, listed=bool(gateway), dht=dht or bool(bootstrap), relay=relay)
    try:
        gpus_for(device)
    except GpuMissing as missing:
        raise click.ClickException(f"{missing.detail}; --device auto would use the processor") from None
    with alone(data) as post:
        identity = own_identity(data, identity_key)
        settings = NodeSettings(
            node_id=id or node_id(identity),
            data=data,
            host=host,
            port=port,
            address=address,
            listen=listen,
            gateways=gateway,
            dht=dht or bool(bootstrap),
            bootstrap=bootstrap,
            relay_room=relay_room * 1024**2 if relay else 0,
            allow_unsigned=is_loopback(host) if allow_unsigned is None else allow_unsigned,
            network=Belonging(network, issuer, membership, network_secret),
            trust=trust,
            allow_private=is_loopback(host) if allow_private is None else allow_private,
            isolation=isolation,
            workers=workers,
            worker_idle=worker_idle,
            device=device,
            gpu_seats=gpu_seats,
            sums_only=sums_only,
            dp_required=dp_required,
            sum_nodes=sum_nodes,
            sum_colluding=sum_colluding,
            least_rows=least_rows,
            tokens=tokens,
            push=push,
            warm=warm,
        )
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(_start(settings, post))


def _check(*, listen: bool, listed: bool, dht: bool, relay: bool) -> None:
    if not (listen or listed or dht):
        raise click.UsageError("a node that does not listen needs a --gateway, or --dht, to fetch its letters from")
    if relay and not (listen and dht):
        raise click.UsageError("a node that relays needs a port, and --dht to be found by")


async def _start(settings: NodeSettings, post: Post) -> None:
    def ready(address: str) -> None:
        click.echo(f"listening on {address}")  # flushes

    if not (settings.data / "owner.key").exists():
        made = await _new_token(settings.data)
        click.echo(f"owner's token, shown this once (`grid-node token` makes another): {made}", err=True)
    await run_node(settings, ready, post.announce)


def own_identity(data: Path, secret: str | None) -> Identity:
    """The node's key: from its file, or what was given in place of one. Raises KeyFileUnsafe."""
    if not secret:
        return Identity.load_or_create(data / "identity.key")
    try:
        return Identity.given(secret, data / "identity.key")
    except Malformed:
        raise click.UsageError("--identity-key takes what `grid-node id --secret` prints") from None


def node_id(identity: Identity) -> str:
    """The name of a node that was given none: the same as long as its key is."""
    return "node-" + fingerprint(identity.public).replace(" ", "")[:8]


main.add_command(dataset)
main.add_command(demo)
main.add_command(dht)
main.add_command(project)
main.add_command(runs)
main.add_command(budget)
main.add_command(flaas)
main.add_command(model)
main.add_command(task)
main.add_command(request)
main.add_command(audit_log)
main.add_command(association)
main.add_command(own_statistics)
main.add_command(worker)
for command in people.COMMANDS:
    main.add_command(command)
main.add_command(revoke)
main.add_command(rotate)


@main.command()
@data_option
def token(data: Path) -> None:
    """Print a new token for the owner; the one before no longer opens anything."""
    click.echo(asyncio.run(_new_token(data)))


async def _new_token(data: Path) -> str:
    async with Database(data / "node.db", "node") as database:
        return await Access(database, time.time).renew_token()


@main.command(name="id")
@click.option("--secret", is_flag=True, help="Print the private key instead: what GRID_IDENTITY_KEY is to be.")
@data_option
def identity(secret: bool, data: Path) -> None:
    """Print the node's public key and its fingerprint, to compare over the telephone."""
    key = Identity.load_or_create(data / "identity.key")
    if secret:
        click.echo(key.secret)
        return
    click.echo(f"node id       {node_id(key)}  (unless started with --id)")
    click.echo(f"public key    {key.id}")
    click.echo(f"fingerprint   {fingerprint(key.public)}")


# --- whom the node trusts ---------------------------------------------------------------------


@main.group()
def peer() -> None:
    """Whose keys may train on this node's data, and by which keys its peers are known."""


peer.add_command(audit)


@peer.command(name="trust")
@click.argument("key", type=KEY)
@click.option("--name", default="", help="Whose key it is, for your own memory.")
@data_option
def trust_peer(key: str, name: str, data: Path) -> None:
    """Let the holder of KEY train on this node's data."""

    async def trust() -> None:
        async with open_desk(data) as desk:
            await desk.trust(key, name)

    asyncio.run(trust())
    click.echo(f"{key} may train here")


@peer.command(name="distrust")
@click.argument("key", type=KEY)
@data_option
def distrust_peer(key: str, data: Path) -> None:
    """No longer let the holder of KEY train on this node's data."""

    async def distrust() -> None:
        async with open_desk(data) as desk:
            await desk.distrust(key)

    asyncio.run(distrust())
    click.echo(f"{key} may no longer train here")


@peer.command(name="list")
@data_option
def list_peers(data: Path) -> None:
    """List the keys whose holders may train on this node's data."""

    async def trusted() -> None:
        async with open_desk(data) as desk:
            for who in await desk.trusted():
                click.echo(f"{who.public_key}  {who.name}".rstrip())

    asyncio.run(trusted())


@peer.command(name="known")
@data_option
def known_peers(data: Path) -> None:
    """List the peers that this node has met, with the fingerprints of their keys."""

    async def known() -> tuple[KnownPeer, ...]:
        async with open_desk(data) as desk:
            return await desk.peers()

    for pin in asyncio.run(known()):
        click.echo(one_line(pin.name, pin.public_key, pin.how, pin.last_seen))


@peer.command(name="show")
@click.argument("name")
@data_option
def show_peer(name: str, data: Path) -> None:
    """Print by which key this node knows the peer NAME."""

    async def known() -> tuple[KnownPeer, ...]:
        async with open_desk(data) as desk:
            return await desk.peers()

    found = [pin for pin in asyncio.run(known()) if pin.name == name]
    if not found:
        raise click.ClickException(f"this node has not met {name}")
    for line in in_full(found[0].name, found[0].public_key, found[0].how, found[0].first_seen, found[0].last_seen):
        click.echo(line)


@peer.command(name="pin")
@click.argument("name")
@click.argument("key", type=KEY)
@data_option
def pin_peer(name: str, key: str, data: Path) -> None:
    """Know the peer NAME by KEY from now on: you compared it with its owner."""

    async def pin() -> None:
        async with open_desk(data) as desk:
            await desk.pin(name, key)

    asyncio.run(pin())
    click.echo(f"{name} is known by {spelled(key)}")


@peer.command(name="forget")
@click.argument("name")
@data_option
def forget_peer(name: str, data: Path) -> None:
    """Forget by which key the peer NAME is known: the next one that is seen will be believed."""

    async def forget() -> None:
        async with open_desk(data) as desk:
            await desk.forget(name)

    asyncio.run(forget())
    click.echo(f"{name} will be met anew")


if __name__ == "__main__":
    main()
