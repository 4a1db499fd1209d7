"""Who gets in, and who does not."""

from __future__ import annotations

from hashlib import sha256

import pytest

from grid.crypto.identity import Identity
from grid.crypto.session import EMPTY_BODY, SessionKey, authorization, offer, sign_request
from grid.transport.auth import Authenticator, Caller, Standing, token_check
from grid.wire.problems import BadSignature, GridError, NotAuthenticated, Replayed, SessionUnknown
from grid.wire.rights import Right

SERVER, ALICE, BOB = (Identity.from_seed(bytes([n]) * 32) for n in (1, 2, 3))
NOW = 1_800_000_000.0


class World:
    def __init__(self, capacity: int = 10) -> None:
        self.clock = NOW
        self.owners: set[bytes] = set()
        self.auth = Authenticator(
            SERVER,
            lambda: self.clock,
            is_owner=token_check(sha256(b"token").digest()),
            owner_keys=lambda: self.owners,
            capacity=capacity,
            lifetime=100.0,
        )

    def session(self, who: Identity = ALICE) -> SessionKey:
        message, state = offer(who, SERVER.public, self.clock)
        return state.complete(self.auth.open_session(message), self.clock)


def header(key: SessionKey, counter: int = 1, target: str = "/x?y=1", digest: bytes = EMPTY_BODY) -> str:
    return authorization(key, counter, "GET", target, digest)


def test_a_session_proves_its_caller_for_one_request() -> None:
    world = World()
    key = world.session()

    caller = world.auth.caller(header(key), "GET", "/x?y=1", EMPTY_BODY)

    assert (caller.public, caller.id, caller.kind, caller.owner) == (ALICE.public, ALICE.id, "session", False)


@pytest.mark.parametrize(
    ("method", "target", "digest"),
    [("POST", "/x?y=1", EMPTY_BODY), ("GET", "/x?y=2", EMPTY_BODY), ("GET", "/x?y=1", sha256(b"more").digest())],
)
def test_a_mac_belongs_to_one_method_target_and_body(method: str, target: str, digest: bytes) -> None:
    world = World()

    with pytest.raises(BadSignature):
        world.auth.caller(header(world.session()), method, target, digest)


def test_a_request_counts_once() -> None:
    world = World()
    key = world.session()
    world.auth.caller(header(key), "GET", "/x?y=1", EMPTY_BODY)

    with pytest.raises(Replayed):
        world.auth.caller(header(key), "GET", "/x?y=1", EMPTY_BODY)


def test_a_session_ends() -> None:
    world = World()
    key = world.session()
    world.clock += 101

    with pytest.raises(SessionUnknown):
        world.auth.caller(header(key), "GET", "/x?y=1", EMPTY_BODY)


def test_the_session_unused_for_longest_makes_room() -> None:
    world = World(capacity=2)
    old, new = world.session(ALICE), world.session(BOB)
    world.auth.caller(header(old), "GET", "/x?y=1", EMPTY_BODY)

    world.session(BOB)

    assert len(world.auth) == 2
    world.auth.caller(header(old, 2), "GET", "/x?y=1", EMPTY_BODY)
    with pytest.raises(SessionUnknown):
        world.auth.caller(header(new), "GET", "/x?y=1", EMPTY_BODY)


def test_an_offer_opens_one_session() -> None:
    world = World()
    message, _ = offer(ALICE, SERVER.public, NOW)
    world.auth.open_session(message)

    with pytest.raises(Replayed):
        world.auth.open_session(message)


@pytest.mark.parametrize("late", [-61, 61])
def test_an_offer_has_its_time(late: float) -> None:
    with pytest.raises(Replayed):
        World().auth.open_session(offer(ALICE, SERVER.public, NOW + late)[0])


def test_an_offer_is_for_one_daemon() -> None:
    with pytest.raises(BadSignature):
        World().auth.open_session(offer(ALICE, BOB.public, NOW)[0])


def test_one_request_may_be_signed_without_a_session() -> None:
    world = World()
    signed = sign_request(ALICE, SERVER.public, "GET", "/x", EMPTY_BODY, NOW, bytes(16))

    assert world.auth.caller(signed, "GET", "/x", EMPTY_BODY).kind == "signature"
    with pytest.raises(Replayed):
        world.auth.caller(signed, "GET", "/x", EMPTY_BODY)


def test_a_key_can_become_the_owners_and_cease_to_be() -> None:
    world = World()
    key = world.session()
    seen = []
    for counter, owners in enumerate([set(), {ALICE.public}, set()], start=1):
        world.owners = owners
        seen.append(world.auth.caller(header(key, counter), "GET", "/x?y=1", EMPTY_BODY).owner)

    assert seen == [False, True, False]


def test_the_owners_token_opens() -> None:
    caller = World().auth.caller("Bearer token", "GET", "/", EMPTY_BODY)

    assert (caller.owner, caller.id, caller.kind) == (True, None, "token")


@pytest.mark.parametrize(
    "value",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer tokem",
        "Basic dG9rZW4=",
        "Session",
        "Session a.b.c",
        "Signature a.b.c.d",
        "x" * 9999,
    ],
)
def test_nonsense_opens_nothing(value: str) -> None:
    with pytest.raises(NotAuthenticated):
        World().auth.caller(value, "GET", "/", EMPTY_BODY)


@pytest.mark.parametrize("message", [b"", b"x" * 100, b"x" * 2000])
def test_nonsense_is_no_offer(message: bytes) -> None:
    with pytest.raises(GridError):
        World().auth.open_session(message)


def test_a_daemon_without_a_token_takes_none() -> None:
    with pytest.raises(NotAuthenticated):
        Authenticator(SERVER, lambda: NOW).caller("Bearer ", "GET", "/", EMPTY_BODY)


def test_a_word_of_this_process_lets_one_request_in_and_no_other() -> None:
    world = World()
    with world.auth.vouching(ALICE.public) as word:
        caller = world.auth.caller(word, "GET", "/x", EMPTY_BODY)
        assert (caller.id, caller.owner, caller.kind) == (ALICE.id, False, "letter")
        with pytest.raises(NotAuthenticated):
            world.auth.caller(word, "GET", "/x", EMPTY_BODY)
    with world.auth.vouching(BOB.public) as unused:
        world.owners.add(BOB.public)
    with pytest.raises(NotAuthenticated):
        world.auth.caller(unused, "GET", "/x", EMPTY_BODY)
    with pytest.raises(NotAuthenticated):
        world.auth.caller("Letter ", "GET", "/x", EMPTY_BODY)


def test_a_key_stands_for_its_account_as_it_is_now() -> None:
    world = World()
    standings: dict[str, Standing] = {}
    auth = Authenticator(SERVER, lambda: world.clock, standing=standings.get)
    message, state = offer(ALICE, SERVER.public, world.clock)
    key = state.complete(auth.open_session(message), world.clock)

    def caller(counter: int) -> Caller:
        return auth.caller(header(key, counter), "GET", "/x?y=1", EMPTY_BODY)

    assert (caller(1).account, caller(1 + 1).name) == (None, ALICE.id)
    standings[ALICE.id] = Standing("alice", frozenset({"cardiology"}), frozenset({Right.UPLOAD_DATA}))
    found = caller(3)
    assert (found.name, found.groups, found.owner) == ("alice", frozenset({"cardiology"}), False)
    assert (found.has(Right.UPLOAD_DATA), found.has(Right.EDIT_ROLES)) == (True, False)
    standings[ALICE.id] = Standing("alice", owner=True)
    assert caller(4).has(Right.EDIT_ROLES)
    del standings[ALICE.id]
    assert (caller(5).account, caller(6).owner) == (None, False)
