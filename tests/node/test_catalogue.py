from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from grid.learning.tensors import Layout, TensorSpec, header_bytes
from grid.node.catalogue import MAX_TAGS, Catalogue, check_info, tidy_tags
from grid.store.blobs import Blobs
from grid.store.database import Database
from grid.wire.node import Column, DatasetInfo, TensorInfo
from grid.wire.problems import DatasetExists, DatasetNotFound, DatasetRefused

FEATURES = TensorInfo(name="features", dtype="float32", shape=(3, 2))
TARGET = TensorInfo(name="target", dtype="int64", shape=(3,))
SCANS = DatasetInfo(name="scans", tags=("#x", "#mri"), examples=3, tensors=(FEATURES, TARGET), target="target")


class Shelf:
    """A catalogue on a directory, and how often it told of a change."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.changes = folder, 0
        self.database, self.blobs = Database(folder / "node.db", "node"), Blobs(folder / "blobs")
        self.catalogue = Catalogue(self.database, self.blobs, lambda: 1000.0, self.changed)

    def changed(self) -> None:
        self.changes += 1

    async def file(self, filling: bytes = b"", rows: int = 3) -> str:
        layout = Layout([TensorSpec("features", "F32", (rows, 2)), TensorSpec("target", "I64", (rows,))])
        draft = self.blobs.create()
        draft.write(header_bytes(layout))
        draft.write(filling.ljust(layout.size, b"\0"))
        await draft.commit()
        return draft.digest


@pytest.fixture
async def shelf(tmp_path: Path) -> AsyncIterator[Shelf]:
    shelf = Shelf(tmp_path)
    yield shelf
    await shelf.database.close()


async def test_what_was_added_is_told_and_survives_a_restart(shelf: Shelf) -> None:
    added = await shelf.catalogue.add(SCANS, await shelf.file())

    assert added == replace(SCANS, created=1000.0)
    assert shelf.changes == 1
    again = Catalogue(shelf.database, shelf.blobs, lambda: 2000.0)
    assert again.list() == (added,) == shelf.catalogue.list()
    assert again.get("scans") == added
    assert again.tags() == ("#mri", "#x")
    assert again.path_of("scans").is_file()


async def test_one_dataset_must_have_all_the_tags(shelf: Shelf) -> None:
    await shelf.catalogue.add(SCANS, await shelf.file())
    await shelf.catalogue.add(replace(SCANS, name="other", tags=("#y",)), await shelf.file(b"2"))

    holds = shelf.catalogue.holds
    assert [holds(q) for q in (["#x"], ["#x", "#mri"], ["#y"], ["#x", "#y"], ["x"], ["#X"], [])] == [
        *(True, True, True),
        *(False, False, False, False),
    ]


async def test_of_several_the_largest_is_found(shelf: Shelf) -> None:
    large = tuple(replace(tensor, shape=(5, *tensor.shape[1:])) for tensor in SCANS.tensors)
    await shelf.catalogue.add(SCANS, await shelf.file())
    await shelf.catalogue.add(replace(SCANS, name="more", examples=5, tensors=large), await shelf.file(rows=5))

    found = shelf.catalogue.find(("#x",))
    assert found is not None
    assert found.name == "more"
    assert shelf.catalogue.find(("#unheard",)) is None


async def test_a_name_is_given_once(shelf: Shelf) -> None:
    digest = await shelf.file()
    await shelf.catalogue.add(SCANS, digest)

    with pytest.raises(DatasetExists, match="scans"):
        await shelf.catalogue.add(SCANS, digest)
    assert shelf.changes == 1


async def test_a_removed_dataset_and_its_file_are_gone(shelf: Shelf) -> None:
    await shelf.catalogue.add(SCANS, await shelf.file())
    path = shelf.catalogue.path_of("scans")
    await shelf.catalogue.remove("scans")

    assert not path.exists()
    assert shelf.catalogue.list() == shelf.catalogue.tags() == ()
    assert shelf.changes == 2
    for lost in (shelf.catalogue.get, shelf.catalogue.path_of):
        with pytest.raises(DatasetNotFound):
            lost("scans")
    with pytest.raises(DatasetNotFound):
        await shelf.catalogue.remove("scans")


async def test_a_file_stays_while_another_dataset_is_the_same(shelf: Shelf) -> None:
    digest = await shelf.file()
    await shelf.catalogue.add(SCANS, digest)
    await shelf.catalogue.add(replace(SCANS, name="twin"), digest)
    await shelf.catalogue.remove("scans")

    assert shelf.catalogue.path_of("twin").is_file()


@pytest.mark.parametrize(
    ("why", "change"),
    [
        ("cannot be a name", {"name": "../etc"}),
        ("cannot be a name", {"name": ""}),
        ("cannot be a tag", {"tags": ("x" * 200,)}),
        ("description", {"description": "x" * 5000}),
        ("at most 4000000", {"classes": ("x" * 1000,) * 5000}),
        ("other tensors", {"tensors": (FEATURES,)}),
        ("other tensors", {"tensors": (FEATURES, replace(TARGET, dtype="int32"))}),
        ("other tensors", {"tensors": (FEATURES, TARGET, replace(TARGET, name="more"))}),
        ("as many rows", {"examples": 4}),
        ("the target 'y'", {"target": "y"}),
        ("length <= 1024", {"tags": tuple(f"#{n}" for n in range(MAX_TAGS + 1))}),
    ],
)
async def test_a_description_that_is_not_of_the_file_is_refused(shelf: Shelf, why: str, change: dict[str, Any]) -> None:
    digest = await shelf.file()
    with pytest.raises(DatasetRefused, match=why):
        await shelf.catalogue.add(replace(SCANS, **change), digest)

    assert shelf.catalogue.list() == ()
    assert shelf.changes == 0


async def test_a_node_has_only_so_many_tags(shelf: Shelf) -> None:
    digest = await shelf.file()
    await shelf.catalogue.add(replace(SCANS, tags=tuple(f"#{n}" for n in range(MAX_TAGS))), digest)

    with pytest.raises(DatasetRefused, match="1024 different tags"):
        await shelf.catalogue.add(replace(SCANS, name="one-more", tags=("#new",)), digest)


async def test_a_digest_that_is_no_file_of_tensors_is_refused(shelf: Shelf) -> None:
    draft = shelf.blobs.create()
    draft.write(b"nothing of the kind")
    await draft.commit()

    for digest in (draft.digest, "0" * 64):
        with pytest.raises(DatasetRefused, match="no file of tensors"):
            await shelf.catalogue.add(SCANS, digest)


def test_tags_are_single_words_each_once_in_their_order() -> None:
    assert tidy_tags([" #b", "#a", "#b", "#c  #a", ""]) == ("#b", "#a", "#c")
    assert tidy_tags(["x", "#x", "X"]) == ("x", "#x", "X")


def test_a_good_description_stays_as_it_is() -> None:
    info = replace(SCANS, columns=(Column("age", "number", "features"),), classes=("0", "1"))

    assert check_info(info) == info


async def test_a_tensor_comes_in_blocks(shelf: Shelf) -> None:
    rows = 400_000
    filling = bytes(range(256)) * (rows * 16 // 256)
    tensors = tuple(replace(tensor, shape=(rows, *tensor.shape[1:])) for tensor in SCANS.tensors)
    await shelf.catalogue.add(replace(SCANS, examples=rows, tensors=tensors), await shelf.file(filling, rows))

    size, blocks = shelf.catalogue.tensor_blocks("scans", "features")
    received = [bytes(block) async for block in blocks]
    assert size == rows * 8
    assert b"".join(received) == filling[rows * 8 :]  # after the wider target
    assert len(received) > 1


async def test_a_tensor_that_is_not_there_is_not_found(shelf: Shelf) -> None:
    await shelf.catalogue.add(SCANS, await shelf.file())

    with pytest.raises(DatasetNotFound, match="no tensor labels; there are target, features"):
        shelf.catalogue.tensor_blocks("scans", "labels")
    with pytest.raises(DatasetNotFound):
        shelf.catalogue.tensor_blocks("none", "features")
