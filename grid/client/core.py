"""What is sent and what comes back, as values: no sockets here."""

from __future__ import annotations

import json
from typing import Any, NamedTuple, TypeVar, cast
from urllib.parse import urlencode

import msgspec

from grid.wire.endpoint import Endpoint
from grid.wire.message import JSON, MSGPACK
from grid.wire.problems import BadRequest, GridError, Unreachable, from_problem

Takes = TypeVar("Takes")
Gives = TypeVar("Gives")

PROBLEM = "application/problem+json"


class Request(NamedTuple):
    """One request: `target` is the raw path and query, as it is signed and sent."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


def request(
    endpoint: Endpoint[Takes, Gives],
    message: Takes | None = None,
    query: msgspec.Struct | None = None,
    path: dict[str, Any] | None = None,
) -> Request:
    """What to send to call `endpoint`. The body of a stream is empty here."""
    target = endpoint.target(**(path or {}))
    if query is not None and (words := _query(query)):  # an empty query is not sent, so it must not be signed
        target += f"?{words}"
    body, media = (b"", "") if endpoint.streams_in else endpoint.body(cast("Takes", message))
    headers = {"Accept": endpoint.media}
    if media:
        headers["Content-Type"] = media
    return Request(endpoint.method, target, headers, body)


def _query(query: msgspec.Struct) -> str:
    values = msgspec.to_builtins(query)
    return urlencode({name: _word(value) for name, value in values.items()})


def _word(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def answer(endpoint: Endpoint[Takes, Gives], status: int, media: str, body: bytes) -> Gives:
    """What an answer gives.

    Raises:
        GridError: the very class that the other side raised.
        Unreachable: this is no answer of a daemon of the grid.
    """
    if not 200 <= status < 300:
        raise refusal(status, media, body)
    if endpoint.gives is type(None):
        return None
    try:
        return cast("Gives", endpoint.decode_reply(body, MSGPACK if _plain(media) == MSGPACK else JSON))
    except BadRequest as error:
        raise Unreachable(f"{endpoint.method} {endpoint.path} was answered with something else: {error}") from None


def refusal(status: int, media: str, body: bytes) -> GridError:
    """The error that an answer other than 2xx stands for."""
    if _plain(media) != PROBLEM:
        return Unreachable(f"HTTP status {status}, and not from a daemon of the grid")
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    return from_problem(document if isinstance(document, dict) else {}, status)


def _plain(media: str) -> str:
    return media.partition(";")[0].strip().lower()
