from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grid.gateway.register import RESERVED, Register
from grid.protocol.membership import GRACE
from grid.wire.directory import Join, Leave, Renew
from grid.wire.problems import (
    AddressRefused,
    BadRequest,
    BadSignature,
    Full,
    GridError,
    NodeIdTaken,
    NotAllowed,
    NotAMember,
    NotAuthenticated,
    Replayed,
    StaleRecord,
    UnsignedJoinRefused,
)
from tests.gateway.fakes import START, Clock, Key, MemoryStore, open_world, rfc

ALICE, MALLORY = Key(1), Key(2)


class Desk:
    """A register, and the clock and store it stands on."""

    def __init__(self, *, allow_unsigned: bool = True, capacity: int = 1000) -> None:
        self.clock, self.store = Clock(), MemoryStore()
        self.register = Register(
            self.store, open_world, self.clock, allow_unsigned=allow_unsigned, lease=90.0, capacity=capacity
        )

    async def restarted(self) -> Register:
        """A new register over the same store."""
        register = Register(self.store, open_world, self.clock, allow_unsigned=True, lease=90.0)
        await register.load()
        return register

    def state(self, node_id: str) -> str | None:
        listed = self.register.roll.get(node_id)
        return listed.member.state.value if listed else None

    def found(self, *tags: str) -> set[str]:
        return self.register.roll.tags.having_all(tags)

    def pass_time(self, seconds: float) -> None:
        self.clock.passes(seconds)
        self.register.lapse()


@pytest.fixture
def desk() -> Desk:
    return Desk()


# --- joining ------------------------------------------------------------------------------------


async def test_a_signed_node_is_listed_under_its_tags(desk: Desk) -> None:
    joined = await desk.register.join(ALICE.join("alice", "#scans", models=("resnet",)))

    assert (joined.state, joined.verified, joined.lease) == ("joining", True, 90.0)
    assert desk.found("#scans") == {"alice"}
    assert desk.register.roll.models.words() == ["resnet"]


async def test_the_rfcs_two_fields_list_a_node_unverified(desk: Desk) -> None:
    joined = await desk.register.join(rfc("Bob"))

    assert (joined.message, joined.verified) == ("Successfully Connected!", False)
    assert desk.register.roll.mute == {"Bob"}


async def test_a_join_is_durable_when_it_is_answered(desk: Desk) -> None:
    await desk.register.join(ALICE.join("alice", "#scans"))

    assert "alice" in desk.store.rows


async def test_a_join_that_could_not_be_written_never_happened(desk: Desk) -> None:
    await desk.register.join(ALICE.join("alice", "#old"))
    desk.store.broken = True

    with pytest.raises(OSError, match="disk full"):
        await desk.register.join(ALICE.join("alice", "#new", version=START + 1))
    with pytest.raises(OSError, match="disk full"):
        await desk.register.join(rfc("Bob"))

    assert desk.found("#old") == {"alice"}
    assert desk.found("#new") == set()
    assert len(desk.register.roll) == 1


async def test_a_newer_record_replaces_the_tags(desk: Desk) -> None:
    await desk.register.join(ALICE.join("alice", "#old", "#both"))
    await desk.register.join(ALICE.join("alice", "#both", "#new", version=START + 1))

    assert desk.register.roll.tags.words() == ["#both", "#new"]


@pytest.mark.parametrize(
    ("join", "problem"),
    [
        (MALLORY.join("alice", version=START + 9), NodeIdTaken),
        (rfc("alice", "http://node.example"), NodeIdTaken),
        (ALICE.join("alice", "#scans"), StaleRecord),
        (ALICE.join("alice", "#other", version=START - 9), StaleRecord),
        (ALICE.join("alice", version=START + 3600), StaleRecord),
        (ALICE.join("alice", version=START - 99, lives=98), Replayed),
        (ALICE.join("alice", version=START + 1, address="http://inside.example"), AddressRefused),
    ],
    ids=["another-key", "unsigned", "replay", "older", "from-the-future", "expired", "inside"],
)
async def test_a_signed_member_is_displaced_by_nothing_but_its_own_newer_record(
    join: Join, problem: type[GridError], desk: Desk
) -> None:
    await desk.register.join(ALICE.join("alice", "#scans"))

    with pytest.raises(problem):
        await desk.register.join(join)

    assert desk.found("#scans") == {"alice"}
    listed = desk.register.roll.get("alice")
    assert listed
    assert listed.claim.signer == ALICE.id


async def test_a_record_of_another_node_or_address_is_refused(desk: Desk) -> None:
    signed = ALICE.join("alice")

    with pytest.raises(BadRequest, match="another node"):
        await desk.register.join(Join("bob", signed.node_address, signed.record))
    with pytest.raises(BadRequest, match="another node"):
        await desk.register.join(Join("alice", "http://elsewhere.example", signed.record))
    assert len(desk.register.roll) == 0


async def test_a_record_signed_by_another_key_than_it_names_is_refused(desk: Desk) -> None:
    forger = Key(3)
    forger.id = ALICE.id

    with pytest.raises(BadSignature):
        await desk.register.join(forger.join("alice"))


async def test_unsigned_joins_are_refused_where_the_operator_says_so() -> None:
    with pytest.raises(UnsignedJoinRefused):
        await Desk(allow_unsigned=False).register.join(rfc("Bob"))


async def test_an_unsigned_id_is_taken_at_another_address_and_renewed_at_its_own(desk: Desk) -> None:
    await desk.register.join(rfc("Bob"))

    with pytest.raises(NodeIdTaken, match="This ID has already been registered"):
        await desk.register.join(rfc("Bob", "http://other.example"))
    assert (await desk.register.join(rfc("Bob"))).state == "joining"


async def test_an_unsigned_id_gives_way_to_a_signed_join(desk: Desk) -> None:
    await desk.register.join(rfc("alice"))

    assert (await desk.register.join(ALICE.join("alice", "#scans"))).verified
    assert desk.register.roll.mute == set()


async def test_an_unsigned_id_that_is_offline_may_be_taken(desk: Desk) -> None:
    await desk.register.join(rfc("Bob"))
    desk.pass_time(91)

    await desk.register.join(rfc("Bob", "http://other.example"))

    assert desk.state("Bob") == "joining"


async def test_a_full_gateway_takes_nobody_new_but_keeps_its_members() -> None:
    desk = Desk(capacity=1)
    await desk.register.join(ALICE.join("alice"))

    with pytest.raises(Full):
        await desk.register.join(rfc("Bob"))
    await desk.register.join(ALICE.join("alice", version=START + 1))


# --- leases and checks --------------------------------------------------------------------------


async def test_a_renewed_lease_keeps_a_node_that_no_check_can_reach(desk: Desk) -> None:
    await desk.register.join(ALICE.join("alice", "#scans"))
    listed = desk.register.roll.get("alice")
    assert listed

    for _ in range(10):
        desk.register.renew(Renew("alice"), ALICE.id)
        desk.pass_time(60)
        desk.register.silent(listed)

    assert desk.state("alice") == "online"


async def test_a_node_passes_through_every_state(desk: Desk) -> None:
    states = []
    await desk.register.join(rfc("Bob"))
    listed = desk.register.roll.get("Bob")
    assert listed

    def note() -> None:
        states.append(desk.state("Bob"))

    note()
    desk.register.answered(listed, 0.01, busy=False)
    note()
    desk.register.answered(listed, 0.01, busy=True)
    note()
    for _ in range(3):
        desk.register.silent(listed)
        note()
    desk.pass_time(GRACE + 91)
    note()

    assert states == ["joining", "online", "busy", "suspect", "suspect", "offline", None]
    assert listed.member.state.value == "expired"


async def test_a_lease_that_is_not_renewed_ends(desk: Desk) -> None:
    await desk.register.join(ALICE.join("alice", "#scans"))

    desk.pass_time(89)
    assert desk.found("#scans") == {"alice"}
    desk.pass_time(2)
    assert desk.state("alice") == "offline"
    assert desk.found("#scans") == set()


async def test_an_offline_node_that_renews_is_found_again_and_ends_on_time(desk: Desk) -> None:
    await desk.register.join(ALICE.join("alice", "#scans"))
    desk.pass_time(91)

    desk.register.renew(Renew("alice", busy=True), ALICE.id)
    assert desk.state("alice") == "busy"
    assert desk.found("#scans") == {"alice"}
    desk.pass_time(91)
    assert desk.state("alice") == "offline"


async def test_only_the_members_own_key_renews(desk: Desk) -> None:
    await desk.register.join(ALICE.join("alice"))
    await desk.register.join(rfc("Bob"))

    for node_id, caller in [("alice", MALLORY.id), ("alice", None), ("Bob", None), ("nobody", ALICE.id)]:
        with pytest.raises(NotAMember):
            desk.register.renew(Renew(node_id), caller)


async def test_no_lease_outlives_the_record(desk: Desk) -> None:
    joined = await desk.register.join(ALICE.join("alice", "#scans", lives=60))
    listed = desk.register.roll.get("alice")
    assert listed
    desk.pass_time(61)
    desk.register.answered(listed, 0.01, busy=False)

    assert joined.lease == 60
    assert desk.state("alice") == "offline"
    with pytest.raises(NotAMember, match="expired"):
        desk.register.renew(Renew("alice"), ALICE.id)


async def test_a_forgotten_members_id_stays_with_its_key_for_a_month(desk: Desk) -> None:
    await desk.register.join(ALICE.join("alice"))
    desk.pass_time(91)
    desk.pass_time(GRACE)
    assert desk.state("alice") is None

    with pytest.raises(NodeIdTaken):
        await desk.register.join(MALLORY.join("alice", version=desk.clock()))
    desk.pass_time(RESERVED + 1)
    await desk.register.join(MALLORY.join("alice", version=desk.clock()))


# --- leaving ------------------------------------------------------------------------------------

HERE = Leave("alice", "http://node.example")


async def test_a_member_leaves_at_its_own_word_and_at_once(desk: Desk) -> None:
    await desk.register.join(ALICE.join("alice", "#scans"))

    await desk.register.leave(HERE, ALICE.id, owner=False)

    assert desk.found("#scans") == set()
    assert desk.store.rows == {}


async def test_an_old_record_does_not_bring_back_who_left(desk: Desk) -> None:
    join = ALICE.join("alice")
    await desk.register.join(join)
    await desk.register.leave(HERE, ALICE.id, owner=False)

    register = await desk.restarted()
    with pytest.raises(StaleRecord):
        await register.join(join)
    with pytest.raises(NodeIdTaken):
        await register.join(rfc("alice"))
    await register.join(ALICE.join("alice", version=START + 1))


@pytest.mark.parametrize(
    ("leave", "caller", "problem"),
    [
        (HERE, None, NotAuthenticated),
        (HERE, MALLORY.id, NotAllowed),
        (Leave("alice", "http://elsewhere.example"), ALICE.id, NotAMember),
        (Leave("nobody", "http://node.example"), None, NotAMember),
    ],
)
async def test_nobody_else_takes_a_signed_member_off(
    leave: Leave, caller: str | None, problem: type[GridError], desk: Desk
) -> None:
    await desk.register.join(ALICE.join("alice", "#scans"))

    with pytest.raises(problem):
        await desk.register.leave(leave, caller, owner=False)
    assert desk.found("#scans") == {"alice"}


async def test_the_gateways_owner_may_take_anyone_off(desk: Desk) -> None:
    await desk.register.join(ALICE.join("alice"))

    await desk.register.leave(HERE, None, owner=True)

    assert desk.state("alice") is None


async def test_an_unsigned_member_leaves_by_its_two_fields(desk: Desk) -> None:
    await desk.register.join(rfc("Bob"))

    await desk.register.leave(Leave("Bob", "http://rfc.example"), None, owner=False)
    await desk.register.join(rfc("Bob", "http://other.example"))


# --- restarts -----------------------------------------------------------------------------------


async def test_members_survive_a_restart_as_suspects_with_a_lease_to_be_heard_in(desk: Desk) -> None:
    await desk.register.join(ALICE.join("alice", "#scans"))
    await desk.register.join(rfc("Bob"))
    desk.register.renew(Renew("alice"), ALICE.id)
    await desk.register.flush()
    desk.clock.passes(3600)

    register = await desk.restarted()

    assert [listed.member.state.value for listed in register.roll] == ["suspect", "suspect"]
    assert register.roll.tags.having_all(["#scans"]) == {"alice"}
    assert register.renew(Renew("alice"), ALICE.id).state == "online"
    desk.clock.passes(91)
    register.lapse()
    assert [listed.member.state.value for listed in register.roll] == ["offline", "offline"]


async def test_who_was_offline_is_offline_after_a_restart(desk: Desk) -> None:
    await desk.register.join(ALICE.join("alice"))
    desk.pass_time(91)
    await desk.register.flush()

    register = await desk.restarted()

    assert [listed.member.state.value for listed in register.roll] == ["offline"]


async def test_a_free_id_leaves_no_row_behind(desk: Desk) -> None:
    await desk.register.join(ALICE.join("alice"))
    for seconds in (91, GRACE, RESERVED):
        desk.pass_time(seconds)
        await desk.register.flush()

    assert desk.store.rows == {}
    assert desk.store.reserved == {}


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("join"), st.sampled_from([ALICE, MALLORY]), st.integers(0, 3)),
        st.tuples(st.sampled_from(["rfc", "leave", "renew", "answered", "silent", "restart"])),
        st.tuples(st.just("time"), st.sampled_from([10.0, 91.0, GRACE])),
    ),
    max_size=15,
)


@given(STEPS)
async def test_whatever_happens_an_id_stays_with_its_key_and_the_index_with_the_roll(steps: list[tuple]) -> None:  # type: ignore[type-arg]
    desk, owner = Desk(), None
    for verb, *rest in steps:
        with suppress(GridError):
            await take(desk, verb, rest)
        listed = desk.register.roll.get("x")
        signer = listed.claim.signer if listed else None
        assert owner is None or signer in {None, owner}
        assert owner is None or listed is None or signer == owner
        owner = owner or signer
        assert desk.found("#t") == ({"x"} if listed and listed.found and listed.claim.tags else set())
        assert desk.register.roll.mute == ({"x"} if listed and listed.found and not signer else set())


async def take(desk: Desk, verb: str, rest: list) -> None:  # type: ignore[type-arg]
    register, listed = desk.register, desk.register.roll.get("x")
    if verb == "join":
        key, later = rest
        await register.join(key.join("x", "#t", version=desk.clock() + later))
    elif verb == "rfc":
        await register.join(rfc("x"))
    elif verb == "leave":
        await register.leave(Leave("x", "http://node.example"), ALICE.id, owner=False)
    elif verb == "renew":
        register.renew(Renew("x"), ALICE.id)
    elif verb == "time" and sum(rest) < RESERVED:
        desk.pass_time(rest[0])
    elif verb == "restart":
        await register.flush()
        desk.register = await desk.restarted()
    elif listed and verb == "answered":
        register.answered(listed, 0.01, busy=False)
    elif listed and verb == "silent":
        register.silent(listed)
