"""Who may find, read and train on what: over HTTP, as an account, as a member of a group, as nobody."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import ClientSession

from grid.client.calls import Calls
from grid.client.datasets import AsyncDataset, all_datasets
from grid.crypto.identity import Identity
from grid.learning.tensors import Layout, TensorSpec, header_bytes
from grid.transport.auth import OWNER
from grid.wire import node as wire
from grid.wire.budgets import SetBudget
from grid.wire.directory import Tags
from grid.wire.permissions import CHANGE_DATASET, MOCK, PERMISSIONS, PERMIT, DatasetChange, Permit
from grid.wire.problems import (
    BudgetSpent,
    DatasetNotFound,
    DatasetRefused,
    GridError,
    NotAllowed,
    NotFound,
    RunRefused,
)
from tests.grid_of_nodes import ANode, Learner, Scientist, add_dataset, blobs_of, quorum

StartNode = Callable[..., Awaitable[ANode]]

OLGA, SUE, BOB, EVE = (Identity.from_seed(letter * 32) for letter in (b"o", b"s", b"b", b"e"))
SECRET: Tags = ("#rare-disease",)


@pytest.fixture
async def ann(start_node: StartNode) -> ANode:
    """A node with two datasets, an owner, and two accounts of which one is in a group."""
    node = await start_node("ann", Learner())
    await add_dataset(node.open, 20, "rare", SECRET)
    house = node.open.means.house
    await house.people.create(OWNER, "olga", keys=(OLGA.id,))
    await house.groups.put("heart")
    for name, key in (("sue", SUE), ("bob", BOB)):
        await house.people.create(OWNER, name, role="User", keys=(key.id,))
    await house.groups.join("heart", "sue")
    return node


class Caller:
    """Somebody who calls a node."""

    def __init__(self, node: ANode, connections: ClientSession, identity: Identity) -> None:
        self.node, self.calls = node, Calls(connections, identity=identity)

    async def finds(self) -> list[str]:
        return [info.name for info in await all_datasets(self.calls, self.node.address, self.node.identity.public)]

    async def say(self, action: Any, allow: bool | None, **whom: str) -> None:
        await self.calls.call(self.node.address, PERMIT, Permit(action, allow, **whom), sign=True, name="rare")

    async def change(self, **what: Any) -> None:
        await self.calls.call(self.node.address, CHANGE_DATASET, DatasetChange(**what), sign=True, name="rare")

    async def reads(self, tensor: str = "features", name: str = "rare") -> str:
        """The slug of what keeps it from reading; empty: nothing does."""
        try:
            async with self.calls.download(
                self.node.address, wire.TENSOR, peer=self.node.identity.public, name=name, tensor=tensor
            ) as (size, blocks):
                assert size == len(b"".join([block async for block in blocks]))
        except GridError as error:
            return error.slug
        return ""


@pytest.fixture
def who(ann: ANode, connections: ClientSession) -> Callable[[Identity], Caller]:
    """Makes callers."""
    return lambda identity: Caller(ann, connections, identity)


async def test_public_is_downloaded_by_accounts_private_is_found_hidden_is_not_there(
    who: Callable[[Identity], Caller], ann: ANode
) -> None:
    olga, sue, eve = who(OLGA), who(SUE), who(EVE)

    assert await sue.finds() == await eve.finds() == ["pulse", "rare"]
    assert await sue.reads() == await eve.reads() == "not-allowed"
    await olga.change(visibility="public")
    assert (await sue.reads(), await eve.reads()) == ("", "not-allowed")
    await olga.change(visibility="hidden")
    assert await sue.finds() == await eve.finds() == ["pulse"]
    assert await sue.reads() == await eve.reads() == await sue.reads(name="nothing") == "dataset-not-found"
    assert await olga.reads() == ""


async def test_what_one_may_not_find_is_in_no_list_no_tag_and_no_error(
    who: Callable[[Identity], Caller], ann: ANode, connections: ClientSession
) -> None:
    await who(OLGA).change(visibility="hidden", description="of one patient")
    anyone, eve = Calls(connections), who(EVE).calls

    assert await anyone.call(ann.address, wire.DATASET_TAGS) == ("#pulse",)
    assert not (await anyone.call(ann.address, wire.HOLDS, wire.Query(SECRET))).content
    said = []
    for name in ("rare", "nothing"):
        for endpoint in (wire.DATASET, MOCK):
            with pytest.raises(DatasetNotFound) as refused:
                await eve.call(ann.address, endpoint, sign=True, name=name)
            said.append(refused.value.detail.replace(name, "it"))
    assert len(set(said)) == 1
    with pytest.raises(NotAllowed, match="upload data"):
        await eve.call(ann.address, PERMISSIONS, sign=True, name="rare")


async def test_a_word_about_a_user_goes_before_that_about_a_group_and_this_before_the_tensors(
    who: Callable[[Identity], Caller],
) -> None:
    olga, sue, bob = who(OLGA), who(SUE), who(BOB)

    await olga.say("read", True, group="heart")
    assert (await sue.reads(), await bob.reads()) == ("", "not-allowed")
    await olga.say("read", True, tensor="features")
    assert (await bob.reads("features"), await bob.reads("target")) == ("", "not-allowed")
    await olga.say("read", False, group="heart", tensor="features")
    assert (await sue.reads("features"), await sue.reads("target")) == ("not-allowed", "")
    await olga.say("read", True, user="sue", tensor="features")
    assert await sue.reads("features") == ""
    await olga.say("read", False, user="sue")
    assert (await sue.reads("features"), await sue.reads("target")) == ("", "not-allowed")
    for unsaid in ({"user": "sue"}, {"user": "sue", "tensor": "features"}, {"group": "heart"}):
        await olga.say("read", None, **unsaid)
    assert await sue.reads("target") == "not-allowed"
    with pytest.raises(NotFound):
        await olga.say("read", None, user="sue")


async def test_a_tensor_that_one_may_not_find_is_not_in_the_description(
    who: Callable[[Identity], Caller], ann: ANode
) -> None:
    await who(OLGA).say("find", False, tensor="target")

    told = await who(EVE).calls.call(ann.address, wire.DATASET, sign=True, name="rare")

    assert [tensor.name for tensor in told.tensors] == ["features"]
    assert (told.target, told.classes) == (None, ())
    assert await who(EVE).reads("target") == "dataset-not-found"
    assert len((await who(OLGA).calls.call(ann.address, wire.DATASET, sign=True, name="rare")).tensors) == 2


async def test_a_tensor_that_one_may_not_find_is_not_learned_from_asked_or_in_the_mock(
    who: Callable[[Identity], Caller], ann: ANode, connections: ClientSession
) -> None:
    """Whether it is there is told by no refusal: it is refused in the words for one that never was."""
    olga, permissions, access = who(OLGA), ann.open.means.permissions, ann.open.means.access
    await olga.change(visibility="public")
    await olga.say("find", False, tensor="target")
    sue = access.asker_of(SUE.id)

    said = []
    for tensor in ("target", "nothing"):
        with pytest.raises(DatasetNotFound) as refused:
            permissions.check_train(sue, "rare", ("features", tensor))
        said.append(refused.value.detail.replace(tensor, "it"))
    assert len(set(said)) == 1
    permissions.check_train(sue, "rare", ("features",))
    with pytest.raises(NotAllowed) as closed:
        permissions.check_ask(sue, "rare")
    assert "target" not in closed.value.detail
    with pytest.raises(RunRefused, match="has no tensor target"):
        await (await Scientist(connections, SUE).start(ann, [ann], quorum=quorum(1), tags=SECRET)).result()
    layout = Layout([TensorSpec("features", "F32", (4, 3)), TensorSpec("target", "F32", (4, 1))])
    draft = blobs_of(ann.open).create()
    draft.write(header_bytes(layout))
    draft.write(bytes(layout.size))
    await draft.commit()
    await olga.change(mock=draft.digest)
    with pytest.raises(NotFound, match="no mock that its owner made"):
        permissions.mock_of(sue, "rare")
    assert permissions.mock_of(access.asker_of(OLGA.id), "rare") == draft.digest


async def test_permissions_survive_a_restart_and_go_with_their_dataset(
    who: Callable[[Identity], Caller], ann: ANode
) -> None:
    olga = who(OLGA)
    await olga.say("read", True, user="sue", tensor="features")
    told = await olga.calls.call(ann.address, PERMISSIONS, sign=True, name="rare")
    assert told.permissions == (Permit("read", True, user="sue", tensor="features"),)
    await olga.calls.call(ann.address, wire.REMOVE_DATASET, sign=True, name="rare")
    with pytest.raises(DatasetNotFound):
        await olga.calls.call(ann.address, PERMISSIONS, sign=True, name="rare")
    await add_dataset(ann.open, 20, "rare", SECRET)

    assert await who(SUE).reads() == "not-allowed"


@pytest.mark.parametrize(
    "whom", [{"user": "sue", "group": "heart"}, {}, {"tensor": "nothing"}, {"user": "sue", "tensor": "nothing"}]
)
async def test_what_means_nothing_is_refused(who: Callable[[Identity], Caller], whom: dict[str, str]) -> None:
    with pytest.raises(DatasetRefused):
        await who(OLGA).say("read", True, **whom)


async def test_the_values_of_a_dataset_with_a_budget_are_not_downloaded(
    who: Callable[[Identity], Caller], ann: ANode
) -> None:
    await who(OLGA).change(visibility="public")
    await ann.open.means.ledger.set(SetBudget("rare", 1.0))

    assert (await who(SUE).reads(), await who(OLGA).reads()) == ("budget-spent", "")
    with pytest.raises(BudgetSpent):
        await AsyncDataset(
            who(SUE).calls, "ann", ann.address, ann.identity.id, ann.open.means.catalogue.get("rare")
        ).tensor("features")


async def test_an_account_trains_where_it_is_permitted(ann: ANode, connections: ClientSession) -> None:
    sue, olga = Scientist(connections, SUE), Caller(ann, connections, OLGA)

    with pytest.raises(RunRefused, match="you may not learn from features, target of rare"):
        await (await sue.start(ann, [ann], rounds=1, quorum=quorum(1), tags=SECRET)).result()
    await olga.say("train", True, group="heart")
    run = await sue.start(ann, [ann], rounds=1, quorum=quorum(1), tags=SECRET)
    await run.result()
    await olga.say("train", False, user="sue", tensor="target")
    with pytest.raises(RunRefused, match="you may not learn from target of rare"):
        await (await sue.start(ann, [ann], rounds=1, quorum=quorum(1), tags=SECRET)).result()
    with pytest.raises(NotAllowed, match="ask its owner for an account"):
        await Scientist(connections, EVE).start(ann, [ann], rounds=1, quorum=quorum(1), tags=SECRET)


async def test_a_trusted_key_trains_on_what_is_found_unless_its_account_is_told_not_to(
    ann: ANode, connections: ClientSession
) -> None:
    bob, olga = Scientist(connections, BOB), Caller(ann, connections, OLGA)
    await ann.open.means.access.trust(BOB.id)

    await (await bob.start(ann, [ann], rounds=1, quorum=quorum(1), tags=SECRET)).result()
    await olga.say("train", False, user="bob")
    with pytest.raises(RunRefused, match="you may not learn from"):
        await (await bob.start(ann, [ann], rounds=1, quorum=quorum(1), tags=SECRET)).result()
    await olga.say("train", None, user="bob")
    await olga.change(visibility="hidden")
    with pytest.raises(RunRefused, match="no dataset here has the tags"):
        await (await bob.start(ann, [ann], rounds=1, quorum=quorum(1), tags=SECRET)).result()


async def test_a_mock_is_its_owners_or_made_from_the_description(who: Callable[[Identity], Caller], ann: ANode) -> None:
    info = ann.open.means.catalogue.get("rare")
    seen = AsyncDataset(who(EVE).calls, "ann", ann.address, ann.identity.id, info)

    made = await seen.mock(rows=7)
    assert {name: (str(array.dtype), array.shape) for name, array in made.items()} == {
        tensor.name: (tensor.dtype, (7, *tensor.shape[1:])) for tensor in info.tensors
    }
    assert (await seen.mock())["features"].shape[0] == 20

    def file(rows: int, width: int = 3) -> Layout:
        return Layout([TensorSpec("features", "F32", (rows, width)), TensorSpec("target", "F32", (rows, 1))])

    olga = who(OLGA)
    for layout, refused in ((file(4), False), (file(4, 9), True)):
        draft = blobs_of(ann.open).create()
        draft.write(header_bytes(layout))
        draft.write(bytes(layout.size))
        await draft.commit()
        if refused:
            with pytest.raises(DatasetRefused, match="a mock has"):
                await olga.change(mock=draft.digest)
        else:
            await olga.change(mock=draft.digest)
    assert (await seen.mock())["features"].tolist() == [[0.0] * 3] * 4
    await olga.change(mock=None)
    assert (await seen.mock(rows=5))["features"].shape == (5, 3)


async def test_pages_are_as_long_as_asked_for_and_skip_what_is_hidden(
    who: Callable[[Identity], Caller], ann: ANode
) -> None:
    for n in range(5):
        await add_dataset(ann.open, 10, f"set-{n}", ("#x",))
    await ann.open.means.catalogue.change("set-1", visibility="hidden")
    calls = who(EVE).calls

    async def page(after: str, limit: int) -> tuple[list[str], bool]:
        found = await calls.call(ann.address, wire.DATASETS, query=wire.Page(after, limit), sign=True)
        return [info.name for info in found.datasets], found.more

    assert await page("", 3) == (["pulse", "rare", "set-0"], True)
    assert await page("set-0", 3) == (["set-2", "set-3", "set-4"], False)
    assert await page("set-0", 2) == (["set-2", "set-3"], True)
    assert await page("zzz", 2) == ([], False)
