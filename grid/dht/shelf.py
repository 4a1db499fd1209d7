"""What a peer keeps for others: of each owner the newest record, under the keys that lead to it, until it ends."""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections.abc import Iterable
from hashlib import sha256

from grid.dht.ids import BYTES, distance
from grid.dht.records import Held, Network
from grid.wire.dht import Want
from grid.wire.documents import Signed
from grid.wire.problems import BadRequest, Full

UNDER_ONE = 10_000
"""Records under one key."""
ROOM = 64 * 1024 * 1024
"""Bytes of records."""
PAGE = 512 * 1024
"""Bytes of records in one page; one record more may be begun."""
DAY = 86_400.0


class Shelf:
    """Records by key and by owner. `place` is the key of the peer that keeps them: what is far from it goes first.

    Only the owner replaces a record, for nobody else can sign a newer one, and nothing extends it. A good-bye is kept
    until it ends, so that an older record that comes late does not bring its owner back.
    """

    def __init__(self, network: Network, place: bytes, *, room: int = ROOM, under_one: int = UNDER_ONE) -> None:
        self._network, self._place, self._room, self._under_one = network, place, room, under_one
        self._newest: dict[bytes, Held] = {}
        self._under: dict[bytes, dict[bytes, Held]] = {}
        self._keys: dict[bytes, set[bytes]] = {}  # of each owner
        self._far: list[tuple[int, bytes]] = []  # all keys, by distance
        self._ends: list[tuple[float, int, bytes]] = []
        self.size = 0
        self.doubled = 0
        """Versions that somebody signed twice, with different words: the first is kept."""

    def put(self, key: bytes, signed: Signed, now: float) -> Signed | None:
        """Keep a record under a key; or give the newer one that is here already.

        Raises:
            BadRequest, BadSignature, Replayed, NotAllowed: it does not count, or has no business under this key.
            Full.
        """
        self.sweep(now)
        held = self._network.read(signed, now)
        here = self._newest.get(held.id)
        leads = key in self._network.keys(held.said, signed.signer)
        if not leads and key not in self._keys.get(held.id, ()):  # where an older one is, a newer one may follow it
            raise BadRequest("nothing in this record leads to this key")
        if here is not None and here.signed != signed and here.said.version >= held.said.version:
            self.doubled += here.said.version == held.said.version
            return here.signed
        self._make_room(key, held)
        self._renew(here, held)
        if leads or held.gone:
            self._place_under(key, held)
        elif not self._keys[held.id]:
            self._drop(held.id)
        return None

    def page(self, key: bytes, want: Want, asker: bytes, now: float) -> tuple[list[Signed], bytes | None]:
        """Records under a key that are wanted, in the asker's order of the day, and where the page ends."""
        self.sweep(now)
        mask = int.from_bytes(sha256(asker + int(now // DAY).to_bytes(8, "big")).digest()[:BYTES], "big")
        after = -1 if want.after is None else int.from_bytes(want.after, "big")
        some = (
            (order, held)
            for held in self._under.get(key, {}).values()
            if (order := int.from_bytes(held.id, "big") ^ mask) > after and not held.gone and wanted(held, want)
        )
        found = heapq.nsmallest(want.limit + 1, some, key=lambda each: each[0])
        page, size = list[Signed](), 0
        for order, held in found[: want.limit]:
            page.append(held.signed)
            size += len(held.signed.payload)
            if size > PAGE or len(page) == want.limit < len(found):
                return page, order.to_bytes(BYTES, "big")
        return page, None

    def kept(self, key: bytes) -> int:
        """How many records are under a key."""
        return len(self._under.get(key, ()))

    def records(self) -> list[Held]:
        """The newest record of each node that is kept here, and did not say good-bye."""
        return [held for held in self._newest.values() if not held.gone]

    def sweep(self, now: float) -> None:
        """Forget what has ended."""
        while self._ends and self._ends[0][0] <= now:
            _, version, owner = heapq.heappop(self._ends)
            held = self._newest.get(owner)
            if held is not None and held.said.version == version:
                self._forget(owner)

    def __len__(self) -> int:
        return len(self._newest)

    def __contains__(self, owner: bytes) -> bool:
        return owner in self._newest

    def _make_room(self, key: bytes, held: Held) -> None:
        if len(self._under.get(key, ())) >= self._under_one and held.id not in self._under[key]:
            raise Full("there are as many records under this key as one peer keeps")
        while self.size + _size(held) > self._room:
            far = self._far[-1] if self._far else None
            if far is None or far[0] <= distance(key, self._place):
                raise Full("this peer keeps as many records as it has room for, all of them nearer to it")
            for owner in list(self._under[far[1]]):
                self._take_from(far[1], owner)

    def _renew(self, here: Held | None, held: Held) -> None:
        """A newer record stands for its owner under every key that it leads to, and under no other."""
        if here is held or (here is not None and here.signed == held.signed):
            return
        if here is not None:
            self.size -= _size(here)
        self._newest[held.id] = held
        self.size += _size(held)
        heapq.heappush(self._ends, (held.said.expires, held.said.version, held.id))
        keys = self._keys.setdefault(held.id, set())
        leads = keys if held.gone else self._network.keys(held.said, held.signed.signer)
        for key in keys & leads:
            self._under[key][held.id] = held
        for key in keys - leads:
            self._take_from(key, held.id, last=False)

    def _place_under(self, key: bytes, held: Held) -> None:
        if key not in self._under:
            self._under[key] = {}
            insort(self._far, (distance(key, self._place), key))
        self._under[key][held.id] = held
        self._keys[held.id].add(key)

    def _take_from(self, key: bytes, owner: bytes, *, last: bool = True) -> None:
        del self._under[key][owner]
        if not self._under[key]:
            del self._under[key]
            del self._far[bisect_left(self._far, (distance(key, self._place), key))]
        self._keys[owner].discard(key)
        if last and not self._keys[owner]:
            self._drop(owner)

    def _forget(self, owner: bytes) -> None:
        for key in list(self._keys[owner]):
            self._take_from(key, owner, last=False)
        self._drop(owner)

    def _drop(self, owner: bytes) -> None:
        self.size -= _size(self._newest.pop(owner))
        del self._keys[owner]


def wanted(held: Held, want: Want) -> bool:
    """Whether a record has all, any and none of the tags."""
    return fits(held.said.tags, want)


def fits(words: Iterable[str], want: Want) -> bool:
    """Whether all, any and none of the tags are among these."""
    tags = set(words)
    return tags.issuperset(want.all) and not tags.intersection(want.none) and (not want.any or bool(tags & {*want.any}))


def _size(held: Held) -> int:
    return len(held.signed.payload) + 256
