"""Pins: the key by which a name is known since it was first met. Another key under it is refused, and named."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from grid.crypto.errors import Malformed
from grid.crypto.identity import fingerprint, public_from_id
from grid.wire.problems import KeyChanged

NOWHERE: Mapping[str, str] = MappingProxyType({})
"""No key gave its place to another."""

How = Literal["first use", "by hand"]


class Pin(Struct, frozen=True):
    """A name (of a node, or an address), its key (wire form), when it was first and last met (UTC seconds)."""

    name: str
    public_key: str
    first_seen: float
    last_seen: float
    how: How = "first use"


def met(pin: Pin | None, name: str, public_key: str, at: float, moved: Mapping[str, str] = NOWHERE) -> Pin:
    """What is known of `name` once it showed `public_key`: trust on first use, as RFC 4251 (4.1) has it for hosts.

    `moved`: from keys to those that they gave their place to, as `transparency.moved` believed it.

    Raises:
        KeyChanged: it is known by another key.
    """
    if pin is None:
        return Pin(name, public_key, at, at)
    if _followed(pin.public_key, moved) != public_key:
        raise KeyChanged(
            f"{name} is known by the key {spelled(pin.public_key)} and is now given the key {spelled(public_key)}: "
            "somebody may have put theirs in its place. Ask its owner, not by way of the grid, which fingerprint is "
            f"right. If the key really is a new one: `peer forget {name}`"
        )
    return replace(pin, public_key=public_key, last_seen=max(pin.last_seen, at))


def _followed(public_key: str, moved: Mapping[str, str]) -> str:
    for _ in moved:  # at most so many steps, whatever circles are claimed
        public_key = moved.get(public_key, public_key)
    return public_key


def spelled(public_key: str) -> str:
    """The fingerprint of a key in its wire form, for two people to compare."""
    try:
        return fingerprint(public_from_id(public_key))
    except Malformed:
        return f"{public_key!r}, which is no key"
