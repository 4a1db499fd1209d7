"""What a node said of itself when it joined, and how much of it was proved."""

from __future__ import annotations

from math import inf

import msgspec
from msgspec import Struct

from grid.protocol.documents import read_document
from grid.wire.directory import NODE_RECORD, Join, NodeRecord
from grid.wire.documents import Signed
from grid.wire.problems import BadRequest, BadSignature, StaleRecord

AHEAD = 600.0
"""Seconds that a record's version may lie in the future: a node whose clock leapt would else lock itself out."""


class Claim(Struct, frozen=True, gc=False):  # there are thousands, and none is part of a circle
    """One node's word on itself. `record` is None where it proved nothing (the RFC's two fields).

    `version` is in milliseconds, `expires` in UTC seconds. `prekey` is passed on as it came: whoever
    seals to it checks its signature.
    """

    node_id: str
    node_address: str
    record: Signed | None = None
    prekey: bytes | None = None
    version: int = 0
    expires: float = inf
    tags: tuple[str, ...] = ()
    models: tuple[str, ...] = ()

    @property
    def signer(self) -> str | None:
        """The public key that answers for this, if any."""
        return self.record.signer if self.record else None


def read_claim(join: Join, now: float) -> Claim:
    """What a join says, its signature checked.

    Raises:
        BadSignature: the record is not signed by the key it names.
        Replayed: the record's time is over.
        BadRequest: the record speaks of another node or address than the join.
        StaleRecord: its version lies in the future.
    """
    if join.record is None:
        return Claim(join.node_id, join.node_address)
    said = read_document(join.record, NodeRecord, NODE_RECORD, now=now)
    if (said.node_id, said.node_address) != (join.node_id, join.node_address):
        raise BadRequest("the signed record speaks of another node id or address than the join")
    if said.public_key not in {None, join.record.signer}:
        raise BadSignature("the record names another key than the one that signed it")
    if said.version > (now + AHEAD) * 1000:
        raise StaleRecord("the record's version lies in the future: check the clock of the node")
    return _signed_claim(join.record, join.prekey, said)


def recall_claim(node_id: str, address: str, record: Signed | None, prekey: bytes | None) -> Claim:
    """The claim of a member that was listed before: its record was verified when it joined."""
    if record is None:
        return Claim(node_id, address)
    return _signed_claim(record, prekey, msgspec.msgpack.decode(record.payload, type=NodeRecord))


def _signed_claim(record: Signed, prekey: bytes | None, said: NodeRecord) -> Claim:
    return Claim(
        said.node_id,
        said.node_address,
        record,
        prekey,
        said.version,
        said.expires,
        tuple(dict.fromkeys(said.tags)),
        tuple(dict.fromkeys(said.models)),
    )
