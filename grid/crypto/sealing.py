"""Sealing and opening envelopes (layout: `envelope`), streamed in blocks, at the speed of the cipher.

A payload is encrypted once, whoever it is for: `BodySealer` makes body and signature, its `RoundKey`
wraps the body's key for each recipient when that one asks.

Opening gives plaintext as it comes, but **nothing of it is authentic before `finish` has returned**:
only then is it known to be whole and to come from the sender. Keep it apart until then.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import BinaryIO

from cryptography.cobblestone import Cobblestone128Decryptor, Cobblestone128Encryptor
from cryptography.exceptions import AlreadyFinalized, InvalidTag
from msgspec.structs import replace

from grid.crypto.encoding import Bytes, pack
from grid.crypto.envelope import (
    CEK_BYTES,
    EnvelopeCheck,
    Expect,
    Header,
    Wrap,
    body_size,
    header_hash,
    preamble,
    read_header,
    wrap_info,
)
from grid.crypto.errors import BadSignature, EnvelopeRefused, PrekeyUnknown
from grid.crypto.hashing import Digest, sha256_beside
from grid.crypto.identity import Identity
from grid.crypto.prekeys import Prekey, PrekeyPublic

BLOCK = 512 * 1024
"""Bytes per block of a file: small enough to be hashed while still in the processor's cache."""

FindPrekey = Callable[[bytes], Prekey | None]


def room_for(block: int) -> int:
    """How large an output buffer must be for inputs of up to `block` bytes: up to a chunk may have been waiting."""
    return body_size(block + 16_384)


class RoundKey:
    """The key of one sealed body. It wraps itself for recipients, and is worth as much as the payload."""

    def __init__(self, header_bytes: bytes, cek: bytes) -> None:
        self.header_bytes, self.header = header_bytes, read_header(header_bytes)
        self._cek = cek

    def __repr__(self) -> str:
        return f"RoundKey({self.header!r})"

    def private_bytes(self) -> bytes:
        """Its secret, 16 bytes: with `header_bytes` enough to make it again after a restart."""
        return self._cek

    def wrap(self, recipient: PrekeyPublic) -> bytes:
        """The entry that lets `recipient` open the body: 1,192 bytes, different each time.

        Raises:
            ValueError: the envelope is addressed to somebody else.
            Malformed: nothing can be sealed to this prekey.
        """
        header = self.header
        if header.audience not in {b"", recipient.owner}:
            raise ValueError("this envelope is addressed to another recipient")
        info = wrap_info(self.header_bytes, header.sender, recipient.owner, recipient.id)
        return bytes(Wrap(recipient.owner, recipient.id, recipient.wrap(self._cek, info)))

    def preamble(self, recipients: Iterable[PrekeyPublic]) -> bytes:
        """What to send before the body so that these recipients can open it."""
        return preamble(self.header_bytes, [self.wrap(recipient) for recipient in recipients])


class BodySealer:
    """Encrypts one payload of exactly `header.length` bytes. Send preamble, then all it returns, in order."""

    def __init__(
        self,
        identity: Identity,
        header: Header,
        *,
        digest: Digest | None = None,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        if header.sender != identity.public:
            raise ValueError("the header names another sender")
        cek = entropy(CEK_BYTES)
        self.round_key = RoundKey(pack(header), cek)
        self._identity = identity
        self._left = header.length
        self._digest = digest or hashlib.sha256()
        self._encryptor = Cobblestone128Encryptor(cek, header_hash(self.round_key.header_bytes))

    def update_into(self, block: Bytes, out: bytearray | memoryview) -> int:
        """Encrypt `block` into `out` (at least `room_for(len(block))` bytes); how many of them to send, perhaps 0."""
        written = self._encryptor.update_into(block, out)
        self._left -= len(block)
        self._digest.update(memoryview(out)[:written])
        return written

    def update(self, block: Bytes) -> bytes:
        """The same into fresh memory, three times slower for large blocks."""
        sealed = self._encryptor.update(block)
        self._left -= len(block)
        self._digest.update(sealed)
        return sealed

    def finish(self) -> bytes:
        """The end of the body and the signature. Raises ValueError if the payload was not `header.length` bytes."""
        if self._left:
            raise ValueError(
                f"the payload is {-self._left:+} bytes off the {self.round_key.header.length} of the header"
            )
        tail = self._encryptor.finalize()
        self._digest.update(tail)
        return tail + self._identity.sign("envelope", self.round_key.header_bytes + self._digest.digest())


class Opener:
    """Opens one envelope, fed in pieces of any size; see the module for what may be trusted when.

    `find_prekey` gives the private prekey for an id, or None; `expect` refuses headers that are not awaited
    (see `Context`); `now` is the moment that decides about expiry. Every method raises EnvelopeRefused;
    after the first refusal the envelope cannot be finished any more.
    """

    def __init__(
        self,
        recipient_public: bytes,
        find_prekey: FindPrekey,
        expect: Expect,
        now: float,
        digest: Digest | None = None,
    ) -> None:
        self._recipient, self._find_prekey = recipient_public, find_prekey
        self._check = EnvelopeCheck(expect, now, digest)
        self._decryptor: Cobblestone128Decryptor | None = None

    @property
    def header(self) -> Header | None:
        """The header, as soon as it is in. Not proved to be the sender's before `finish`."""
        return self._check.header

    def feed_into(self, piece: Bytes, out: bytearray | memoryview) -> int:
        """Take the next bytes; write plaintext to `out` (at least `room_for(len(piece))` bytes) and return its size."""
        if len(out) < room_for(len(piece)):
            raise ValueError("the output buffer is too small")
        body = self._check.feed(piece)
        if self._check.header is None:
            return 0
        try:
            return self._unlocked().update_into(body, out)
        except (InvalidTag, AlreadyFinalized) as error:
            raise EnvelopeRefused("tampered", "the body is not what was sealed") from error

    def feed(self, piece: Bytes) -> bytes:
        """The same into fresh memory, for small payloads."""
        out = bytearray(room_for(len(piece)))
        return bytes(memoryview(out)[: self.feed_into(piece, out)])

    def finish(self) -> bytes:
        """The last of the plaintext. Once this has returned, all of it is whole and the sender's own."""
        self._check.finish()
        try:
            return self._unlocked().finalize()
        except (InvalidTag, AlreadyFinalized) as error:
            raise EnvelopeRefused("tampered", "the body is not what was sealed") from error

    def _unlocked(self) -> Cobblestone128Decryptor:
        if self._decryptor is None:
            header = self._check.header_bytes
            self._decryptor = Cobblestone128Decryptor(self._unwrap(), header_hash(header))
        return self._decryptor

    def _unwrap(self) -> bytes:
        check, me = self._check, self._recipient
        assert check.header is not None
        mine = [wrap for wrap in check.wraps if wrap.recipient == me]
        if not mine or check.header.audience not in {b"", me}:
            raise EnvelopeRefused("wrong-recipient", "this envelope is not for us")
        wrap, prekey = self._choose(mine)
        try:
            return prekey.unwrap(wrap.wrapped, wrap_info(check.header_bytes, check.header.sender, me, wrap.prekey))
        except BadSignature as error:
            raise EnvelopeRefused("tampered", "the key was wrapped for another envelope, or altered") from error

    def _choose(self, mine: list[Wrap]) -> tuple[Wrap, Prekey]:
        for wrap in mine:
            if prekey := self._find_prekey(wrap.prekey):
                return wrap, prekey
        raise PrekeyUnknown(mine[0].prekey)


# --- small messages and files -------------------------------------------------------------------


def seal_bytes(
    identity: Identity,
    header: Header,
    payload: bytes,
    recipients: Iterable[PrekeyPublic],
    *,
    entropy: Callable[[int], bytes] = os.urandom,
) -> bytes:
    """A whole envelope around a small payload; the header's length is filled in."""
    sealer = BodySealer(identity, replace(header, length=len(payload)), entropy=entropy)
    return sealer.round_key.preamble(recipients) + sealer.update(payload) + sealer.finish()


def open_bytes(
    envelope: Bytes, recipient_public: bytes, find_prekey: FindPrekey, expect: Expect, now: float
) -> tuple[Header, bytes]:
    """Header and payload of a small envelope, both proved. Raises EnvelopeRefused."""
    opener = Opener(recipient_public, find_prekey, expect, now)
    payload = opener.feed(envelope) + opener.finish()
    assert opener.header is not None
    return opener.header, payload


def seal_file(
    identity: Identity,
    header: Header,
    source: Path,
    target: Path,
    recipients: Iterable[PrekeyPublic] = (),
    *,
    over: Path | None = None,
    entropy: Callable[[int], bytes] = os.urandom,
) -> RoundKey:
    """Seal the file `source` into `target`, as `seal_parts` does; the header's length is filled in."""
    with source.open("rb", buffering=0) as plain:
        whole = replace(header, length=os.fstat(plain.fileno()).st_size)
        return seal_parts(identity, whole, _blocks(plain), target, recipients, over=over, entropy=entropy)


def seal_parts(
    identity: Identity,
    header: Header,
    parts: Iterable[Bytes],
    target: Path,
    recipients: Iterable[PrekeyPublic] = (),
    *,
    over: Path | None = None,
    entropy: Callable[[int], bytes] = os.urandom,
) -> RoundKey:
    """Seal parts, `header.length` bytes together, one after the other into the file `target`.

    With `recipients`, `target` is a whole envelope. Without, it is body and signature alone, to be sent after
    `RoundKey.preamble` for whoever asks. It appears whole or not at all; it is not fsynced. It may be written `over`
    a file that nobody needs any more, whose pages are in memory.
    """
    recipients = list(recipients)
    with sha256_beside(header.length) as digest, _replacing(target, over) as sealed:
        sealer = BodySealer(identity, header, digest=digest, entropy=entropy)
        if recipients:
            sealed.write(sealer.round_key.preamble(recipients))
        outs = cycle([memoryview(bytearray(room_for(BLOCK))) for _ in range(2)])
        for block, out in zip(_cut(parts), outs, strict=False):
            sealed.write(out[: sealer.update_into(block, out)])
        sealed.write(sealer.finish())
    return sealer.round_key


def open_file(source: Path, target: Path, opener: Opener) -> Header:
    """Open the envelope in `source` into `target`, which appears only once everything is proved; mode 0600.

    Feed the opener its preamble first if `source` is body and signature alone. Raises EnvelopeRefused.
    """
    with _replacing(target) as plain:
        for piece in opened_file(source, opener):
            plain.write(piece)
    assert opener.header is not None
    return opener.header


def opened_file(source: Path, opener: Opener) -> Iterator[memoryview]:
    """The plaintext of the envelope in a file, in pieces that are valid until the next. Raises EnvelopeRefused."""
    with source.open("rb", buffering=0) as sealed:
        out = memoryview(bytearray(room_for(BLOCK)))
        for block in _blocks(sealed):
            yield out[: opener.feed_into(block, out)]
    yield memoryview(opener.finish())


def _blocks(file: BinaryIO) -> Iterator[memoryview]:
    """A file in blocks. Each is valid until the next but one: its digest may be a block behind."""
    for buffer in cycle([memoryview(bytearray(BLOCK)) for _ in range(2)]):
        if not (size := file.readinto(buffer)):  # type: ignore[attr-defined]  # raw files have it
            return
        yield buffer[:size]


def _cut(parts: Iterable[Bytes]) -> Iterator[memoryview]:
    for part in parts:
        view = memoryview(part)
        for begin in range(0, len(view), BLOCK):
            yield view[begin : begin + BLOCK]


@contextmanager
def _replacing(target: Path, over: Path | None = None) -> Iterator[BinaryIO]:
    """A file that takes the place of `target` when the block ends well, and is gone when it does not."""
    handle, name = (
        (os.open(over, os.O_WRONLY | os.O_CLOEXEC), str(over))
        if over
        else tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    )
    try:
        with os.fdopen(handle, "wb", buffering=0) as file:
            yield file
            file.truncate()
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink()
        raise
