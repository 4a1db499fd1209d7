"""An endpoint is declared once: server, client and `/openapi.json` read the same object."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar, cast
from urllib.parse import quote

from grid.wire.message import JSON, OCTETS, Decoder, encode
from grid.wire.problems import GridError
from grid.wire.rights import Right

Takes = TypeVar("Takes")
Gives = TypeVar("Gives")

Who = Literal["anyone", "signed", "owner", "account"]
"""anyone: no proof asked · signed: a session or signature names the caller · owner: the daemon's owner
· account: a name and a password (HTTP Basic), for dialects whose programs have no keys."""

SMALL = 64 * 1024
"""Bytes: the most that a body of words takes, unless an endpoint says otherwise."""


class Stream:
    """Stands for a body of bytes that is streamed, never held whole."""


@dataclass(frozen=True)
class Endpoint(Generic[Takes, Gives]):
    """One call: method, path (`{name}` marks a parameter), what it takes and gives.

    `limit` is the most bytes a request body may have, `deadline` the seconds in which the client
    expects the head of the answer. `right`: accounts whose role has it may call, and the daemon's owner; nobody else.
    `query` names a message whose fields are query parameters.
    `entry` is what a log consists of that can also be listened to, as server-sent events or through a websocket.
    `parts` says that a stream can be had in parts (`Range`, see `wire.ranges`).
    `problems` are those a caller should be ready for beyond the ones every endpoint shares.
    """

    method: str
    path: str
    takes: type[Takes] = cast("type[Takes]", type(None))
    gives: type[Gives] = cast("type[Gives]", type(None))
    about: str = ""
    who: Who = "anyone"
    right: Right | None = None
    query: type | None = None
    limit: int = SMALL
    deadline: float = 10.0
    media: str = JSON
    entry: type | None = None
    parts: bool = False
    problems: tuple[type[GridError], ...] = ()
    decode_request: Decoder = field(init=False, repr=False, compare=False)
    decode_reply: Decoder = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "decode_request", Decoder(self.takes))
        object.__setattr__(self, "decode_reply", Decoder(self.gives))

    @property
    def streams_in(self) -> bool:
        """Whether the request body is a stream of bytes."""
        return cast(type, self.takes) is Stream

    @property
    def streams_out(self) -> bool:
        """Whether the answer's body is a stream of bytes."""
        return cast(type, self.gives) is Stream

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names in the path, in order."""
        return tuple(re.findall(r"\{(\w+)\}", self.path))

    def target(self, **values: str | int) -> str:
        """The path with its parameters filled in, percent-encoded."""
        return re.sub(r"\{(\w+)\}", lambda m: quote(str(values[m[1]]), safe=""), self.path)

    def body(self, message: Takes) -> tuple[bytes, str]:
        """The bytes of a request and their media type."""
        if cast(type, self.takes) is type(None):
            return b"", ""
        media = OCTETS if self.streams_in else self.media
        return encode(message, media), media
