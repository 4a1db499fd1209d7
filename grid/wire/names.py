"""The constrained words that messages are made of."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

NodeId = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=128,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]*\Z",
        description="A node's name in a directory, chosen by its operator and bound to its key",
    ),
]
Address = Annotated[
    str,
    Meta(
        min_length=8,
        max_length=2048,
        pattern=r"^https?://[^\s/?#@\\]+(/[^\s?#@\\]*)?\Z",
        description="Where a daemon answers: http(s)://host[:port][/prefix], no credentials",
    ),
]
Tag = Annotated[
    str,
    Meta(min_length=1, max_length=128, pattern=r"^\S(.*\S)?\Z", description="A word data is found by, e.g. #mnist"),
]
PublicKey = Annotated[
    str,
    Meta(
        min_length=43,
        max_length=43,
        pattern=r"^[A-Za-z0-9_-]{43}\Z",
        description="An Ed25519 public key (32 bytes), base64url without padding: the identity itself",
    ),
]
Digest = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z", description="SHA-256, hexadecimal")]
Name = Annotated[
    str,
    Meta(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*\Z", description="A plain name"),
]
Text = Annotated[str, Meta(max_length=4096, description="Words for a person")]
Seconds = Annotated[float, Meta(ge=0, description="UTC seconds since 1970, or a span of seconds")]
Count = Annotated[int, Meta(ge=0)]
