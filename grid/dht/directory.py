"""The network as a directory: what is told to it is published, what is asked of it is looked up."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from itertools import pairwise

from msgspec.structs import replace

from grid.client.calls import Calls
from grid.crypto import errors
from grid.crypto.identity import Identity, public_from_id
from grid.dht.ids import distance, name_key, peer_key, relay_key, tag_key
from grid.dht.peer import Peer
from grid.dht.records import LIFE, MOST, TAGS, Held
from grid.dht.shelf import fits, wanted
from grid.dht.upkeep import Upkeep
from grid.protocol.documents import read_document, sign_document
from grid.wire.dht import PeerRecord, Want
from grid.wire.directory import (
    NODE_RECORD,
    Found,
    Join,
    Joined,
    Leave,
    Member,
    NodeRecord,
    Renew,
    Renewed,
    Search,
)
from grid.wire.documents import Signed
from grid.wire.message import MSGPACK, encode
from grid.wire.node import DATASET_TAGS
from grid.wire.problems import GridError, NodeIdTaken, NotAMember, Unreachable, UnsignedJoinRefused

log = logging.getLogger(__name__)

PAGE = 500
"""Records of a page."""
AT_ONCE = 16
"""Nodes that are asked themselves, at a time."""
DEADLINE = 3.0
"""Seconds for which such a node is waited for."""


class DhtDirectory:
    """The `Directory` that no gateway keeps.

    A node publishes its record anew with each renewal, under its key, its name and its tags. `membership` is what
    lets it in, where not everybody may; `listens`: whether others can connect to it; `relays`: whether it keeps
    mailboxes for those who cannot be connected to. Names are not unique here: each
    key may go by any name, so whoever is found under a name with others is unverified, and resolved by its key alone.
    """

    def __init__(
        self,
        peer: Peer,
        identity: Identity,
        calls: Calls,
        upkeep: Upkeep,
        *,
        now: Callable[[], float],
        listens: bool = True,
        relays: bool = False,
        membership: Signed | None = None,
    ) -> None:
        self._peer, self._identity, self._calls, self._upkeep = peer, identity, calls, upkeep
        self._now, self._listens, self._relays, self._membership = now, listens, relays, membership
        self._said: NodeRecord | None = None
        self._keys = set[bytes]()
        self._version = 0
        upkeep.grown = self._again

    # --- being listed ---------------------------------------------------------------------------

    async def join(self, join: Join) -> Joined:
        """Be listed: see `Directory.join`. Raises Unreachable if nobody keeps the record."""
        if join.record is None:
            raise UnsignedJoinRefused("a network without a centre lists nobody who signs nothing")
        self._said = read_document(join.record, NodeRecord, NODE_RECORD, now=self._now(), signer=self._identity.id)
        holders = await self._publish(self._said)
        return Joined(f"kept by {holders} peers", "online", LIFE, verified=True)

    async def renew(self, renew: Renew) -> Renewed:
        """Stay listed: see `Directory.renew`."""
        if self._said is None:
            raise NotAMember("this node did not join")
        await self._publish(self._said)
        return Renewed("online", LIFE)

    async def leave(self, leave: Leave) -> None:
        """No longer be listed: see `Directory.leave`."""
        if self._said is None:
            raise NotAMember("this node did not join")
        said, self._said = self._said, None
        await self._peer.announce(self._sign(replace(said, node_address="", tags=())), self._keys)
        await self._upkeep.remember()

    async def _again(self) -> None:
        if self._said is not None:
            await self._publish(self._said)

    async def _publish(self, said: NodeRecord) -> int:
        signed = self._sign(said)
        self._peer.answers.record = signed
        await self._upkeep.connect()
        held = self._peer.network.read(signed, self._now())
        keys = self._peer.network.keys(held.said, signed.signer)
        dropped, self._keys = self._keys - keys, keys
        holders = await self._peer.announce(signed, keys)
        await self._peer.announce(signed, dropped)  # whoever has an older record there lets go of it
        if not holders and len(self._peer.table):
            raise Unreachable("no peer of the network keeps the record of this node")
        return holders

    def _sign(self, said: NodeRecord) -> Signed:
        now = self._now()
        self._version = max(self._version + 1, int(now * 1000))
        full = PeerRecord(
            node_id=said.node_id,
            node_address=said.node_address,
            version=self._version,
            expires=now + LIFE,
            tags=said.tags[:TAGS],
            models=said.models,
            public_key=self._identity.id,
            network=self._peer.network.name,
            listens=self._listens,
            membership=self._membership,
            relays=self._relays,
        )
        while len(encode(full, MSGPACK)) > MOST and (full.tags or full.models):
            full = replace(full, tags=full.tags[:-1]) if full.tags else replace(full, models=())
        if len(full.tags) < len(said.tags):
            log.warning("%d of %d tags do not fit into the record", len(said.tags) - len(full.tags), len(said.tags))
        return sign_document(self._identity, NODE_RECORD, full)

    # --- finding --------------------------------------------------------------------------------

    async def search(self, search: Search) -> Found:
        """Which nodes have data with these tags, all that there are."""
        await self._upkeep.connect()
        tags = tuple(dict.fromkeys(search.query))
        found = await (self._any(tags) if search.match == "any" else self._all(tags))
        silent: tuple[str, ...] = ()
        if search.live:
            found, silent = await self._those_that_say_so(found, search)
        named = sorted((held.said for held in found.values()), key=lambda said: said.node_id)
        twice = {one.node_id for one, two in pairwise(named) if one.node_id == two.node_id}
        return Found(tuple((said.node_id, said.node_address) for said in named), tuple(sorted(twice)), silent)

    async def resolve(self, node_id: str) -> Member:
        """One member, by its name, or by its public key.

        Raises:
            NodeIdTaken: several keys go by this name: ask for the one that is meant.
            NotAMember.
        """
        await self._upkeep.connect()
        network = self._peer.network
        found = await self._collect(name_key(node_id, network.name, network.secret), Want(limit=PAGE))
        named = [held for held in found.values() if held.said.node_id == node_id]
        if not named and (key := _key_in(node_id)):
            named = [*(await self._collect(key, Want(limit=PAGE))).values()]
        if not named:
            raise NotAMember(f"no peer of the network knows {node_id}")
        if len(named) > 1:
            keys = ", ".join(sorted(held.signed.signer for held in named))
            raise NodeIdTaken(f"{node_id} is the name of several keys, ask for one of them: {keys}")
        return _member(named[0])

    async def knows(self, name: str) -> bool:
        """Whether a node of the network goes by this name."""
        await self._upkeep.connect()
        network = self._peer.network
        found = await self._peer.collect(name_key(name, network.name, network.secret), Want(limit=1))
        own = self._said is not None and self._said.node_id == name
        return own or any(held.said.node_id == name for held in found.records.values())

    async def relays(self) -> tuple[str, ...]:
        """Where mailboxes are kept for those who have no port, in an order of this peer's own."""
        await self._upkeep.connect()
        network, place = self._peer.network, peer_key(self._identity.public)
        found = await self._peer.collect(relay_key(network.name, network.secret), Want())
        some = [held for held in found.records.values() if held.said.listens and held.id != place]
        return tuple(held.said.node_address for held in sorted(some, key=lambda held: distance(held.id, place)))

    async def address_of(self, public: bytes) -> str | None:
        """Where the peer with this key answers, as it says itself; None if nobody knows it."""
        try:
            await self._upkeep.connect()
            held = (await self._peer.collect(peer_key(public), Want(limit=1))).records
        except GridError:
            return None
        return next((each.said.node_address for each in held.values() if each.id == peer_key(public)), None)

    async def witness(self, node: str, peer: bytes) -> int:
        """See `Directory.witness`: there is no log here, and no need to believe anybody. Compares nothing."""
        return 0

    async def _all(self, tags: tuple[str, ...]) -> dict[bytes, Held]:
        """Those with all tags: the rarest tag is fetched, once it is known which that is."""
        if not tags:
            return {}
        keys = [self._key(tag) for tag in tags]
        if len(keys) > 1:
            counts = await asyncio.gather(*(self._peer.collect(key, Want(limit=1)) for key in keys))
            kept = {key: count.kept for key, count in zip(keys, counts, strict=True)}
            if not all(kept.values()):
                return {}
            keys.sort(key=kept.__getitem__)
        return await self._collect(keys[0], Want(all=tags, limit=PAGE))

    async def _any(self, tags: tuple[str, ...]) -> dict[bytes, Held]:
        found = await asyncio.gather(*(self._collect(self._key(tag), Want(any=tags, limit=PAGE)) for tag in tags))
        newest = dict[bytes, Held]()
        for held in (held for one in found for held in one.values()):
            if held.id not in newest or newest[held.id].said.version < held.said.version:
                newest[held.id] = held
        return {owner: held for owner, held in newest.items() if wanted(held, Want(any=tags))}

    async def _collect(self, key: bytes, want: Want) -> dict[bytes, Held]:
        first = await self._peer.collect(key, want)
        return await self._peer.rest(key, want, first) if first.more else first.records

    async def _those_that_say_so(
        self, found: dict[bytes, Held], search: Search
    ) -> tuple[dict[bytes, Held], tuple[str, ...]]:
        """Those that have the tags at this moment, and those that did not answer."""
        slots = asyncio.Semaphore(AT_ONCE)
        want = Want(any=search.query) if search.match == "any" else Want(all=search.query)

        async def ask(held: Held) -> bool | None:
            async with slots:
                try:
                    peer = public_from_id(held.signed.signer)
                    async with asyncio.timeout(DEADLINE):  # by letter, too
                        tags = await self._calls.call(held.said.node_address, DATASET_TAGS, peer=peer)
                except (GridError, TimeoutError):
                    return None
            return fits(tags, want)

        said = dict(zip(found, await asyncio.gather(*map(ask, found.values())), strict=True))
        silent = tuple(sorted(found[owner].said.node_id for owner, has in said.items() if has is None))
        return {owner: found[owner] for owner, has in said.items() if has}, silent

    def _key(self, tag: str) -> bytes:
        return tag_key(tag, self._peer.network.name, self._peer.network.secret)


def _key_in(word: str) -> bytes | None:
    """Where the peer is whose public key this word is, if it is one."""
    try:
        return peer_key(public_from_id(word))
    except errors.Malformed:
        return None


def _member(held: Held) -> Member:
    said = held.said
    return Member(
        node_id=said.node_id,
        node_address=said.node_address,
        state="online",
        verified=True,
        lease_ends=said.expires,
        tags=said.tags,
        record=held.signed,
    )
