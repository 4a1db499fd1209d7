"""Columns of a question, found by the description of a dataset."""

from __future__ import annotations

import pytest

from grid.node.columns import places
from grid.wire.node import Column, DatasetInfo, TensorInfo
from grid.wire.problems import QuestionRefused

TABLE = DatasetInfo(
    "trial",
    examples=9,
    tensors=(TensorInfo("features", "float32", (9, 3)), TensorInfo("target", "int64", (9,))),
    target="target",
    columns=(
        Column("age", "number", "features", 0),
        Column("sex", "category", "features", 1, ("f", "m")),
        Column("grade", "category", "features", 2, ("10", "20")),
        Column("cured", "category", "target"),
    ),
    classes=("0", "1"),
)
ARRAYS = DatasetInfo(
    "scans",
    examples=9,
    tensors=(TensorInfo("features", "float32", (9, 8, 8)), TensorInfo("dose", "float32", (9, 1))),
)


def test_columns_of_a_table_are_found_by_their_names() -> None:
    assert places(TABLE, ("age", "grade", "cured")) == {
        "age": ("features", 0, ()),
        "grade": ("features", 2, (10.0, 20.0)),
        "cured": ("target", 0, (0.0, 1.0)),
    }


def test_a_word_becomes_a_column_of_ones_and_zeros_also_where_nobody_has_it() -> None:
    assert places(TABLE, ("sex=m", "sex=x")) == {
        "sex=m": ("features", 1, (0.0, 1.0)),
        "sex=x": ("features", 1, (0.0, 0.0)),
    }


def test_numbers_of_arrays_are_found_by_their_place() -> None:
    assert places(ARRAYS, ("dose", "features.63")) == {"dose": ("dose", 0, ()), "features.63": ("features", 63, ())}


@pytest.mark.parametrize(
    ("info", "name", "why"),
    [
        (TABLE, "sex", "holds words; ask for one of them, as in 'sex=f'"),
        (TABLE, "weight", "it has age, sex, grade, cured"),
        (TABLE, "age=7", "no column 'age=7'"),
        (ARRAYS, "features", "no column 'features'; it has features.0 ..., dose.0 ..."),
        (ARRAYS, "features.64", "no column"),
        (ARRAYS, "features.-1", "no column"),
    ],
)
def test_what_is_not_there_is_refused_and_what_there_is_named(info: DatasetInfo, name: str, why: str) -> None:
    with pytest.raises(QuestionRefused, match=why):
        places(info, (name,))
