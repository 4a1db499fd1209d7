"""The repository of models: who sees what, what never changes, and what a restart leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from hashlib import sha256
from pathlib import Path

import pytest
from aiohttp import ClientSession

from grid.client.calls import Calls
from grid.node.models import Models
from grid.store import models as store
from grid.store.blobs import Blobs
from grid.store.database import Database
from grid.transport.auth import OWNER, Caller
from grid.wire import models as wire
from grid.wire.problems import ModelExists, ModelNotFound, ModelRefused, NotAllowed
from grid.wire.ranges import Piece
from tests.grid_of_nodes import ANode, Scientist, plan_of


def somebody(name: str, *groups: str) -> Caller:
    return Caller(None, None, owner=False, kind="token", account=name, groups=frozenset(groups))


ANN, BOB, EVE = somebody("ann"), somebody("bob", "clinics"), somebody("eve")
PLAN = plan_of().bundle()


async def whole(data: bytes) -> AsyncIterator[bytes]:
    yield data


@pytest.fixture
async def models(tmp_path: Path) -> AsyncIterator[Models]:
    async with Database(tmp_path / "node.db", "node") as database:
        made = Models(database, Blobs(tmp_path / "models"), lambda: 1000.0)
        await made.put_model(ANN, "lung", wire.NewModel("Finds nodules"))
        await made.put_variant(ANN, "lung", "small", wire.NewVariant(hyperparameters={"lr": "0.1"}))
        yield made


async def with_checkpoints(models: Models, *names: str) -> None:
    for name in names:
        await models.put_checkpoint(ANN, "lung", "small", name, whole(PLAN))


async def test_a_new_model_is_seen_by_its_owner_and_the_nodes_alone(models: Models) -> None:
    assert [info.model for info in (await models.list(ANN, wire.ModelPage())).models] == ["lung"]
    assert (await models.model(OWNER, "lung")).owner == "ann"
    assert (await models.list(BOB, wire.ModelPage())).models == ()
    with pytest.raises(ModelNotFound):
        await models.model(BOB, "lung")
    with pytest.raises(ModelExists):  # the name is taken, and that is all that is said
        await models.put_model(BOB, "lung", wire.NewModel())


async def test_a_rule_lets_a_group_see_it_and_keeps_one_client_out(models: Models) -> None:
    await with_checkpoints(models, "first")
    await models.put_rule(ANN, "lung", "@clinics", wire.AccessRule())
    await models.put_rule(ANN, "lung", "eve", wire.AccessRule(sees=False))

    assert (await models.variant(BOB, "lung", "small")).checkpoints == ("first",)
    assert (await models.file(BOB, "lung", "small", "first")).size == len(PLAN)
    with pytest.raises(NotAllowed):
        await models.put_variant(BOB, "lung", "large", wire.NewVariant())
    with pytest.raises(NotAllowed):
        await models.rules(BOB, "lung")
    with pytest.raises(ModelNotFound):
        await models.file(EVE, "lung", "small", "first")
    assert (await models.drop_rule(ANN, "lung", "@clinics")).rules.keys() == {"eve"}
    with pytest.raises(ModelNotFound):
        await models.model(BOB, "lung")


async def test_what_a_checkpoint_is_never_changes(models: Models) -> None:
    await with_checkpoints(models, "first")

    assert (await models.variant(ANN, "lung", "small")).canonical == "first"
    with pytest.raises(ModelExists):
        await models.put_checkpoint(ANN, "lung", "small", "first", whole(plan_of(4).bundle()))
    with pytest.raises(ModelRefused, match="never change"):
        await models.put_variant(ANN, "lung", "small", wire.NewVariant(hyperparameters={"lr": "0.2"}))
    ahead = await models.put_variant(ANN, "lung", "small", wire.NewVariant(canonical="second", upgrade_to="large"))
    assert (ahead.canonical, ahead.upgrade_to) == ("second", "large")  # which may be still to come


@pytest.mark.parametrize("data", [b"PK\x03\x04" + bytes(100), b"\x80\x04" + bytes(100), PLAN[:-1], b"", bytes(100)])
async def test_what_is_no_file_of_tensors_is_refused_and_nothing_stays(models: Models, data: bytes) -> None:
    with pytest.raises(ModelRefused, match="no file of tensors"):
        await models.put_checkpoint(ANN, "lung", "small", "first", whole(data))

    assert (await models.variant(ANN, "lung", "small")).checkpoints == ()
    assert not [path for path in models._blobs.folder.rglob("*") if path.is_file()]


async def test_a_file_that_is_not_what_its_digest_names_is_refused(models: Models) -> None:
    with pytest.raises(ModelRefused, match="digest"):
        await models.put_checkpoint(ANN, "lung", "small", "first", whole(PLAN), Piece(sha256(b"").hexdigest()))


async def test_a_range_goes_from_the_older_to_the_newer_one(models: Models) -> None:
    await with_checkpoints(models, "c", "a", "b")

    def names(first: str, last: str) -> Callable[[store.sqlite3.Connection], list[str]]:
        return lambda c: [row.name for row in store.checkpoint_range(c, "lung", "small", first, last)]

    assert await models._db.read(names("c", "b")) == ["c", "a", "b"]
    assert await models._db.read(names("a", "a")) == ["a"]
    with pytest.raises(ModelRefused):
        await models._db.read(names("b", "c"))


async def test_a_file_goes_when_no_checkpoint_is_it_any_more(models: Models) -> None:
    await with_checkpoints(models, "first")
    await models.put_model(BOB, "heart", wire.NewModel())
    await models.put_variant(BOB, "heart", "small", wire.NewVariant())
    same = await models.put_checkpoint(BOB, "heart", "small", "copy", whole(PLAN))

    await models.remove_model(ANN, "lung")
    assert models.path(same).exists()
    await models.sweep()
    assert models.path(same).exists()
    await models.remove_model(BOB, "heart")
    assert not models.path(same).exists()


async def test_an_upload_that_came_to_nothing_is_swept_at_the_next_start(models: Models) -> None:
    draft = models._blobs.create()
    draft.write(PLAN)
    path = await draft.commit()

    await models.sweep()

    assert not path.exists()


async def test_of_two_who_name_a_checkpoint_alike_one_gets_it(models: Models) -> None:
    results = await asyncio.gather(
        *(models.put_checkpoint(ANN, "lung", "small", "first", whole(PLAN)) for _ in range(5)), return_exceptions=True
    )

    assert sum(not isinstance(each, BaseException) for each in results) == 1
    assert sum(isinstance(each, ModelExists) for each in results) == 4


async def test_models_over_http(start_node: Callable[..., Awaitable[ANode]], connections: ClientSession) -> None:
    node = await start_node("ann")
    owner = Calls(connections, token=await node.open.means.access.renew_token())
    stranger = Scientist(connections)
    where = {"model": "lung", "variant": "small"}
    await owner.call(node.address, wire.PUT_MODEL, wire.NewModel("Finds nodules"), model="lung")
    await owner.call(node.address, wire.PUT_VARIANT, wire.NewVariant(), **where)
    await owner.upload(node.address, wire.PUT_CHECKPOINT_FILE, whole(PLAN), checkpoint="first", **where)
    linked = wire.NewCheckpoint("https://example.org/second", {"loss": "0.3"})
    await owner.call(node.address, wire.PUT_CHECKPOINT, linked, checkpoint="second", **where)

    with pytest.raises(NotAllowed):
        await stranger.calls.call(node.address, wire.PUT_MODEL, wire.NewModel(), model="heart")
    with pytest.raises(ModelNotFound):
        await stranger.calls.call(node.address, wire.MODEL, model="lung")
    rules = await owner.call(node.address, wire.PUT_RULE, wire.AccessRule(), model="lung", subject="*")
    assert rules.rules == {"*": wire.AccessRule()}
    assert (await stranger.calls.call(node.address, wire.VARIANT, **where)).checkpoints == ("first", "second")
    async with stranger.calls.download(node.address, wire.CHECKPOINT_FILE, checkpoint="first", **where) as (_, blocks):
        assert b"".join([block async for block in blocks]) == PLAN
    with pytest.raises(ModelRefused, match="not here"):
        async with stranger.calls.download(node.address, wire.CHECKPOINT_FILE, checkpoint="second", **where):
            pass
