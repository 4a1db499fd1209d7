"""The transparency log: every key that is listed under a name, and every revocation, in one tree that only grows.

Members follow it (`node.audit`), and whoever asks for a member gets the proof that the log has it under that key.
So a gateway that puts a key of its own in a member's place has to write it down where the member looks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from grid.crypto.identity import Identity
from grid.crypto.merkle import Tree, leaf_hash
from grid.protocol.documents import sign_document
from grid.protocol.transparency import read_entry, read_revocation, read_rotation
from grid.store.schema import Transaction
from grid.wire.documents import Signed
from grid.wire.log import TREE_HEAD, Entries, LogEntry, Logged, Proof, Rotate, Sizes, Span, TreeHead
from grid.wire.message import MSGPACK, encode
from grid.wire.problems import BadRequest, KeyRevoked

MOST_ROTATIONS = 64
"""Steps that are told of how a key came into the place of another."""


Beside = Callable[[Transaction], None]
"""What is written in the same transaction as entries are."""


class LogStore(Protocol):
    """Where the log survives a restart. What a call was given is durable when it returns."""

    async def load(self) -> list[bytes]:
        """All entries, in their order."""

    async def append(self, first: int, entries: Sequence[bytes], beside: Beside | None = None) -> None:
        """Add entries from position `first` on, and what is written beside them: all of it or nothing."""

    async def read(self, after: int, limit: int) -> list[bytes]:
        """Entries from a position on."""


class Log:
    """The log of the gateway with this identity. In memory: the tree, and the newest entry of each name and key."""

    def __init__(self, store: LogStore, identity: Identity, now: Callable[[], float]) -> None:
        self._store, self._identity, self._now = store, identity, now
        self._tree = Tree()
        self._names: dict[str, tuple[int, bytes, str]] = {}  # its newest entry: where, the bytes, the key
        self._revoked: dict[str, tuple[int, bytes, str]] = {}  # the same by key, with the reason
        self._keys: set[str] = set()  # all that were ever listed
        self._came: dict[str, Rotate] = {}  # by the new key
        self._lock = asyncio.Lock()
        self._writing: set[asyncio.Task[None]] = set()
        self._head: Signed | None = None

    async def load(self) -> None:
        """Take up the log where it was."""
        for entry in await self._store.load():
            self._take(read_entry(entry), entry)

    async def listed(self, node_id: str, public_key: str) -> None:
        """A name was given to a key: that is in the log when this returns."""
        if not self.has(node_id, public_key):
            await self._append(lambda: self._unlisted(((node_id, public_key),)))

    async def list_all(self, given: Iterable[tuple[str, str]], beside: Beside) -> None:
        """Names were given to keys: that is in the log when this returns, together with what is written beside it.

        It must not be cancelled.
        """
        names = tuple(dict.fromkeys(given))
        await self._write(lambda: self._unlisted(names), beside)

    def has(self, node_id: str, public_key: str) -> bool:
        """Whether the newest entry of a name has this key."""
        known = self._names.get(node_id)
        return known is not None and known[2] == public_key

    async def revoke(self, revocation: Signed) -> Logged:
        """A key is revoked at its own word, for good; a second time changes nothing.

        Raises:
            BadRequest, BadSignature: the key did not say so, or was never listed here.
        """
        said = read_revocation(revocation)
        if said.public_key not in self._keys:  # or strangers could fill the log with keys that they make up
            raise BadRequest(f"{said.public_key} was never listed here")
        entry = LogEntry("revocation", said.public_key, self._now(), proof=revocation)
        await self._append(lambda: [] if said.public_key in self._revoked else [entry])
        index, found, _ = self._revoked[said.public_key]
        return self._proved(index, found)

    async def rotate(self, rotate: Rotate) -> Logged:
        """A key gives its place to another, at the word of both; a second time changes nothing.

        Raises:
            BadRequest, BadSignature: they did not both say so, or the old key was never listed here.
            KeyRevoked: one of them was revoked, or gave its place to a third.
        """
        said = read_rotation(rotate)
        if said.old_key not in self._keys:
            raise BadRequest(f"{said.old_key} was never listed here")
        self.refuse_revoked(said.new_key)
        entry = LogEntry("rotation", said.old_key, self._now(), proof=rotate.by_old, consent=rotate.by_new)

        def missing() -> list[LogEntry]:
            if self.succeeds(said.new_key, said.old_key):
                return []
            self.refuse_revoked(said.old_key)
            return [entry]

        await self._append(missing)
        index, found, _ = self._revoked[said.old_key]
        return self._proved(index, found)

    def succeeds(self, new_key: str, old_key: str) -> bool:
        """Whether a key came into the place of another, perhaps by way of others."""
        return any(read_rotation(step).old_key == old_key for step in self.rotations(new_key))

    def rotations(self, public_key: str) -> tuple[Rotate, ...]:
        """How a key came into the place of earlier ones, the last step first."""
        steps: list[Rotate] = []
        while (step := self._came.get(public_key)) and len(steps) < MOST_ROTATIONS:
            steps.append(step)
            public_key = read_rotation(step).old_key
        return tuple(steps)

    def refuse_revoked(self, public_key: str) -> None:
        """Raises KeyRevoked if it was."""
        if public_key in self._revoked:
            raise KeyRevoked(f"{public_key} was revoked: {self._revoked[public_key][2] or 'no reason given'}")

    # --- what is told of it ---------------------------------------------------------------------

    def head(self) -> Signed:
        """The whole log, signed."""
        if self._head is None:
            head = TreeHead(len(self._tree), self._tree.root(), self._now())
            self._head = sign_document(self._identity, TREE_HEAD, head)
        return self._head

    async def entries(self, span: Span) -> Entries:
        """Entries as they were added."""
        return Entries(tuple(await self._store.read(span.after, span.limit)))

    def consistency(self, sizes: Sizes) -> Proof:
        """Proof that the log of one size begins that of another. Raises BadRequest."""
        try:
            return Proof(self._tree.consistency(sizes.first, sizes.size))
        except ValueError as error:
            raise BadRequest(str(error)) from None

    def logged(self, node_id: str) -> Logged | None:
        """The newest entry of a name, with its proof."""
        known = self._names.get(node_id)
        return self._proved(known[0], known[1]) if known else None

    # --- inside ---------------------------------------------------------------------------------

    def _proved(self, index: int, entry: bytes) -> Logged:
        return Logged(entry, index, self._tree.inclusion(index, len(self._tree)), self.head())

    def _unlisted(self, given: Iterable[tuple[str, str]]) -> list[LogEntry]:
        return [LogEntry("member", key, self._now(), name) for name, key in given if not self.has(name, key)]

    async def _append(self, missing: Callable[[], list[LogEntry]]) -> None:
        """Add what is missing when its turn comes; a caller who hangs up meanwhile changes nothing of that."""
        writing = asyncio.create_task(self._write(missing))
        self._writing.add(writing)
        writing.add_done_callback(self._writing.discard)
        await asyncio.shield(writing)

    async def _write(self, missing: Callable[[], list[LogEntry]], beside: Beside | None = None) -> None:
        async with self._lock:
            said = missing()
            entries = [encode(one, MSGPACK) for one in said]
            if entries or beside:
                await self._store.append(len(self._tree), entries, beside)
            for one, entry in zip(said, entries, strict=True):
                self._take(one, entry)

    def _take(self, said: LogEntry, entry: bytes) -> None:
        index = len(self._tree)
        self._tree.append(leaf_hash(entry))
        self._head = None
        if said.kind == "member":
            self._names[said.node_id] = index, entry, said.public_key
            self._keys.add(said.public_key)
        elif said.kind == "rotation" and said.proof is not None and said.consent is not None:
            rotate = Rotate(said.proof, said.consent)
            new_key = read_rotation(rotate).new_key
            self._revoked.setdefault(said.public_key, (index, entry, f"it was replaced by {new_key}"))
            self._came.setdefault(new_key, rotate)
            self._keys.add(new_key)
        elif said.proof is not None:
            self._revoked[said.public_key] = index, entry, read_revocation(said.proof).reason
