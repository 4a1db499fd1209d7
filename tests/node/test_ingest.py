from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grid.learning.tensors import read_header
from grid.node.ingest import Reading, Tensors, ingest, write_tensors
from grid.node.tables import BLOCK_CELLS, CsvTable
from grid.wire.node import DatasetInfo
from grid.wire.problems import DatasetRefused

Made = tuple[DatasetInfo, Tensors]


def read(path: Path, target: str | None = None, **how: Any) -> Made:
    return ingest(path, DatasetInfo(name="d"), Reading(target=target, **how))


@pytest.fixture
def csv(tmp_path: Path) -> Callable[..., Made]:
    def make(text: str | bytes, target: str | None = None, **how: Any) -> Made:
        path = tmp_path / "table.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read(path, target, **how)

    return make


@pytest.fixture
def npz(tmp_path: Path) -> Callable[..., Made]:
    def make(target: str | None = None, how: Reading | None = None, /, **arrays: Any) -> Made:
        np.savez_compressed(tmp_path / "a.npz", **arrays)
        return ingest(tmp_path / "a.npz", DatasetInfo(name="d"), how or Reading(target=target))

    return make


@pytest.fixture
def npy(tmp_path: Path) -> Callable[..., Made]:
    def make(array: Any, target: str | None = None, **how: Any) -> Made:
        np.save(tmp_path / "a.npy", array)
        return read(tmp_path / "a.npy", target, **how)

    return make


# --- tables ---------------------------------------------------------------------------------


def test_a_table_becomes_features_and_target(csv: Callable[..., Made]) -> None:
    info, tensors = csv("age,sex,ill\n40,f,yes\n51.5,m,no\n60,f,yes\n", "ill")

    assert tensors["features"].dtype == np.float32
    assert tensors["features"].tolist() == [[40, 0], [51.5, 1], [60, 0]]
    assert tensors["target"].dtype == np.int64
    assert tensors["target"].tolist() == [1, 0, 1]
    assert info.classes == ("no", "yes")
    assert (info.examples, info.target) == (3, "target")


def test_the_schema_says_where_each_column_went(csv: Callable[..., Made]) -> None:
    info, _ = csv("sex,ill,age\nf,1,40\nm,0,51\n", "ill")

    sex, ill, age = info.columns
    assert (sex.tensor, sex.position, sex.kind, sex.categories) == ("features", 0, "category", ("f", "m"))
    assert (age.tensor, age.position, age.kind, age.categories) == ("features", 1, "number", ())
    assert (ill.tensor, ill.kind, ill.categories) == ("target", "category", ())
    assert [(t.name, t.dtype, t.shape) for t in info.tensors] == [
        ("features", "float32", (2, 2)),
        ("target", "int64", (2,)),
    ]


def test_whole_numbers_are_their_own_codes_so_that_nodes_agree(csv: Callable[..., Made]) -> None:
    _, one = csv("x,y\n0,0\n0,1\n0,3\n", "y")
    info, other = csv("x,y\n0,3\n0,2\n0,3\n", "y")

    assert one["target"].tolist() == [0, 1, 3]
    assert other["target"].tolist() == [3, 2, 3]
    assert info.classes == ("0", "1", "2", "3")


def test_whole_numbers_below_zero_are_sorted_as_numbers(csv: Callable[..., Made]) -> None:
    info, tensors = csv("x,y\n0,-1\n0,10\n0,9\n0,-1.0\n", "y")

    assert info.classes == ("-1", "9", "10")
    assert tensors["target"].tolist() == [0, 2, 1, 0]


def test_given_classes_fix_their_order(csv: Callable[..., Made]) -> None:
    info, tensors = csv("x,y\n0,dog\n0,cat\n", "y", classes=("dog", "bird", "cat"))

    assert info.classes == ("dog", "bird", "cat")
    assert tensors["target"].tolist() == [0, 2]


def test_a_target_that_is_none_of_the_classes_is_refused(csv: Callable[..., Made]) -> None:
    with pytest.raises(DatasetRefused, match="'cow' is none of the classes dog, cat"):
        csv("x,y\n0,dog\n0,cow\n", "y", classes=("dog", "cat"))


def test_a_target_with_fractions_is_a_number(csv: Callable[..., Made]) -> None:
    info, tensors = csv("x,y\n0,1\n0,2.5\n", "y")

    assert (info.classes, tensors["target"].dtype) == ((), np.float32)
    assert tensors["target"].tolist() == [1, 2.5]


def test_regression_learns_whole_numbers_as_numbers(csv: Callable[..., Made]) -> None:
    info, tensors = csv("x,y\n0,1\n0,20000\n", "y", regression=True)

    assert (info.classes, tensors["target"].tolist()) == ((), [1, 20000])


def test_without_a_target_every_column_is_a_feature(csv: Callable[..., Made]) -> None:
    info, tensors = csv("x,y\n1,2\n3,4\n")

    assert info.target is None
    assert tensors["features"].tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    "text", ["x;y\n1;2\n", "x\ty\n1\t2\n", "\ufeffx,y\r\n1,2\r\n", ' x ,"y"\n 1,"2"\n\n', "x|y\n1|2"]
)
def test_tables_come_in_dialects(csv: Callable[..., Made], text: str) -> None:
    info, tensors = csv(text)

    assert [column.name for column in info.columns] == ["x", "y"]
    assert tensors["features"].tolist() == [[1, 2]]


def test_columns_can_be_left_out(csv: Callable[..., Made]) -> None:
    info, tensors = csv("name,x,y\nann,1,0\nbob,2,1\n", "y", drop=("name",))

    assert [column.name for column in info.columns] == ["x", "y"]
    assert tensors["features"].tolist() == [[1], [2]]


def test_many_rows_go_through_in_blocks(csv: Callable[..., Made]) -> None:
    rows, wide = 40, 2000
    line = ",".join(["0.5"] * wide)
    _, tensors = csv(",".join(f"c{i}" for i in range(wide)) + "\n" + f"{line}\n" * rows)

    assert tensors["features"].shape == (rows, wide)
    assert (tensors["features"] == 0.5).all()


def test_a_table_is_never_in_memory_whole(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,b,c,d\n" + "1,2,3,4\n" * 20_000)
    with path.open("rb") as file:
        rows = [len(block.places) for block in CsvTable(file).blocks()]

    assert sum(rows) == 20_000
    assert max(rows) * 4 <= BLOCK_CELLS


def test_progress_runs_from_nothing_to_all(tmp_path: Path) -> None:
    heard: list[float] = []
    path = tmp_path / "t.csv"
    path.write_text("x,y\n" + "1,2\n" * 50_000)
    ingest(path, DatasetInfo(name="d"), progress=heard.append)

    assert heard == sorted(heard)
    assert heard[-1] == pytest.approx(1.0)
    assert len(heard) > 4


BAD_TABLES = {
    "is empty": "",
    "must name the columns": "1,2\n3,4\n",
    "no rows": "x,y\n",
    "line 3 has 3 values, and the header 2 names": "x,y\n1,2\n1,2,3\n",
    "line 2 has 1 values": "x,y\n1\n",
    "column 'y': 1 missing values, the first in line 3; a target": "x,y\n1,0\n1,\n",
    "column 'y': 2 missing values, the first in line 2": "x,y\n1,NaN\n1,nan\n",
    r"column 'y': -?inf in line 3 is infinite": "x,y\n1,0\n1,-inf\n",
    "column 'x': 1 missing values, the first in line 3; fill them, or .* --drop 'x'": "x,y\n1,0\nNA,1\n",
    "column 'x': 1e.39 in line 2 is infinite, or too large": "x,y\n1e39,0\n",
    "2 columns are named 'x'": "x,x,y\n1,2,3\n",
    "column 2 has no usable name": "x,,y\n1,2,3\n",
    "no column 'y' to learn; there are a, b": "a,b\n1,2\n",
    "no column is left": "y\n1\n",
    "unexpected end of data": 'x,y\n1,"2\n',
    "line 3 is not UTF-8": b"x,y\n1,2\n1,\xff\n",
    "field larger than field limit": "x,y\n" + "1" * 200_000 + ",2\n",
    "more than 1024 whole numbers": "x,y\n" + "".join(f"1,{n * 7}\n" for n in range(2000)),
    "40 words in 40 rows": "x,y\n" + "".join(f"n{n},0\n" for n in range(40)),
    "more than 1024 different words; the first is 'n0' in line 2": "x,y\n" + "".join(f"n{n},0\n" for n in range(3000)),
}


@pytest.mark.parametrize(("why", "text"), BAD_TABLES.items(), ids=range(len(BAD_TABLES)))
def test_a_bad_table_is_refused_and_the_place_named(why: str, text: str | bytes, csv: Callable[..., Made]) -> None:
    with pytest.raises(DatasetRefused, match=why) as refused:
        csv(text, "y")

    assert "table.csv: " in refused.value.detail


def test_a_line_without_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b"x,y\n" + b"1" * (17 << 20))

    with pytest.raises(DatasetRefused, match="longer than"):
        read(path)


def test_a_code_with_an_underscore_is_no_number(csv: Callable[..., Made]) -> None:
    info, _ = csv("x,y\n2024_01,0\n2024_02,1\n", "y")

    assert info.columns[0].categories == ("2024_01", "2024_02")


def test_a_word_among_many_numbers_is_pointed_at(csv: Callable[..., Made]) -> None:
    lines = [f"{n}.5,0" for n in range(2000)]
    lines[70] = "1O,0"

    with pytest.raises(DatasetRefused, match="'1O' in line 72"):
        csv("x,y\n" + "\n".join(lines), "y")


def test_a_column_that_turns_to_words_late_has_all_its_words(csv: Callable[..., Made]) -> None:
    rows = 10_000
    info, tensors = csv("x,y\n" + "7,0\n" * rows + "a,0\n" * rows)

    assert info.columns[0].categories == ("7", "a")
    assert tensors["features"][:, 0].sum() == rows


def test_leaving_out_what_is_not_there_is_refused(csv: Callable[..., Made]) -> None:
    with pytest.raises(DatasetRefused, match="no column 'z' to leave out; there are x, y"):
        csv("x,y\n1,2\n", "y", drop=("z",))


def test_a_class_cannot_be_named_twice(csv: Callable[..., Made]) -> None:
    with pytest.raises(DatasetRefused, match="twice"):
        csv("x,y\n1,a\n", "y", classes=("a", "a"))


# --- what is not a plain file ---------------------------------------------------------------


def test_a_symbolic_link_is_refused_wherever_it_leads(tmp_path: Path) -> None:
    (tmp_path / "real.csv").write_text("x\n1\n")
    (tmp_path / "link.csv").symlink_to(tmp_path / "real.csv")
    (tmp_path / "away.csv").symlink_to("/etc/passwd")
    (tmp_path / "nowhere.csv").symlink_to("/no/such/file")

    for name in ("link.csv", "away.csv", "nowhere.csv"):
        with pytest.raises(DatasetRefused, match="symbolic link"):
            read(tmp_path / name)


def test_what_is_no_plain_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    os.mkfifo(tmp_path / "pipe.csv")

    with pytest.raises(DatasetRefused, match="not a plain file"):
        read(tmp_path / "folder.csv")
    with pytest.raises(DatasetRefused, match="not a plain file"):
        read(tmp_path / "pipe.csv")
    with pytest.raises(DatasetRefused, match="cannot be opened: No such file"):
        read(tmp_path / "missing.csv")
    with pytest.raises(DatasetRefused, match=r"end in \.csv"):
        read(tmp_path / "model.pkl")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret.csv").touch(mode=0o000)

    with pytest.raises(DatasetRefused, match="Permission denied"):
        read(tmp_path / "secret.csv")


# --- Parquet --------------------------------------------------------------------------------


@pytest.fixture
def parquet(tmp_path: Path) -> Callable[..., Made]:
    duckdb = pytest.importorskip("duckdb")

    def make(select: str, target: str | None = None, **how: Any) -> Made:
        path = tmp_path / "t[1]*.parquet"
        duckdb.sql(select).write_parquet(str(path))
        return read(path, target, **how)

    return make


def test_a_parquet_file_is_a_table(parquet: Callable[..., Made]) -> None:
    info, tensors = parquet(
        "SELECT * FROM (VALUES (1.5::DECIMAL(4,2), 'f', true, 0), (2, 'm', false, 1)) t(\"a\"\"b\", sex, ok, y)", "y"
    )

    assert tensors["features"].tolist() == [[1.5, 0, 1], [2, 1, 0]]
    assert tensors["target"].tolist() == [0, 1]
    assert [column.name for column in info.columns] == ['a"b', "sex", "ok", "y"]


def test_rows_of_a_parquet_file_keep_their_order(parquet: Callable[..., Made]) -> None:
    _, tensors = parquet("SELECT range AS x FROM range(30000)")

    assert (tensors["features"][:, 0] == np.arange(30_000, dtype=np.float32)).all()


def test_a_gap_in_a_parquet_file_is_refused(parquet: Callable[..., Made]) -> None:
    with pytest.raises(DatasetRefused, match="column 'y': 1 missing values, the first in row 2"):
        parquet("SELECT * FROM (VALUES (1, 2), (1, NULL)) t(x, y)", "y")
    with pytest.raises(DatasetRefused, match="no rows"):
        parquet("SELECT 1 AS x, 2 AS y WHERE false")


def test_what_is_neither_number_nor_word_must_be_left_out(parquet: Callable[..., Made]) -> None:
    select = "SELECT * FROM (VALUES (DATE '2020-01-01', [1], 2)) t(day, list, x)"

    with pytest.raises(DatasetRefused, match="column 'day' holds DATE"):
        parquet(select)
    with pytest.raises(DatasetRefused, match="column 'list' holds INTEGER"):
        parquet(select, drop=("day",))
    assert parquet(select, drop=("day", "list"))[1]["features"].tolist() == [[2]]


def test_what_is_no_parquet_file_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("duckdb")
    (tmp_path / "t.parquet").write_text("x,y\n1,2\n")

    with pytest.raises(DatasetRefused, match="not a Parquet file"):
        read(tmp_path / "t.parquet")


# --- arrays ---------------------------------------------------------------------------------


def test_an_array_is_the_features(npy: Callable[..., Made]) -> None:
    info, tensors = npy(np.arange(24.0).reshape(2, 3, 4))

    assert tensors["features"].dtype == np.float32
    assert [(t.name, t.shape) for t in info.tensors] == [("features", (2, 3, 4))]
    assert (info.examples, info.target) == (2, None)


def test_a_column_of_an_array_can_be_the_target(npy: Callable[..., Made]) -> None:
    info, tensors = npy(np.array([[1.5, 2, 0], [2.5, 3, 1]]), "-1", drop=("1",))

    assert tensors["features"].tolist() == [[1.5], [2.5]]
    assert tensors["target"].tolist() == [0, 1]
    assert info.classes == ("0", "1")


def test_an_archive_keeps_names_and_types(npz: Callable[..., Made]) -> None:
    info, tensors = npz("y", image=np.ones((2, 3), ">f8"), mask=np.ones(2, bool), n=np.ones(2, np.uint16), y=[1, 0])

    assert {t.name: t.dtype for t in info.tensors} == {
        "image": "float32",
        "mask": "bool",
        "n": "int32",
        "target": "int64",
    }
    assert (info.target, tensors["target"].tolist()) == ("target", [1, 0])


def test_one_array_beside_the_target_is_the_features(npz: Callable[..., Made]) -> None:
    info, tensors = npz("labels", pixels=np.zeros((2, 4), np.uint8), labels=np.array(["cat", "ant"]))

    assert sorted(tensors) == ["features", "target"]
    assert tensors["features"].dtype == np.uint8
    assert (info.classes, tensors["target"].tolist()) == (("ant", "cat"), [1, 0])


def test_a_target_with_more_axes_is_kept_as_it_is(npz: Callable[..., Made]) -> None:
    info, tensors = npz("mask", scan=np.zeros((2, 4, 4)), mask=np.ones((2, 4, 4), np.uint8))

    assert (tensors["target"].shape, info.classes, info.target) == ((2, 4, 4), (), "target")


def test_columns_of_fortran_order_arrive_in_ours(npy: Callable[..., Made]) -> None:
    _, tensors = npy(np.asfortranarray([[1.0, 2], [3, 4]]))

    assert tensors["features"].tolist() == [[1, 2], [3, 4]]
    assert tensors["features"].flags.c_contiguous


def test_arrays_that_cannot_be_a_dataset_are_refused(npz: Callable[..., Made]) -> None:
    for why, arrays in (
        ("as many rows", {"x": np.zeros((3, 1)), "y": np.zeros(2)}),
        ("at least 1", {"x": np.zeros((0, 4)), "y": np.zeros(0)}),
        ("at least 1", {"x": np.float32(1), "y": np.float32(1)}),
        (r"column 'y': 1 missing values, the first in row 2", {"x": np.zeros(2), "y": np.array([0, np.nan])}),
        (r"column 'y': inf in row 2", {"x": np.zeros(2), "y": np.array([0, np.inf])}),
        (r"'features' has NaN, .* in 1 rows, the first is row 2", {"x": np.array([0, np.nan]), "y": np.zeros(2)}),
        (r"too large for float32 in 1 rows", {"x": np.array([0, 1e200]), "y": np.zeros(2)}),
        (r"holds complex128", {"x": np.zeros(2, complex), "y": np.zeros(2)}),
        (r"holds <U1", {"x": np.array(["a", "b"]), "y": np.zeros(2)}),
        (r"array 'z' holds uint64", {"x": np.zeros(2), "y": np.zeros(2), "z": np.zeros(2, np.uint64)}),
        (r"no array 'y' to learn; there are x, z", {"x": np.zeros(2), "z": np.zeros(2)}),
        (r"no array is left", {"y": np.zeros(2)}),
        (r"already named 'target'", {"x": np.zeros(2), "y": np.zeros(2), "target": np.zeros(2)}),
    ):
        with pytest.raises(DatasetRefused, match=why):
            npz("y", **arrays)


def test_a_column_number_that_is_not_there_is_refused(npy: Callable[..., Made]) -> None:
    for target in ("2", "-3", "age"):
        with pytest.raises(DatasetRefused, match=f"no column '{target}'; there are 0 to 1"):
            npy(np.zeros((2, 2)), target)
    with pytest.raises(DatasetRefused, match="has 1 axes"):
        npy(np.zeros(2), "0")


# --- hostile arrays -------------------------------------------------------------------------


class Poison:
    """Would touch a file if it were ever unpickled."""

    def __reduce__(self) -> Any:
        return os.mkdir, (os.environ["POISON"],)


def test_python_objects_are_never_read(tmp_path: Path) -> None:
    os.environ["POISON"] = str(tmp_path / "run")
    poisoned = np.array([Poison()], dtype=object)
    np.save(tmp_path / "a.npy", poisoned, allow_pickle=True)
    np.savez(tmp_path / "a.npz", x=poisoned)

    for name in ("a.npy", "a.npz"):
        with pytest.raises(DatasetRefused, match="Python objects"):
            read(tmp_path / name)
    assert not (tmp_path / "run").exists()


def header(shape: str, kind: str = "<f8") -> bytes:
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


@pytest.mark.parametrize(
    "content",
    [
        header("(10000000000,)"),
        header("(2,)") + bytes(8),
        header("(-1, -1)") + bytes(8),
        header("(1,") + bytes(8),
        header("[1]") + bytes(8),
        header("(1,)", "O") + bytes(8),
        header("(True,)") + bytes(8),
        b"\x93NUMPY\x09\x09" + header("(1,)")[8:] + bytes(8),
        header("(1,)")[:40],
        b"\x93NUMPY",
        b"PK\x03\x04" + bytes(100),
        b"not an array at all",
    ],
)
def test_what_lies_about_itself_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.npy").write_bytes(content)
    (tmp_path / "a.npz").write_bytes(content)
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as archive:
        archive.writestr("x.npy", content)

    for name in ("a.npy", "a.npz", "b.npz"):
        with pytest.raises(DatasetRefused):
            read(tmp_path / name)


def test_an_archive_that_unpacks_to_far_too_much_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", b"x")
    declared = bytearray(path.read_bytes())
    at = declared.index(b"PK\x01\x02") + 24
    declared[at : at + 4] = (3 << 30).to_bytes(4, "little")
    path.write_bytes(declared)

    with pytest.raises(DatasetRefused, match="would unpack to 3221225472"):
        read(path)


def test_an_archive_that_unpacks_to_more_than_it_says_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.npz"
    content = header("(1000000,)") + bytes(8_000_000)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", content)
    declared = bytearray(path.read_bytes())
    at = declared.index(b"PK\x01\x02") + 24
    declared[at : at + 4] = (len(header("(1,)")) + 8).to_bytes(4, "little")
    path.write_bytes(declared)

    with pytest.raises(DatasetRefused):
        read(path)


def test_an_archive_with_a_name_twice_or_none_is_refused(tmp_path: Path) -> None:
    body = io.BytesIO()
    np.save(body, np.zeros(2))
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", body.getvalue())
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("x.npy", body.getvalue())
    with zipfile.ZipFile(tmp_path / "b.npz", "w"):
        pass

    for name in ("a.npz", "b.npz"):
        with pytest.raises(DatasetRefused, match="each under its own name"):
            read(tmp_path / name)


@given(
    st.binary(max_size=300), st.sampled_from([".csv", ".npy", ".npz"]), st.sampled_from([b"", header("(1,)"), b"x,y\n"])
)
def test_any_bytes_are_a_dataset_or_refused(tmp_path_factory: Any, rest: bytes, ending: str, start: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / f"any{ending}"
    path.write_bytes(start + rest)
    try:
        info, tensors = read(path)
    except DatasetRefused:
        return
    assert all(len(array) == info.examples for array in tensors.values())


# --- writing --------------------------------------------------------------------------------


def test_written_tensors_lie_where_the_header_says(csv: Callable[..., Made]) -> None:
    _, tensors = csv("x,z,y\n" + "1,2.5,0\n3,4.5,1\n" * 60_000, "y")
    sink = io.BytesIO()
    write_tensors(tensors, sink)

    data = sink.getvalue()
    layout, _, offset = read_header(data, len(data))
    for slot in layout.slots:
        array = tensors[slot.spec.name]
        assert data[offset + slot.begin : offset + slot.end] == array.tobytes()
