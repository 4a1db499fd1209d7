"""`user`, `role`, `group` and `session`, of `grid-node` and `grid-gateway` alike: who may do what there."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, NamedTuple, TypeVar

import click
from msgspec import UNSET

from grid.accounts.app import account_routes
from grid.accounts.house import open_house
from grid.cli.config import default_data
from grid.cli.daemon import UNIX, daemon_of
from grid.cli.desk import Office, way_to
from grid.cli.plainly import Plainly
from grid.client.calls import Calls
from grid.client.tables import moment, table
from grid.crypto.identity import Identity
from grid.protocol.roles import NETWORK_ROLES, NODE_ROLES
from grid.store.database import Database
from grid.transport.app import create_app
from grid.transport.auth import Authenticator
from grid.transport.hello import session_handler
from grid.transport.metrics import Metrics
from grid.transport.serve import running as answering
from grid.wire import accounts as wire
from grid.wire.endpoint import Endpoint, Gives, Takes
from grid.wire.problems import BadRequest, Unreachable
from grid.wire.rights import Right
from grid.wire.session import SESSION

Kind = Literal["node", "gateway"]
T = TypeVar("T")

_ROLES = {"node": NODE_ROLES, "gateway": NETWORK_ROLES}


class Place(NamedTuple):
    """A kind of daemon, and the folder of one."""

    kind: Kind
    data: Path


def _placed(context: click.Context, _: click.Parameter, data: Path | None) -> Place:
    kind: Kind = context.find_root().obj  # each daemon's command says what it is
    return Place(kind, data or Path(default_data(kind)))


place_option = click.option(
    "--data",
    "place",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="GRID_DATA",
    callback=_placed,
    help="Where the daemon's state and keys are kept.",
)


@asynccontextmanager
async def open_counter(place: Place, *, running: bool = False) -> AsyncIterator[Office]:
    """A daemon as its owner calls it, whether it runs or not: if not, this process answers for its people.

    Raises:
        Unreachable: it has to be `running`, and does not.
    """
    kind, data = place
    with daemon_of(data) as found:
        daemon = Identity.load_or_create(data / "identity.key")
        owner = Identity.load_or_create(data / "owner.key") if kind == "node" else daemon
        if found is not None:
            http, address = way_to(found.address)
            async with http:
                yield Office(Calls(http, identity=owner), owner, address, daemon.public)
            return
        if running:
            raise Unreachable(f"the {kind} of {data} does not run; start it with `grid-{kind} start`")
        async with Database(data / f"{kind}.db", kind) as database:
            house = open_house(database, daemon, _ROLES[kind], time.time)
            auth = Authenticator(daemon, time.time, owner_keys=lambda: frozenset({owner.public}))
            routes = {SESSION: session_handler(auth), **account_routes(house)}
            app = create_app(routes, auth=auth, metrics=Metrics(), about="People")
            with TemporaryDirectory(prefix="grid-") as folder:
                socket = Path(folder) / "people"
                http, address = way_to(f"{UNIX}{socket}")
                async with answering(app, host=None, local=socket), http:
                    yield Office(Calls(http, identity=owner), owner, address, daemon.public)


async def _with(place: Place, work: Callable[[Office], Awaitable[T]]) -> T:
    async with open_counter(place) as office:
        return await work(office)


def _ask(place: Place, endpoint: Endpoint[Takes, Gives], message: Takes | None = None, **path: str) -> Gives:
    """What the daemon answers its owner."""
    return asyncio.run(_with(place, lambda office: office.ask(endpoint, message, **path)))


@click.group(cls=Plainly)
def user() -> None:
    """Accounts of people and programs. The first one owns this daemon, if it gets no --role."""


@user.command(name="add")
@click.argument("name")
@click.option("--email", default="", help="Where its holder is reached.")
@click.option("--role", default="", help="What it may do: see `role list`.")
@click.option("--group", "groups", multiple=True, help="A group that it is in; may be repeated.")
@click.option("--key", "keys", multiple=True, help="A public key that stands for it; may be repeated.")
@click.option("--password/--no-password", default=None, help="Draw a password; so it does where no --key is given.")
@place_option
def add_user(
    name: str,
    email: str,
    role: str,
    groups: tuple[str, ...],
    keys: tuple[str, ...],
    password: bool | None,
    place: Place,
) -> None:
    """Make an account. A password is drawn at random and printed, this once."""
    word = secrets.token_urlsafe(24) if (not keys if password is None else password) else ""
    new = wire.NewAccount(name, email, word, role, groups, keys)
    _ask(place, wire.ADD_ACCOUNT, new)
    if word:
        click.echo(word)


@user.command(name="list")
@place_option
def list_users(place: Place) -> None:
    """List the accounts, oldest first."""
    told = _ask(place, wire.ACCOUNTS).accounts
    rows = [(a.name, a.role, " ".join(a.groups), a.email, " ".join(a.keys)) for a in told]
    click.echo(table(("name", "role", "groups", "email", "keys"), rows))


@user.command(name="set")
@click.argument("name")
@click.option("--email", default=None, help="Another address.")
@click.option("--role", default=None, help="Another role.")
@click.option("--key", default=None, help="A key that stands for it from now on, too.")
@click.option("--drop-key", default=None, help="A key that stands for it no longer.")
@click.option("--new-password", is_flag=True, help="Draw another password, and end its sessions.")
@place_option
def set_user(
    name: str,
    email: str | None,
    role: str | None,
    key: str | None,
    drop_key: str | None,
    new_password: bool,
    place: Place,
) -> None:
    """Change an account."""
    word = secrets.token_urlsafe(24) if new_password else ""
    change = wire.AccountChange(
        email=UNSET if email is None else email,
        role=UNSET if role is None else role,
        password=word or UNSET,
    )
    if change == wire.AccountChange() and key is None and drop_key is None:
        raise BadRequest("nothing is to be changed; see --help")

    async def work(office: Office) -> None:
        if change != wire.AccountChange():
            await office.ask(wire.CHANGE_ACCOUNT, change, name=name)
        if key is not None:
            await office.ask(wire.ADD_KEY, wire.NewKey(key), name=name)
        if drop_key is not None:
            await office.ask(wire.REMOVE_KEY, name=name, public_key=drop_key)

    asyncio.run(_with(place, work))
    if word:
        click.echo(word)


@user.command(name="remove")
@click.argument("name")
@place_option
def remove_user(name: str, place: Place) -> None:
    """Remove an account. What is its own stays, and answers to the owner alone."""
    click.echo(_ask(place, wire.REMOVE_ACCOUNT, name=name).message)


_rights = click.argument("rights", nargs=-1, type=click.Choice([right.value for right in Right]))


@click.group(cls=Plainly)
def role() -> None:
    """Roles: what accounts may do. Preset ones stay as they are."""


@role.command(name="list")
@place_option
def list_roles(place: Place) -> None:
    """List the roles, with what they may do and how many accounts have them."""
    told = _ask(place, wire.ROLES).roles
    rows = [(r.name, "preset" if r.preset else "", str(r.accounts), " ".join(r.rights)) for r in told]
    click.echo(table(("role", "", "accounts", "rights"), rows))


@role.command(name="add")
@click.argument("name")
@_rights
@place_option
def add_role(name: str, rights: tuple[str, ...], place: Place) -> None:
    """Make a role of this NAME that has these RIGHTS."""
    new = wire.NewRole(name, tuple(map(Right, rights)))
    _ask(place, wire.ADD_ROLE, new)


@role.command(name="set")
@click.argument("name")
@_rights
@place_option
def set_role(name: str, rights: tuple[str, ...], place: Place) -> None:
    """Let a role have these RIGHTS, and no others."""
    new = wire.NewRole(name, tuple(map(Right, rights)))
    _ask(place, wire.CHANGE_ROLE, new, name=name)


@role.command(name="remove")
@click.argument("name")
@place_option
def remove_role(name: str, place: Place) -> None:
    """Remove a role that no account has."""
    click.echo(_ask(place, wire.REMOVE_ROLE, name=name).message)


@click.group(cls=Plainly)
def group() -> None:
    """Groups of accounts: budgets and permissions go by them."""


@group.command(name="list")
@place_option
def list_groups(place: Place) -> None:
    """List the groups, and who is in them."""
    told = _ask(place, wire.GROUPS).groups
    click.echo(table(("group", "accounts"), [(g.name, " ".join(g.accounts)) for g in told]))


@group.command(name="add")
@click.argument("name")
@place_option
def add_group(name: str, place: Place) -> None:
    """Make a group."""
    _ask(place, wire.ADD_GROUP, wire.NewGroup(name))


@group.command(name="remove")
@click.argument("name")
@place_option
def remove_group(name: str, place: Place) -> None:
    """Remove a group; the accounts in it stay."""
    click.echo(_ask(place, wire.REMOVE_GROUP, name=name).message)


@group.command(name="join")
@click.argument("name")
@click.argument("account")
@place_option
def join_group(name: str, account: str, place: Place) -> None:
    """Put ACCOUNT into a group."""
    _ask(place, wire.JOIN_GROUP, name=name, account=account)


@group.command(name="leave")
@click.argument("name")
@click.argument("account")
@place_option
def leave_group(name: str, account: str, place: Place) -> None:
    """Take ACCOUNT out of a group. What it spent stays its own."""
    _ask(place, wire.LEAVE_GROUP, name=name, account=account)


@click.group(cls=Plainly)
def session() -> None:
    """Who is signed in with a password."""


@session.command(name="list")
@place_option
def list_sessions(place: Place) -> None:
    """List the sessions, the one that was used last first."""
    told = _ask(place, wire.SESSIONS).sessions
    rows = [(s.id, s.account, s.place, moment(s.created), moment(s.used)) for s in told]
    click.echo(table(("session", "account", "from", "since", "used"), rows))


@session.command(name="end")
@click.argument("session")
@place_option
def end_session(session: str, place: Place) -> None:
    """End a session."""
    click.echo(_ask(place, wire.END_SESSION, id=session).message)


COMMANDS = (user, role, group, session)
"""For the `main` of a daemon, whose context's `obj` is its kind."""
