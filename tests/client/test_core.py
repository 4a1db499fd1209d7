"""Messages to bytes, and bytes to messages or errors: no sockets."""

from __future__ import annotations

import json

import pytest

from grid.client.core import answer, refusal, request
from grid.wire.directory import CONNECTED_NODES, JOIN, MEMBER, MEMBERS, Connected, Join, Page
from grid.wire.message import JSON, MSGPACK, encode
from grid.wire.problems import PROBLEMS, GridError, Unreachable, to_problem
from grid.wire.runs import RUN_EVENTS, UPDATE, After

PROBLEM = "application/problem+json"


def test_a_message_becomes_a_body() -> None:
    sent = request(JOIN, Join("alice", "http://alice:5001"))

    assert (sent.method, sent.target) == ("POST", "/join")
    assert json.loads(sent.body) == {"node-id": "alice", "node-address": "http://alice:5001"}
    assert sent.headers["Content-Type"] == JSON


def test_names_in_a_path_are_quoted() -> None:
    assert request(MEMBER, path={"node_id": "a/b?c"}).target == "/v1/members/a%2Fb%3Fc"


def test_a_query_says_only_what_differs() -> None:
    assert request(RUN_EVENTS, query=After(5), path={"run": "r"}).target == "/v1/runs/r/events?after=5"
    assert request(MEMBERS, query=Page(after="a&b")).target == "/v1/members?after=a%26b"


def test_a_stream_has_no_body_here() -> None:
    assert request(UPDATE, path={"run": "r", "round": 3}).body == b""


@pytest.mark.parametrize("media", [JSON, f"{JSON}; charset=utf-8", MSGPACK])
def test_an_answer_is_read_by_its_media_type(media: str) -> None:
    connected = Connected(("alice", "bob"))

    assert answer(CONNECTED_NODES, 200, media, encode(connected, media)) == connected


@pytest.mark.parametrize("kind", PROBLEMS.values())
def test_every_problem_arrives_as_the_class_that_was_raised(kind: type[GridError]) -> None:
    document = json.dumps(to_problem(kind("so it is", retry_after=3.0))).encode()

    error = refusal(kind.status, PROBLEM, document)

    assert (type(error), error.detail, error.retry_after) == (kind, "so it is", 3.0)


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"{", b'{"type": 5, "detail": []}', b"[" * 100_000, b"\xff"])
def test_a_problem_that_is_none_is_still_an_error(body: bytes) -> None:
    assert type(refusal(500, PROBLEM, body)) is GridError


def test_what_no_daemon_said_is_unreachable() -> None:
    with pytest.raises(Unreachable, match="502"):
        answer(CONNECTED_NODES, 502, "text/html", b"<h1>Bad gateway</h1>")
    with pytest.raises(Unreachable):
        answer(CONNECTED_NODES, 302, "", b"")
    with pytest.raises(Unreachable):
        answer(CONNECTED_NODES, 200, JSON, b'{"grid-nodes": 7}')
