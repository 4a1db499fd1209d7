"""Whom a peer knows: buckets of contacts, fine-grained near itself. Only those that proved who they are get in.

Node, bucket and table are those of the `kademlia` package, mended where its own would lose contacts (see
`docs/decisions/0030-dht.md`); nothing of it touches the network.

Source: Maymounkov and Mazières 2002, "Kademlia", section 2.4.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from typing import cast

from kademlia.node import Node
from kademlia.routing import KBucket, RoutingTable

from grid.dht.ids import BITS
from grid.dht.records import Held

K = 20
"""Contacts of a bucket, and peers that keep a record."""
SPARE = 10
"""Contacts that wait for a place in a bucket."""
OF_GROUP = 2
"""Contacts of one group in a bucket."""
FRESH = 900.0
"""Seconds for which a contact that was seen alive is told to others."""


class Contact(Node):
    """A peer and its record."""

    def __init__(self, held: Held) -> None:
        super().__init__(held.id)
        self.held = held

    @property
    def address(self) -> str:
        """Where it answers."""
        return self.held.said.node_address

    @property
    def group(self) -> str | None:
        """Whose it is: see `Held`."""
        return self.held.group


class Bucket(KBucket):
    """The contacts of one range of keys, both bounds included, the one heard of last at the end."""

    def __init__(self, lower: int, upper: int, ksize: int, of_group: int) -> None:
        super().__init__(lower, upper, ksize)
        self._of_group = of_group
        self.max_replacement_nodes = SPARE

    def touch_last_updated(self) -> None:
        """Nothing: the package would read the clock here, and nobody asks."""

    def split(self) -> tuple[KBucket, KBucket]:
        """Two halves, with these contacts."""
        middle = (self.range[0] + self.range[1]) // 2
        one = Bucket(self.range[0], middle, self.ksize, self._of_group)
        two = Bucket(middle + 1, self.range[1], self.ksize, self._of_group)
        for node in (*self.nodes.values(), *self.replacement_nodes.values()):
            (one if node.long_id <= middle else two).add_node(node)
        return one, two

    def crowded(self, contact: Contact) -> bool:
        """Whether as many of its group are here as may be."""
        if contact.group is None:
            return False
        same = [n for n in self.nodes.values() if cast(Contact, n).group == contact.group and n.id != contact.id]
        return len(same) >= self._of_group

    def remove_node(self, node: Node) -> None:
        """Take one out; of those that wait, the one heard of last that may has its place."""
        self.replacement_nodes.pop(node.id, None)
        if self.nodes.pop(node.id, None) is None:
            return
        for spare in reversed(list(self.replacement_nodes.values())):
            if not self.crowded(cast(Contact, spare)):
                self.nodes[spare.id] = self.replacement_nodes.pop(spare.id)
                return


class Table(RoutingTable):
    """The contacts of the peer at `place`. Nothing here calls anybody: who adds a contact has heard from it."""

    def __init__(self, place: bytes, ksize: int = K, *, of_group: int = OF_GROUP) -> None:
        self._of_group = of_group
        self._seen: dict[bytes, float] = {}
        super().__init__(None, ksize, Node(place))

    def flush(self) -> None:
        """Know nobody."""
        self.buckets = [Bucket(0, 2**BITS - 1, self.ksize, self._of_group)]
        self._uppers = [2**BITS - 1]
        self._seen.clear()

    def get_bucket_for(self, node: Node) -> int:
        """The index of the bucket whose range holds the node's key."""
        return bisect_left(self._uppers, node.long_id)

    def split_bucket(self, index: int) -> None:
        """Split one bucket."""
        super().split_bucket(index)
        self._uppers = [bucket.range[1] for bucket in self.buckets]

    def heard(self, contact: Contact, now: float) -> bool:
        """A peer proved that it is there: it is a contact now, or one heard of last; whether it has a place.

        What is known of it is replaced by what its newer record says.
        """
        if contact.id == self.node.id:
            return False
        while True:
            bucket = self._bucket(contact)
            known = cast("Contact | None", bucket.nodes.get(contact.id))
            if known is not None and known.held.said.version > contact.held.said.version:
                contact = known
            if bucket.crowded(contact):
                return False
            if bucket.add_node(contact):
                self._seen[contact.id] = now
                return True
            if not bucket.has_in_range(self.node) or bucket.range[0] == bucket.range[1]:
                return False
            self.split_bucket(self.get_bucket_for(contact))

    def lost(self, contact: Node) -> None:
        """It does not answer."""
        self._bucket(contact).remove_node(contact)
        self._seen.pop(contact.id, None)

    def has_room(self, contact: Contact) -> bool:
        """Whether it would get a place: only then is it worth while to have it prove itself."""
        bucket = self._bucket(contact)
        if contact.id == self.node.id or contact.id in bucket.nodes or bucket.crowded(contact):
            return False
        return len(bucket) < self.ksize or bucket.has_in_range(self.node)

    def get(self, key: bytes) -> Contact | None:
        """The contact at this very key."""
        return cast("Contact | None", self._bucket(Node(key)).nodes.get(key))

    def nearest(self, target: bytes, k: int = K, *, seen_after: float = float("-inf")) -> list[Contact]:
        """The `k` contacts nearest to a key, nearest first; of those heard of after a moment."""
        at = int.from_bytes(target, "big")
        some: Iterable[Contact] = self
        if seen_after > float("-inf"):
            some = (each for each in self if self._seen.get(each.id, float("-inf")) > seen_after)
        return heapq.nsmallest(k, some, key=lambda each: each.long_id ^ at)

    def stalest(self, before: float) -> list[Contact]:
        """One contact of each bucket, that was heard of longest ago, if not since `before`."""
        heads = [cast(Contact, bucket.head()) for bucket in self.buckets if len(bucket)]
        return [head for head in heads if self._seen.get(head.id, float("-inf")) < before]

    def __iter__(self) -> Iterator[Contact]:
        return (cast(Contact, node) for bucket in self.buckets for node in bucket.nodes.values())

    def __len__(self) -> int:
        return sum(map(len, self.buckets))

    def _bucket(self, node: Node) -> Bucket:
        return cast(Bucket, self.buckets[self.get_bucket_for(node)])
