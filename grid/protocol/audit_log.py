"""The log of decisions of a node: each entry is signed and holds the hash of the one before, so none can be changed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

from grid.protocol.documents import read_document
from grid.wire.documents import Signed
from grid.wire.problems import GridError, LogForked
from grid.wire.requests import AUDIT_ENTRY, AuditEntry


def verified(entries: Iterable[Signed], signer: str | None = None) -> Iterator[AuditEntry]:
    """The entries of a whole log, each once it is proved to follow those before it.

    `signer`: the key (id) of the node, that of the first entry if not given.

    Raises:
        LogForked: an entry is missing, changed, out of order, or by another key; the detail says which.
    """
    before, number = "", 0
    for signed in entries:
        number, signer = number + 1, signer or signed.signer
        try:
            entry = read_document(signed, AuditEntry, AUDIT_ENTRY, signer=signer)
        except GridError as error:
            raise LogForked(f"entry {number}: {error.detail}") from None
        if (entry.number, entry.before) != (number, before):
            raise LogForked(f"entry {number} does not follow the one before it")
        before = hashlib.sha256(signed.payload).hexdigest()
        yield entry
