"""The OpenAPI 3.1 description of a daemon, made from the endpoints it answers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import msgspec

from grid.wire.endpoint import Endpoint, Who
from grid.wire.message import JSON, MSGPACK, OCTETS
from grid.wire.problems import (
    BadRequest,
    BadSignature,
    Draining,
    GridError,
    NotAllowed,
    NotAuthenticated,
    Replayed,
    SessionUnknown,
    TooLarge,
    TooManyRequests,
    TooSlow,
    UnsupportedEncoding,
    UnsupportedMediaType,
)

Json = dict[str, Any]
AnyEndpoint = Endpoint[Any, Any]

VERSION = "1.0.0"
"""Of the API: its first number is that of the `/v1` in the paths."""

PROBLEM: Json = {
    "type": "object",
    "description": "A problem (RFC 9457). `type` ends with the slug that programs go by.",
    "required": ["type", "title", "status"],
    "properties": {
        "type": {"type": "string", "examples": ["urn:grid:problem:not-found"]},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "retry-after": {"type": "number", "description": "Seconds"},
    },
}
TAG = "The `ETag` of the stream that the part belongs to; another stream comes whole"
WAYS: dict[Who, tuple[str, ...]] = {
    "owner": ("token", "session", "signature"),
    "signed": ("session", "signature", "token"),
    "account": ("account", "token"),
}
"""How those prove themselves who may call, the usual way first."""
SCHEMES: Json = {
    "account": {"type": "http", "scheme": "basic", "description": "An account of a gateway"},
    "session": {
        "type": "apiKey",
        "in": "header",
        "name": "Authorization",
        "description": "`Session <id>.<counter>.<mac>`: a MAC of this request, made with the key of the session",
    },
    "signature": {
        "type": "apiKey",
        "in": "header",
        "name": "Authorization",
        "description": "`Signature <key>.<time>.<nonce>.<signature>`: Ed25519 over this one request",
    },
    "token": {"type": "http", "scheme": "bearer", "description": "The owner's token, or an account's"},
}


def document(endpoints: Iterable[AnyEndpoint], title: str) -> Json:
    """The description of a daemon that answers `endpoints`, as values that JSON can write."""
    endpoints = tuple(endpoints)
    kinds = list(dict.fromkeys(kind for endpoint in endpoints for kind in _kinds(endpoint)))
    schemas, components = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    by_kind = dict(zip(kinds, schemas, strict=True))
    paths: defaultdict[str, Json] = defaultdict(dict)
    for endpoint in endpoints:
        paths[endpoint.path][endpoint.method.lower()] = _operation(endpoint, by_kind, components)
    return {
        "openapi": "3.1.1",
        "info": {"title": title, "version": VERSION},
        "paths": dict(paths),
        "components": {"schemas": {**components, "Problem": PROBLEM}, "securitySchemes": SCHEMES},
    }


def _kinds(endpoint: AnyEndpoint) -> Iterable[Any]:
    if not endpoint.streams_in and endpoint.takes is not type(None):
        yield endpoint.takes
    if not endpoint.streams_out and endpoint.gives is not type(None):
        yield endpoint.gives
    if endpoint.query is not None:
        yield endpoint.query
    if endpoint.entry is not None:
        yield endpoint.entry


def _operation(endpoint: AnyEndpoint, by_kind: dict[Any, Json], components: Json) -> Json:
    operation: Json = {
        "operationId": _operation_id(endpoint),
        "summary": endpoint.about,
        "parameters": [*_path_parameters(endpoint), *_query_parameters(endpoint, by_kind, components)],
        "responses": {"200": _answer(endpoint, by_kind), **_refusals(endpoint)},
    }
    if endpoint.takes is not type(None):
        content = _content(endpoint.streams_in, by_kind.get(endpoint.takes))
        operation["requestBody"] = {"required": True, "content": content}
    if endpoint.entry is not None:
        _listened_to(operation, by_kind[endpoint.entry])
    if endpoint.parts:
        operation["parameters"] += [_header("Range", "`bytes=N-`: the rest from byte N on"), _header("If-Range", TAG)]
        operation["responses"]["206"] = {"description": "A part, by `Content-Range`", "content": {OCTETS: {}}}
    if endpoint.right is not None:
        operation["x-right"] = endpoint.right.value
    if endpoint.who != "anyone":
        operation["security"] = [{name: []} for name in WAYS[endpoint.who]]
    return operation


def _listened_to(operation: Json, entry: Json) -> None:
    """A log that can also be heard as a stream."""
    said = "`id` is an entry's cursor, `event` its kind, `data` the entry as JSON. Lines of comment are signs of life"
    operation["responses"]["200"]["content"]["text/event-stream"] = {"schema": {"type": "string", "description": said}}
    operation["responses"]["101"] = {
        "description": "A websocket, asked for by `Upgrade: websocket`: each text message is one entry",
        "content": {JSON: {"schema": entry}},
    }
    heard = "The cursor of the last entry that was heard, before `after`; for server-sent events"
    operation["parameters"].append(_header("Last-Event-ID", heard))


def _header(name: str, about: str) -> Json:
    return {"name": name, "in": "header", "required": False, "schema": {"type": "string"}, "description": about}


def _operation_id(endpoint: AnyEndpoint) -> str:
    words = endpoint.path.replace("{", "by-").replace("}", "").strip("/").replace("/", "-").replace("_", "-")
    return f"{endpoint.method.lower()}-{words or 'root'}"


def _content(stream: bool, schema: Json | None) -> Json:
    if stream or schema is None:
        return {OCTETS: {}}
    return {JSON: {"schema": schema}, MSGPACK: {"schema": schema}}


def _answer(endpoint: AnyEndpoint, by_kind: dict[Any, Json]) -> Json:
    description = " ".join((endpoint.gives.__doc__ or endpoint.about).split())
    if endpoint.gives is type(None):
        return {"description": endpoint.about}
    return {"description": description, "content": _content(endpoint.streams_out, by_kind.get(endpoint.gives))}


def _path_parameters(endpoint: AnyEndpoint) -> list[Json]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in endpoint.parameters
    ]


def _query_parameters(endpoint: AnyEndpoint, by_kind: dict[Any, Json], components: Json) -> list[Json]:
    if endpoint.query is None:
        return []
    schema = by_kind[endpoint.query]
    schema = components[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    required = schema.get("required", [])
    return [
        {"name": name, "in": "query", "required": name in required, "schema": field}
        for name, field in schema["properties"].items()
    ]


def _refusals(endpoint: AnyEndpoint) -> Json:
    by_status: defaultdict[int, list[type[GridError]]] = defaultdict(list)
    for error in dict.fromkeys((*_shared(endpoint), *endpoint.problems)):
        by_status[error.status].append(error)
    return {
        str(status): {
            "description": " · ".join(f"`{error.slug}`: {error.title}" for error in errors),
            "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status, errors in sorted(by_status.items())
    }


def _shared(endpoint: AnyEndpoint) -> Iterable[type[GridError]]:
    """The problems that follow from the shape of an endpoint."""
    yield from (Draining, GridError)
    if endpoint.query is not None or endpoint.takes is not type(None) or endpoint.parameters:
        yield BadRequest
    if endpoint.takes is not type(None):
        yield from (TooLarge, TooSlow, UnsupportedEncoding)
        if not endpoint.streams_in:
            yield UnsupportedMediaType
    if endpoint.who != "anyone":
        yield from (NotAuthenticated, BadSignature, Replayed, SessionUnknown, TooManyRequests)
    if endpoint.who == "owner":
        yield NotAllowed
