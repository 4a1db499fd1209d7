"""Which records count: signed by their owner, of this network, in time, and of somebody who may take part."""

from __future__ import annotations

import re
from collections import OrderedDict
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit

from grid.crypto import errors
from grid.crypto.identity import public_from_id
from grid.dht.ids import name_key, peer_key, relay_key, tag_key
from grid.protocol.documents import read_document
from grid.wire.dht import MEMBERSHIP, Membership, PeerRecord
from grid.wire.directory import NODE_RECORD
from grid.wire.documents import Signed
from grid.wire.problems import BadRequest, BadSignature, NotAllowed, Replayed

LIFE = 1800.0
"""Seconds that a record is valid for; its owner signs it anew long before."""
LONGEST = 2 * 3600.0
"""Seconds from now within which a record must end: nobody is told of a node for years after it went."""
AHEAD = 300.0
"""Seconds by which clocks may disagree."""
MOST = 4096
"""Bytes of a record at most."""
TAGS = 64
REMEMBERED = 4096
"""Records whose signature was found good, and is not checked again."""

_ADDRESS = re.compile(r"https?://[^\s/?#@\\]+(/[^\s?#@\\]*)?")


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """A record that counts: what was signed, what it says, and where its owner is. `group`: see `Network.group`."""

    signed: Signed
    said: PeerRecord
    id: bytes
    group: str | None

    @property
    def gone(self) -> bool:
        """Whether it says good-bye."""
        return not self.said.node_address


@dataclass(frozen=True)
class Network:
    """What all peers of a network agree on.

    Without `issuers` everybody may take part; else those whose membership one of these keys signed. `secret`: what
    the tags are keyed with, empty where outsiders may know them.
    """

    name: str = ""
    secret: bytes = field(default=b"", repr=False)
    issuers: frozenset[str] | None = None
    _known: OrderedDict[bytes, Held] = field(default_factory=OrderedDict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if "\0" in self.name or len(self.name) > 64:
            raise ValueError("the name of a network has at most 64 characters, and no NUL among them")

    def read(self, signed: Signed, now: float) -> Held:
        """The record in `signed`, if it counts at `now` (UTC seconds).

        Raises:
            BadRequest: too large, misshapen, or of another network.
            BadSignature: not signed by the key it names.
            Replayed: its time is over, or ends too far away.
            NotAllowed: of somebody who may not take part.
        """
        held = self._known.get(signed.signature)
        if held is None or held.signed != signed:
            held = self._proved(signed, now)
            self._known[signed.signature] = held
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        self._in_time(held.said, now)
        return held

    def keys(self, said: PeerRecord, signer: str) -> set[bytes]:
        """Every key under which a record may be kept: its owner's, its name's, its tags', and that of relays."""
        keys = {tag_key(tag, self.name, self.secret) for tag in said.tags}
        if said.relays:
            keys.add(relay_key(self.name, self.secret))
        return {peer_key(public_from_id(signer)), name_key(said.node_id, self.name, self.secret), *keys}

    def _proved(self, signed: Signed, now: float) -> Held:
        if len(signed.payload) > MOST:
            raise BadRequest(f"a record has at most {MOST} bytes")
        said = read_document(signed, PeerRecord, NODE_RECORD)
        if said.network != self.name:
            raise BadRequest("this record is of another network")
        if said.public_key not in {None, signed.signer}:
            raise BadSignature("the record names another key than the one that signed it")
        if len(said.tags) > TAGS:
            raise BadRequest(f"a record has at most {TAGS} tags")
        if not (_ADDRESS.fullmatch(said.node_address) or not (said.node_address or said.tags)):
            raise BadRequest("a record has an address, or neither address nor tags")
        try:
            place = peer_key(public_from_id(signed.signer))
        except errors.Malformed as error:
            raise BadSignature(str(error)) from None
        return Held(signed, said, place, self._group(said, signed.signer, now))

    def _in_time(self, said: PeerRecord, now: float) -> None:
        if not now - AHEAD < said.expires <= now + LONGEST + AHEAD:
            raise Replayed("the record's time is over, or ends too far away")
        if said.version > (now + AHEAD) * 1000:
            raise Replayed("the record's version lies in the future")

    def _group(self, said: PeerRecord, signer: str, now: float) -> str | None:
        """Whose peer it is: of those of one group few are asked, so that many keys of one owner surround nothing."""
        if self.issuers is None:
            return group_of(said.node_address)
        if said.membership is None or said.membership.signer not in self.issuers:
            raise NotAllowed("this network takes members only, and no issuer that it knows vouches for this key")
        proof = read_document(said.membership, Membership, MEMBERSHIP, now=now)
        if (proof.member, proof.network) != (signer, self.name) or proof.expires < said.expires:
            raise NotAllowed("the membership is another key's, of another network, or ends before the record")
        return f"{said.membership.signer}/{proof.group}"


def group_of(address: str) -> str | None:
    """Addresses that one owner can have many of: a /24 of IPv4, a /48 of IPv6, a domain; None for private ones."""
    try:
        host = (urlsplit(address).hostname or "").rstrip(".")
        ip = ip_address(host)
    except ValueError:
        labels = host.rsplit(".", 2)[-2:]
        return None if labels[-1] in {"", "localhost", "local", "internal"} else ".".join(labels)
    if not ip.is_global:
        return None
    return str(ip_network(f"{ip}/{24 if ip.version == 4 else 48}", strict=False))
