"""A gateway that lies: keys put in others' places, logs rewritten, revocations withheld. All of it is found out.

The gateway is the real one, over HTTP; the tests reach into it as its operator could.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest
from aiohttp import ClientSession, web
from click.testing import CliRunner, Result

from grid.cli.daemon import alone
from grid.cli.node import main
from grid.client.calls import Calls
from grid.client.directory import GatewayDirectory
from grid.client.grid import Grid
from grid.client.payload import read_prekey
from grid.client.pins import FilePins
from grid.client.writing import open_relay
from grid.crypto.identity import Identity, fingerprint
from grid.crypto.prekeys import Prekey, publish
from grid.gateway.app import LOG, REGISTER, open_gateway
from grid.gateway.claim import read_claim
from grid.gateway.kept import KeptLog, KeptMembers
from grid.gateway.log import Beside, Log
from grid.gateway.roll import Listed
from grid.node.audit import Audit
from grid.node.peers import Peers
from grid.protocol.documents import sign_document
from grid.store.database import Database
from grid.transport.auth import Authenticator
from grid.transport.serve import running
from grid.wire.directory import NODE_RECORD, Join, Leave, NodeRecord
from grid.wire.log import REVOCATION, REVOKE_KEY, Revocation, Revoke
from grid.wire.problems import BadRequest, BadSignature, KeyChanged, KeyForeign, KeyRevoked, LogForked, NotAMember
from grid.wire.runs import After
from grid.wire.session import IDENTITY
from tests.conftest import StartNode
from tests.gateway.conftest import GATEWAY, OPEN, gateway_at
from tests.grid_of_nodes import ANode

ANN, BOB, EVE = (Identity.from_seed(letter * 32) for letter in (b"a", b"b", b"e"))


def a_join(name: str, who: Identity) -> Join:
    now, address = time.time(), f"http://127.0.0.1:1/{name}"
    record = NodeRecord(name, address, int(now * 1000), now + 600, ("#pulse",), (), who.id)
    return Join(name, address, sign_document(who, NODE_RECORD, record))


class Gateway:
    """A real gateway at `address`, and what its operator can do inside it."""

    def __init__(self, app: web.Application, address: str, http: ClientSession) -> None:
        self.app, self.address, self.http = app, address, http
        self.log = app[LOG]

    def seen_by(self, who: Identity, pins: FilePins | None = None) -> GatewayDirectory:
        return GatewayDirectory(Calls(self.http, identity=who), self.address, pins)

    def audit(self, who: Identity, name: str, database: Database) -> Audit:
        calls = Calls(self.http, identity=who)
        return Audit(calls, GatewayDirectory(calls, self.address), Peers(database, time.time), name, who.id)

    def puts_in_place(self, name: str, key: Identity) -> None:
        """Lists a name under another key, with a record that this key signed."""
        roll = self.app[REGISTER].roll
        there = roll.get(name)
        assert there is not None
        roll.place(Listed(there.member, read_claim(a_join(name, key), time.time())))

    async def shows(self, *listed: tuple[str, str]) -> None:
        """Shows another log from now on, signed by its own key as before."""
        other = Log(_Memory(), GATEWAY, time.time)
        for name, key in listed:
            await other.listed(name, key)
        self.log.__dict__.update(other.__dict__)


class _Memory:
    """A log's store in memory."""

    def __init__(self) -> None:
        self.kept: list[bytes] = []

    async def load(self) -> list[bytes]:
        return list(self.kept)

    async def append(self, first: int, entries: Sequence[bytes], beside: Beside | None = None) -> None:
        assert first == len(self.kept)
        self.kept += entries

    async def read(self, after: int, limit: int) -> list[bytes]:
        return self.kept[after : after + limit]


@asynccontextmanager
async def a_gateway(data: Path, http: ClientSession) -> AsyncIterator[Gateway]:
    auth = Authenticator(GATEWAY, time.time)
    async with Database(data / "gateway.db", "gateway") as database:
        log = Log(KeptLog(database), GATEWAY, time.time)
        members = KeptMembers(database, log)
        opened = open_gateway(GATEWAY, members, OPEN, auth=auth, now=time.time, version="0", log=log)
        async with opened as app, running(app) as address:
            yield Gateway(app, address, http)


@pytest.fixture
async def gateway(tmp_path: Path, connections: ClientSession) -> AsyncIterator[Gateway]:
    """A gateway at which ann and bob are listed."""
    async with a_gateway(tmp_path, connections) as lying:
        for name, key in (("ann", ANN), ("bob", BOB)):
            await lying.seen_by(key).join(a_join(name, key))
        yield lying


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with Database(tmp_path / "node.db", "node") as opened:
        yield opened


def search(gateway: Gateway, pins: FilePins) -> Grid:
    calls = Calls(gateway.http, identity=BOB)
    directory = GatewayDirectory(calls, gateway.address, pins)
    return Grid(directory, calls, BOB, now=time.time, pins=pins, gateway=gateway.address)


async def test_an_honest_gateway_passes_every_check(gateway: Gateway, database: Database, tmp_path: Path) -> None:
    audit = gateway.audit(ANN, "ann", database)
    await audit.look()
    await gateway.seen_by(EVE).join(a_join("eve", EVE))
    await audit.look()
    await audit.look()

    found = await search(gateway, FilePins(tmp_path / "p.json", time.time)).search("#pulse")

    assert {node.id: node.public_key for node in found} == {"ann": ANN.id, "bob": BOB.id, "eve": EVE.id}
    assert Peers(database, time.time).alarms() == {}


async def test_the_log_and_its_proofs_survive_a_restart(tmp_path: Path, connections: ClientSession) -> None:
    async with (
        Database(tmp_path / "node.db", "node") as database,
        a_gateway(tmp_path, connections) as before,
    ):
        await before.seen_by(ANN).join(a_join("ann", ANN))
        await before.audit(ANN, "ann", database).look()
        head = before.log.head()
    async with a_gateway(tmp_path, connections) as after:
        await after.seen_by(ANN).join(a_join("ann", ANN))
        entry = after.log.logged("ann")

        assert entry is not None
        assert (await after.seen_by(BOB).resolve("ann")).logged is not None
        assert after.log._tree.root() in head.payload


async def test_a_key_put_in_a_known_nodes_place_is_refused_by_whoever_met_it(gateway: Gateway, tmp_path: Path) -> None:
    pins = FilePins(tmp_path / "peers.json", time.time)
    await search(gateway, pins).search("#pulse")
    gateway.puts_in_place("ann", EVE)

    with pytest.raises(KeyChanged, match="ann@") as refused:
        await search(gateway, pins).search("#pulse")

    for key in (ANN, EVE):
        assert fingerprint(key.public) in refused.value.detail


async def test_a_key_put_in_a_nodes_place_is_found_out_by_the_node_itself(
    gateway: Gateway, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    audit = gateway.audit(ANN, "ann", database)
    await audit.look()
    gateway.puts_in_place("ann", EVE)
    await gateway.seen_by(BOB).resolve("ann")  # a stranger believes it: and so it is in the log

    with pytest.raises(KeyForeign, match=fingerprint(EVE.public)):
        await audit.look()
    await audit.look()  # the log goes on; the alarm stays

    assert fingerprint(EVE.public) in Peers(database, time.time).alarms()[gateway.address]
    assert "DO NOT BELIEVE the gateway" in caplog.text


async def test_a_key_that_is_not_in_the_log_is_refused_by_strangers_too(gateway: Gateway) -> None:
    gateway.puts_in_place("ann", EVE)

    async def silent(node_id: str, public_key: str) -> None:
        """Keeps it out of the log."""

    gateway.log.listed = silent  # type: ignore[method-assign]
    with pytest.raises(KeyForeign, match=fingerprint(EVE.public)):
        await gateway.seen_by(BOB).resolve("ann")

    gateway.log.logged = lambda node_id: None  # type: ignore[method-assign]
    with pytest.raises(KeyForeign, match="does not show that in its log"):
        await gateway.seen_by(BOB).resolve("ann")


async def test_a_proof_of_another_entry_or_under_another_key_does_not_hold(gateway: Gateway) -> None:
    bobs = gateway.log.logged("bob")
    assert bobs is not None
    anns = gateway.log.logged("ann")
    assert anns is not None
    for forged in (
        type(anns)(anns.entry, anns.index, bobs.path, anns.head),
        type(anns)(anns.entry, bobs.index, anns.path, anns.head),
    ):
        gateway.log.logged = lambda node_id, forged=forged: forged  # type: ignore[misc, method-assign]
        with pytest.raises(LogForked):
            await gateway.seen_by(BOB).resolve("ann")

    gateway.log._identity, gateway.log._head = EVE, None
    del gateway.log.__dict__["logged"]
    with pytest.raises(LogForked, match="not signed by"):
        await gateway.seen_by(BOB).resolve("ann")


async def test_another_gateway_at_a_known_address_is_refused(gateway: Gateway, tmp_path: Path) -> None:
    pins = FilePins(tmp_path / "peers.json", time.time)
    pins.meet(gateway.address, EVE.id)

    with pytest.raises(KeyChanged, match=gateway.address):
        await gateway.seen_by(BOB, pins).resolve("ann")


def test_a_prekey_that_its_owner_did_not_sign_is_refused() -> None:
    now = time.time()
    evil = publish(EVE, Prekey.generate(), now, now + 60)

    with pytest.raises(BadSignature):
        read_prekey(evil, ANN.public, now)


async def test_a_rewritten_history_is_refused_by_whoever_saw_the_old_one(gateway: Gateway, database: Database) -> None:
    audit, stranger = gateway.audit(ANN, "ann", database), gateway.seen_by(BOB)
    await audit.look()
    await stranger.resolve("ann")
    await gateway.shows(("ann", ANN.id), ("other", EVE.id), ("bob", BOB.id))

    with pytest.raises(LogForked, match="rewritten"):
        await audit.look()
    with pytest.raises(LogForked, match="signed two logs"):
        await stranger.resolve("ann")

    assert "rewritten" in Peers(database, time.time).alarms()[gateway.address]


async def test_two_members_who_are_shown_different_logs_find_out_when_they_compare(
    gateway: Gateway, start_node: StartNode
) -> None:
    ann = await start_node("ann-node")
    await gateway.seen_by(ann.identity).join(a_join(ann.id, ann.identity))
    scientist, public = gateway.seen_by(BOB), ann.identity.public
    assert await scientist.witness(ann.address, public) == 0  # it follows no log yet
    await audit_of(ann, gateway).look()
    await gateway.seen_by(EVE).join(a_join("eve", EVE))
    assert await gateway.seen_by(BOB).witness(ann.address, public) == 1

    await gateway.shows(("bob", BOB.id), ("ann", EVE.id), (ann.id, EVE.id), ("eve", EVE.id))  # to bob, and not to ann
    with pytest.raises(LogForked, match="signed two logs"):
        await gateway.seen_by(BOB).witness(ann.address, public)


def audit_of(node: ANode, gateway: Gateway) -> Audit:
    """How a running node follows the gateway's log."""
    means = node.open.means
    directory = GatewayDirectory(means.calls, gateway.address)
    return Audit(means.calls, directory, means.peers, node.id, node.identity.id)


def join_of(node: ANode) -> Join:
    """A running node's record, with the address at which it answers."""
    said = NodeRecord(
        node.id, node.address, int(time.time() * 1000), time.time() + 600, ("#pulse",), (), node.identity.id
    )
    return Join(node.id, node.address, sign_document(node.identity, NODE_RECORD, said))


async def test_a_node_asks_another_member_now_and_then_and_finds_out_by_itself(
    gateway: Gateway, start_node: StartNode, database: Database
) -> None:
    ann = await start_node("ann-node")
    await gateway.seen_by(ann.identity).join(join_of(ann))
    await audit_of(ann, gateway).look()
    for name, key in (("ann", ANN), ("bob", BOB)):  # these do not answer
        await gateway.seen_by(key).leave(Leave(name, f"http://127.0.0.1:1/{name}"))
    await gateway.seen_by(EVE).join(a_join("eve", EVE))
    audit, peers = gateway.audit(EVE, "eve", database), Peers(database, time.time)

    await audit.tend()
    assert await audit.ask_another() == ann.id
    await gateway.shows(("eve", EVE.id), *[(name, ann.identity.id) for name in ("one", "two", "three", ann.id)])
    other = gateway.audit(EVE, "eve", database)
    with pytest.raises(LogForked):
        await other.ask_another()

    assert "as ann-node was shown it" in peers.alarms()[gateway.address]
    told = (await peers.events(After())).events
    assert [(event.kind, event.data["gateway"]) for event in told] == [("gateway-alarm", gateway.address)]


async def test_an_owner_has_the_logs_looked_at_and_a_named_member_asked(
    gateway: Gateway, start_node: StartNode, tmp_path: Path
) -> None:
    bob = await start_node("bob-node")
    owner = Identity.load_or_create(tmp_path / "ann-node" / "owner.key")
    ann = await start_node("ann-node", owners=(owner.id,), gateways=(gateway.address,))

    async def looks(*words: str) -> Result:
        with alone(ann.folder) as post:
            post.announce(ann.address)
            told = ["peer", "audit", *words, "--data", str(ann.folder)]
            return await asyncio.to_thread(CliRunner().invoke, main, told)

    assert "not been listed there yet" in (await looks()).output
    for node in (ann, bob):
        await gateway.seen_by(node.identity).join(join_of(node))
        await audit_of(node, gateway).look()
    fine = await looks("--witness", bob.id)
    assert (fine.exit_code, fine.output) == (
        0,
        f"{gateway.address}: a log of 4 entries, in order; bob-node was shown the same\n",
    )
    assert "bob told nothing of it" in (await looks("--witness", "bob")).output  # it does not answer

    await gateway.shows(*[(name, EVE.id) for name in ("one", "two")], (ann.id, ann.identity.id), ("x", EVE.id))
    wrong = await looks("--witness", bob.id)
    assert wrong.exit_code == 1
    assert "WRONG" in wrong.output
    assert "rewritten" in wrong.output


async def test_a_log_that_was_rewritten_between_two_programs_is_found_out_by_the_second(
    gateway: Gateway, tmp_path: Path
) -> None:
    def program() -> GatewayDirectory:
        return gateway.seen_by(BOB, FilePins(tmp_path / "peers.json", time.time))

    await program().resolve("ann")
    await gateway.seen_by(EVE).join(a_join("eve", EVE))
    await program().resolve("ann")
    await gateway.shows(("ann", ANN.id), ("other", EVE.id), ("bob", BOB.id), ("eve", EVE.id))

    with pytest.raises(LogForked, match="signed two logs"):
        await program().resolve("ann")
    assert FilePins(tmp_path / "peers.json", time.time).forget(gateway.address)
    await program().resolve("ann")  # its operator said why


async def test_a_log_that_shrank_between_two_programs_is_found_out_by_the_second(
    gateway: Gateway, tmp_path: Path
) -> None:
    pins = FilePins(tmp_path / "peers.json", time.time)
    await gateway.seen_by(BOB, pins).resolve("ann")
    await gateway.shows(("ann", ANN.id))

    with pytest.raises(LogForked):
        await gateway.seen_by(BOB, pins).resolve("ann")


async def test_two_programs_at_once_find_out_that_they_are_shown_two_logs(gateway: Gateway, tmp_path: Path) -> None:
    first, second = (gateway.seen_by(BOB, FilePins(tmp_path / "peers.json", time.time)) for _ in range(2))
    await first.resolve("ann")
    await gateway.seen_by(EVE).join(a_join("eve", EVE))
    await second.resolve("ann")
    await gateway.shows(("ann", ANN.id), ("bob", BOB.id), ("other", EVE.id), ("more", EVE.id))

    with pytest.raises(LogForked, match="signed two logs"):
        await first.resolve("ann")


async def test_a_shorter_head_that_comes_late_does_not_take_the_place_of_the_longest(
    gateway: Gateway, tmp_path: Path
) -> None:
    pins = FilePins(tmp_path / "peers.json", time.time)
    short = gateway.log.head()
    await gateway.seen_by(EVE).join(a_join("eve", EVE))
    pins.meet(gateway.address, GATEWAY.id)
    for head in (gateway.log.head(), short):
        pins.saw(gateway.address, head)
    assert pins.seen(gateway.address) == gateway.log.head()

    pins.pin(gateway.address, GATEWAY.id)
    assert pins.seen(gateway.address) == gateway.log.head()
    pins.pin(gateway.address, EVE.id)  # another gateway is there now, with a log of its own
    assert pins.seen(gateway.address) is None


async def test_a_prekey_that_a_gateway_put_in_a_nodes_mailbox_is_refused_by_whoever_writes_to_it(
    start_node: StartNode, connections: ClientSession, tmp_path: Path
) -> None:
    """A real node without a port, its gateway lying: nothing is sealed to the gateway's own key."""

    async def asks(who: Identity, node: ANode, address: str) -> str:
        calls = Calls(connections, identity=who)
        async with open_relay(calls, who, time.time) as relay:
            relay.gateways = (address,)
            return (await calls.call(node.address, IDENTITY, peer=node.identity.public)).public_key

    async with gateway_at(tmp_path / "gateway", clock=time.time) as address:  # type: ignore[arg-type]
        ann = await start_node("ann-node", listen=False, gateways=(address,))
        assert await asks(BOB, ann, address) == ann.identity.id
        now = time.time()
        evil = publish(EVE, Prekey.generate(), now, now + 600)
        with closing(sqlite3.connect(tmp_path / "gateway" / "gateway.db")) as inside, inside:
            inside.execute("UPDATE mailboxes SET prekey = ?", (evil,))

        with pytest.raises(BadSignature):
            await asks(EVE, ann, address)


async def test_a_log_that_shrank_is_refused(gateway: Gateway, database: Database) -> None:
    audit = gateway.audit(ANN, "ann", database)
    await audit.look()
    await gateway.shows(("ann", ANN.id))

    with pytest.raises(LogForked, match="had 2 entries and now has 1"):
        await audit.look()


async def test_entries_that_are_signed_and_not_shown_are_refused(gateway: Gateway, database: Database) -> None:
    async def nothing(after: int, limit: int) -> list[bytes]:
        return []

    gateway.log._store.read = nothing  # type: ignore[method-assign]
    with pytest.raises(LogForked, match="does not show them all"):
        await gateway.audit(ANN, "ann", database).look()


async def test_an_alarm_lasts_until_the_owner_forgets_the_gateway(gateway: Gateway, database: Database) -> None:
    audit, peers = gateway.audit(ANN, "ann", database), Peers(database, time.time)
    await audit.look()
    await gateway.shows(("ann", ANN.id))
    with pytest.raises(LogForked):
        await audit.look()
    assert peers.alarms()

    await peers.forget(gateway.address)
    await audit.look()
    assert peers.alarms() == {}


# --- revocation -----------------------------------------------------------------------------------


def revocation(key: Identity, signer: Identity | None = None) -> Revoke:
    said = Revocation(key.id, time.time(), "the laptop was stolen")
    return Revoke(sign_document(signer or key, REVOCATION, said))


async def test_a_revoked_key_is_taken_off_the_list_and_refused_everywhere(gateway: Gateway, database: Database) -> None:
    calls, audit = Calls(gateway.http), gateway.audit(BOB, "bob", database)
    await calls.call(gateway.address, REVOKE_KEY, revocation(ANN))
    await audit.look()

    with pytest.raises(KeyRevoked, match="the laptop was stolen"):
        await gateway.seen_by(ANN).join(a_join("ann", ANN))
    with pytest.raises(KeyRevoked):
        await gateway.seen_by(ANN).join(a_join("elsewhere", ANN))
    with pytest.raises(NotAMember):
        await gateway.seen_by(BOB).resolve("ann")
    with pytest.raises(KeyRevoked, match="the laptop was stolen"):
        await Peers(database, time.time).meet([("ann", ANN.id)])  # after a restart, too


async def test_only_keys_that_were_listed_are_revoked_so_that_nobody_fills_the_log(gateway: Gateway) -> None:
    with pytest.raises(BadRequest, match="never listed"):
        await Calls(gateway.http).call(gateway.address, REVOKE_KEY, revocation(EVE))

    first = await Calls(gateway.http).call(gateway.address, REVOKE_KEY, revocation(ANN))
    again = await Calls(gateway.http).call(gateway.address, REVOKE_KEY, revocation(ANN))
    assert (again.entry, again.index) == (first.entry, first.index)


async def test_nobody_revokes_the_key_of_another(gateway: Gateway) -> None:
    with pytest.raises(BadSignature):
        await Calls(gateway.http).call(gateway.address, REVOKE_KEY, revocation(ANN, EVE))

    await gateway.seen_by(ANN).join(a_join("ann", ANN))


async def test_a_revocation_that_is_withheld_is_found_out_by_whoever_handed_it_in(
    gateway: Gateway, database: Database
) -> None:
    audit = gateway.audit(BOB, "bob", database)
    await Calls(gateway.http).call(gateway.address, REVOKE_KEY, revocation(ANN))
    await audit.look()
    await gateway.shows(("ann", ANN.id), ("bob", BOB.id), ("new", EVE.id))  # others are to believe ann's key

    with pytest.raises(LogForked):
        await audit.look()
