"""Where things are in the network: keys of peers, of tags and of names, and how far apart they are.

Source: Maymounkov and Mazières 2002, "Kademlia", section 2: 160-bit keys, and XOR as the distance between two.
"""

from __future__ import annotations

import hmac
from hashlib import sha256

BYTES = 20
BITS = 8 * BYTES


def peer_key(public: bytes) -> bytes:
    """Where the peer with this public key (32 bytes) is: nobody chooses a place but by making keys."""
    return sha256(public).digest()[:BYTES]


def tag_key(tag: str, network: str, secret: bytes = b"") -> bytes:
    """Where records with this tag are kept. Without the network's secret nobody can say which tag a key stands for."""
    return _word_key(b"tag", tag, network, secret)


def name_key(node_id: str, network: str, secret: bytes = b"") -> bytes:
    """Where the records of those are kept that go by this name."""
    return _word_key(b"name", node_id, network, secret)


def relay_key(network: str, secret: bytes = b"") -> bytes:
    """Where the records of those are kept that relay letters for peers without a port."""
    return _word_key(b"relay", "", network, secret)


def distance(one: bytes, other: bytes) -> int:
    """How far two keys are apart, 0 to 2**160 - 1."""
    return int.from_bytes(one, "big") ^ int.from_bytes(other, "big")


def _word_key(kind: bytes, word: str, network: str, secret: bytes) -> bytes:
    # Neither a kind nor the network's name (see `Network`) has a NUL in it, so no two words share their bytes.
    said = b"\0".join((kind, network.encode(), word.encode()))
    return hmac.digest(secret, said, "sha256")[:BYTES]
