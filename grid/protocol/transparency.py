"""What a member checks of a gateway's log: that it only grows, and that its own name is under its own key."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
from msgspec import Struct

from grid.crypto import errors
from grid.crypto.merkle import Frontier, check_consistency, check_inclusion, leaf_hash
from grid.protocol.documents import read_document
from grid.protocol.pins import spelled
from grid.wire.documents import Signed
from grid.wire.log import (
    REVOCATION,
    ROTATION,
    TREE_HEAD,
    LogEntry,
    Logged,
    Revocation,
    Rotate,
    Rotation,
    TreeHead,
)
from grid.wire.problems import BadRequest, BadSignature, GridError, KeyForeign, LogForked


class Followed(Struct, frozen=True):
    """A log as far as it was followed: the key that signs its heads, its size and peaks, and the newest head."""

    gateway_key: str
    size: int = 0
    peaks: tuple[bytes, ...] = ()
    head: Signed | None = None


def read_head(head: Signed, gateway: str, gateway_key: str) -> TreeHead:
    """A head of the log of the gateway at `gateway`. Raises LogForked if it is not under the gateway's key."""
    try:
        return read_document(head, TreeHead, TREE_HEAD, signer=gateway_key)
    except GridError as error:
        raise LogForked(f"the head of the log of {gateway} is not signed by {spelled(gateway_key)}: {error}") from None


def longer(head: Signed, than: Signed | None) -> Signed:
    """Of two heads of a gateway's log the longer one; of two gateways' the first. Raises BadSignature, BadRequest."""
    if than is None or than.signer != head.signer:
        return head
    sizes = [read_document(each, TreeHead, TREE_HEAD).size for each in (head, than)]
    return head if sizes[0] > sizes[1] else than


def read_entry(entry: bytes) -> LogEntry:
    """An entry. Raises BadRequest."""
    try:
        return msgspec.msgpack.decode(entry, type=LogEntry)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise BadRequest(f"not an entry of a log: {error}") from None


def follow(known: Followed, head: Signed, entries: Iterable[bytes], gateway: str) -> Followed:
    """The log after those `entries`, if they lead from what is known to `head`.

    Raises:
        LogForked: they do not: what was there has been altered or taken out, or somebody else is shown another log.
    """
    said = read_head(head, gateway, known.gateway_key)
    after = Frontier(known.size, known.peaks).after(entries)
    if said.size < known.size:
        raise LogForked(f"the log of {gateway} had {known.size} entries and now has {said.size}")
    if (after.size, after.root()) != (said.size, said.root):
        went = f"the {said.size} entries of the log of {gateway} do not go on from the {known.size} seen before"
        raise LogForked(f"{went}: its history was rewritten, or others are shown another log")
    return Followed(known.gateway_key, after.size, after.peaks, head)


def no_foreign_key(entries: Sequence[LogEntry], node_id: str, public_key: str, gateway: str) -> None:
    """The name `node_id` is under its own key alone. Raises KeyForeign."""
    for entry in entries:
        if entry.kind == "member" and entry.node_id == node_id and entry.public_key != public_key:
            listed = f"{gateway} has listed {node_id} under the key {spelled(entry.public_key)}"
            raise KeyForeign(f"{listed}, and its key is {spelled(public_key)}")


def read_rotation(rotate: Rotate) -> Rotation:
    """A rotation at the word of both keys. Raises BadRequest, BadSignature."""
    said = read_document(rotate.by_old, Rotation, ROTATION)
    if rotate.by_new.payload != rotate.by_old.payload or said.old_key == said.new_key:
        raise BadSignature("the two keys did not sign the same rotation")
    read_document(rotate.by_old, Rotation, ROTATION, signer=said.old_key)
    read_document(rotate.by_new, Rotation, ROTATION, signer=said.new_key)
    return said


def moved(rotations: Iterable[Rotate]) -> dict[str, str]:
    """From old keys to new ones, as both said; what proves nothing is passed over."""
    found: dict[str, str] = {}
    for rotate in rotations:
        try:
            said = read_rotation(rotate)
        except (BadRequest, BadSignature):
            continue
        found.setdefault(said.old_key, said.new_key)
    return found


def rotations_in(entries: Iterable[LogEntry]) -> list[Rotate]:
    """The rotations among entries."""
    return [Rotate(e.proof, e.consent) for e in entries if e.kind == "rotation" and e.proof and e.consent]


def revoked(entries: Sequence[LogEntry]) -> dict[str, str]:
    """The keys that are believed no more, revoked or replaced at their own word, and why.

    What proves nothing is passed over.
    """
    replaced = moved(rotations_in(entries))
    found = {old: f"it was replaced by {spelled(new)}" for old, new in replaced.items()}
    for entry in entries:
        if entry.kind == "revocation" and entry.proof is not None:
            try:
                said = read_revocation(entry.proof)
            except (BadRequest, BadSignature):
                continue
            found[said.public_key] = said.reason
    return found


def read_revocation(signed: Signed) -> Revocation:
    """A revocation at the word of the key itself. Raises BadRequest, BadSignature."""
    said = read_document(signed, Revocation, REVOCATION)
    if said.public_key != signed.signer:
        raise BadSignature("a key is revoked at its own word alone")
    return said


def check_logged(logged: Logged | None, node_id: str, public_key: str, gateway: str, gateway_key: str) -> TreeHead:
    """The log says that `node_id` is under `public_key`; the head that it was proved for.

    Raises:
        KeyForeign: the log has it under another key, or not at all.
        LogForked: the proof does not hold.
    """
    if logged is None:
        raise KeyForeign(f"{gateway} gives {node_id} the key {spelled(public_key)}, and does not show that in its log")
    head, entry = read_head(logged.head, gateway, gateway_key), read_entry(logged.entry)
    if (entry.kind, entry.node_id, entry.public_key) != ("member", node_id, public_key):
        raise KeyForeign(
            f"{gateway} gives {node_id} the key {spelled(public_key)}, and its log has {spelled(entry.public_key)}"
        )
    try:
        check_inclusion(leaf_hash(logged.entry), logged.index, head.size, logged.path, head.root)
    except errors.BadSignature as error:
        raise LogForked(f"{gateway} does not prove that {node_id} is in its log: {error}") from None
    return head


def check_grown(old: TreeHead, new: TreeHead, path: Sequence[bytes], gateway: str) -> None:
    """The log of one head went on to that of the other. Raises LogForked."""
    try:
        check_consistency(old.size, old.root, new.size, new.root, path)
    except errors.BadSignature as error:
        raise LogForked(f"{gateway} signed two logs, of {old.size} and {new.size} entries: {error}") from None
