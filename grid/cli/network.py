"""A peer of a network without a centre, put together from its parts: for a node, or for a program that only asks."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from grid.client.calls import Calls
from grid.client.egress import Egress
from grid.crypto.identity import Identity
from grid.dht.app import HttpTransport
from grid.dht.directory import DhtDirectory
from grid.dht.peer import Peer
from grid.dht.records import Network
from grid.dht.upkeep import PeerCache, Upkeep
from grid.protocol.documents import sign_document
from grid.wire.dht import MEMBERSHIP, Membership
from grid.wire.documents import Signed
from grid.wire.message import Decoder


class Belonging(NamedTuple):
    """Which network, and what lets one into it: keys of issuers whose members alone may take part, what one of them
    signed for this key, and the secret that tags are keyed with."""

    network: str = ""
    issuers: tuple[str, ...] = ()
    membership: Path | None = None
    secret: Path | None = None

    def rules(self) -> Network:
        """What its peers agree on. Raises OSError for a secret that cannot be read."""
        secret = self.secret.read_bytes().strip() if self.secret else b""
        return Network(self.network, secret, frozenset(self.issuers) or None)

    def proof(self) -> Signed | None:
        """What lets this key in. Raises BadRequest, OSError."""
        return None if self.membership is None else load_membership(self.membership)


class Place(NamedTuple):
    """A place in a network: the peer, what keeps it there, and the directory that the network is."""

    peer: Peer
    upkeep: Upkeep
    directory: DhtDirectory


def place(
    identity: Identity,
    calls: Calls,
    egress: Egress,
    bootstrap: Sequence[str],
    *,
    belonging: Belonging = Belonging(),  # noqa: B008 - it never changes
    cache: PeerCache | None = None,
    listens: bool = True,
    relays: bool = False,
) -> Place:
    """A place in the network that the peers at `bootstrap` are part of. Nobody is called yet."""
    peer = Peer(identity, belonging.rules(), HttpTransport(calls), now=time.time, allowed=egress.check)
    upkeep = Upkeep(peer, bootstrap, cache)
    proof = belonging.proof()
    directory = DhtDirectory(
        peer, identity, calls, upkeep, now=time.time, listens=listens, relays=relays, membership=proof
    )
    return Place(peer, upkeep, directory)


def searching(
    identity: Identity, calls: Calls, egress: Egress, bootstrap: Sequence[str], network: str = ""
) -> DhtDirectory:
    """The network as somebody sees it who only asks: no record, no port, in nobody's table."""
    return place(identity, calls, egress, bootstrap, belonging=Belonging(network)).directory


def invite(issuer: Identity, member: str, network: str, group: str, expires: float) -> Signed:
    """An issuer's word that a key may take part in a network, as one of a group, until it expires (UTC seconds)."""
    return sign_document(issuer, MEMBERSHIP, Membership(member, network, group, expires))


def load_membership(path: Path) -> Signed:
    """What `invite` made, from its file. Raises BadRequest, OSError."""
    signed = Decoder(Signed)(path.read_bytes())
    assert isinstance(signed, Signed)
    return signed
