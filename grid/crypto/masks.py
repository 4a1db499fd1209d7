"""Keys of one secure sum: masks that cancel between each two nodes, and shares sealed from one node to another.

Source: Bonawitz et al. 2017, "Practical secure aggregation for privacy-preserving machine learning" (CCS 2017,
ePrint 2017/281), figure 4. Two key pairs for each node and sum: one agrees on masks, the other on keys for shares.
Every key is derived together with the transcript, the digest of all that the nodes must agree on: whoever was told of
another model, roster or threshold has masks that cancel with nobody's (Pasquini et al. 2022, arXiv:2111.07380).
"""

from __future__ import annotations

from typing import Annotated

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR, GCM
from cryptography.hazmat.primitives.hashes import SHA256, Hash
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from msgspec import Meta

from grid.crypto.encoding import Key32, Record, pack
from grid.crypto.errors import EnvelopeRefused, Malformed

PAIR, SELF, SHARES = b"grid pair mask v1", b"grid self mask v1", b"grid shares v1"
_CHUNK = 128 << 10
_ZEROS = memoryview(bytes(_CHUNK))
_AHEAD = 32
Digest = Annotated[bytes, Meta(min_length=32, max_length=32)]


class RoundKeys(Record, frozen=True, kw_only=True):
    """One node's public keys of one sum; `node` is its identity."""

    node: Key32
    masks: Key32
    shares: Key32


class Transcript(Record, frozen=True, kw_only=True):
    """All that the nodes of a sum must agree on; `plan`, `model`, `strategy` are SHA-256, `range_` the quantiser's."""

    version: int = 1
    run: str
    round: int
    plan: Digest
    model: Digest
    strategy: Digest
    roster: tuple[RoundKeys, ...]
    threshold: int
    range_: float
    numbers: int

    def digest(self) -> bytes:
        """32 bytes that stand for it."""
        hashed = Hash(SHA256())
        hashed.update(pack(self))
        return hashed.finalize()


def pair_seed(own: X25519PrivateKey, other: bytes, transcript: bytes) -> bytes:
    """The seed (16 bytes) of the mask that two nodes have in common; the same at both of them.

    Raises:
        Malformed: the other's key is not one.
    """
    return _agreed(own, other, PAIR, transcript, b"".join(sorted((own.public_key().public_bytes_raw(), other))), 16)


def self_seed(secret: bytes, transcript: bytes) -> bytes:
    """The seed (16 bytes) of a node's own mask, from the secret of 32 bytes that it deals in shares."""
    return HKDF(SHA256(), 16, None, SELF + transcript).derive(secret)


def seal_shares(own: X25519PrivateKey, other: bytes, transcript: bytes, shares: bytes) -> bytes:
    """Shares for one other node. Once for each pair and sum: the key is used for this one message.

    Raises:
        Malformed: the other's key is not one.
    """
    way = own.public_key().public_bytes_raw() + other
    return AESGCM(_agreed(own, other, SHARES, transcript, way, 32)).encrypt(bytes(12), shares, transcript)


def open_shares(own: X25519PrivateKey, other: bytes, transcript: bytes, sealed: bytes) -> bytes:
    """What `other` sealed for this node.

    Raises:
        Malformed: the other's key is not one.
        EnvelopeRefused: not sealed by it, for this node, in this sum.
    """
    way = other + own.public_key().public_bytes_raw()
    try:
        return AESGCM(_agreed(own, other, SHARES, transcript, way, 32)).decrypt(bytes(12), sealed, transcript)
    except InvalidTag:
        raise EnvelopeRefused("shares", "not sealed for this node and this sum") from None


class Keystream:
    """The bytes that a seed of 16 bytes stands for: AES-128 in counter mode, from 0. One sum for each seed.

    GCM under a nonce of zeros encrypts with the same counter, from block 2 on (NIST SP 800-38D, section 7.1), and
    OpenSSL has code for wide registers only for it: with the tag that nobody asks for it takes half of CTR's time.
    """

    def __init__(self, seed: bytes) -> None:
        self._ahead = Cipher(AES(seed), CTR(bytes(16))).encryptor().update(_ZEROS[:_AHEAD])
        self._cipher = Cipher(AES(seed), GCM(bytes(12))).encryptor()

    def fill(self, target: memoryview) -> None:
        """The next bytes, into all of `target`: at most 128 KiB."""
        if len(target) > _CHUNK:
            raise ValueError(f"at most {_CHUNK} bytes at a time")
        if self._ahead:
            begin = min(len(self._ahead), len(target))
            target[:begin], self._ahead = self._ahead[:begin], self._ahead[begin:]
            target = target[begin:]
        self._cipher.update_into(_ZEROS[: len(target)], target)


def _agreed(own: X25519PrivateKey, other: bytes, use: bytes, transcript: bytes, way: bytes, length: int) -> bytes:
    try:
        secret = own.exchange(X25519PublicKey.from_public_bytes(other))
    except ValueError as error:  # of a wrong length, or a point of small order
        raise Malformed(f"not a key to agree with: {error}") from None
    return HKDF(SHA256(), length, None, use + transcript + way).derive(secret)
