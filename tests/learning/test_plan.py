from __future__ import annotations

import io
import json
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grid.learning.plan import RECIPE, Plan
from grid.learning.recipe import Adam, Schedule, Sgd, Transform
from grid.learning.tensors import header_bytes, read_header
from grid.wire.problems import PlanRefused, TensorsRefused

PLAN = Plan.mlp([4, 8, 3], metrics=("accuracy",), epochs=2)


def altered(change: Any) -> bytes:
    """The bundle of PLAN with another recipe: `change` gets and alters the decoded JSON."""
    data = PLAN.bundle()
    layout, metadata, offset = read_header(data)
    recipe = json.loads(metadata[RECIPE])
    change(recipe)
    return header_bytes(layout, {RECIPE: json.dumps(recipe)}) + data[offset:]


def test_a_bundle_is_read_back_and_keeps_its_name() -> None:
    again = Plan.from_bundle(PLAN.bundle())

    assert again.recipe == PLAN.recipe
    assert again.digest == PLAN.digest
    assert again.bundle() == PLAN.bundle()
    assert again.initial == PLAN.initial


def test_a_bundle_keeps_the_bytes_it_came_as() -> None:
    other = altered(lambda recipe: None)  # the same recipe with other spaces
    assert other != PLAN.bundle()
    assert Plan.from_bundle(other).bundle() == other
    assert Plan.from_bundle(other).digest != PLAN.digest


def test_settings_make_another_plan() -> None:
    other = PLAN.with_(epochs=5, optimizer="adam", lr=0.01, schedule=Schedule(gamma=0.5), transform=Transform(scale=16))

    assert (other.recipe.epochs, other.recipe.optimizer) == (5, Adam(lr=0.01))
    assert (PLAN.recipe.epochs, PLAN.recipe.optimizer) == (2, Sgd())
    assert other.digest != PLAN.digest
    assert Plan.from_bundle(other.bundle()).recipe == other.recipe


@pytest.mark.parametrize(
    "settings",
    [
        {"optimizer": "lbfgs"},
        {"lr": float("nan")},
        {"lr": -1.0},
        {"epochs": 0},
        {"epochs": "3"},
        {"batch": 10**9},
        {"metrics": ("f1",)},
        {"loss": "mine"},
        {"no_such": 1},
        {"transform": Transform(scale=0.0)},
        {"optimizer": Sgd(momentum=1.5)},
        {"schedule": Schedule(every=0)},
        {"schedule": Schedule(cosine=-1)},
        {"schedule": Schedule(cosine=5, floor=1.5)},
        {"schedule": Schedule(warmup=10**9)},
    ],
    ids=str,
)
def test_a_setting_out_of_bounds_is_refused(settings: Any) -> None:
    with pytest.raises(PlanRefused):
        PLAN.with_(**settings)


def test_presets_draw_the_same_values_from_the_same_seed() -> None:
    assert Plan.mlp([4, 3], seed=1).digest == Plan.mlp([4, 3], seed=1).digest
    assert Plan.mlp([4, 3], seed=1).digest != Plan.mlp([4, 3], seed=2).digest
    assert Plan.linear(4, 3).parameters == 15
    assert Plan.cnn((1, 8, 8), 10, channels=(2, 4), hidden=8).parameters == 20 + 76 + 136 + 90


def test_presets_that_cannot_be_are_refused() -> None:
    for sizes in ([4], [4, 0]):
        with pytest.raises(PlanRefused, match="sizes"):
            Plan.mlp(sizes)
    with pytest.raises(PlanRefused, match="halved"):
        Plan.cnn((1, 2, 2), 3)


def pickled() -> bytes:
    return pickle.dumps({"state": [1, 2, 3]})


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", pickled())
    return file.getvalue()


# What torch.export.load of torch 2.13 ran when it was in an archive, or TorchScript and Inductor would.
RUN = "__import__('pathlib').Path('harm').touch()"
PAYLOADS = {
    "pickled sample inputs": ("data/sample_inputs/model.pt", pickled()),
    "weights that ask for pickle": ("data/weights/model_weights_config.json", b'{"config":{"w":{"use_pickle":true}}}'),
    "an opaque constant": ("data/constants/opaque_obj_0", pickled()),
    "weights as they were once": ("weights/model.pt", pickled()),
    "a shape that is an expression": ("models/model.json", json.dumps({"expr_str": RUN}).encode()),
    "the name of an input": ("models/model.json", json.dumps({"name": f"x=({RUN})"}).encode()),
    "a class by its name": ("models/model.json", b'{"type":"collections.defaultdict","context":["harm","f"]}'),
    "guards": ("models/model.json", json.dumps({"guards_code": [RUN]}).encode()),
    "TorchScript": ("archive/code/__torch__.py", RUN.encode()),
    "a shared object": ("data/aotinductor/model/model.so", b"\x7fELF"),
}


@pytest.mark.parametrize("payload", PAYLOADS.items(), ids=lambda item: item[0])
def test_an_archive_that_runs_code_when_torch_loads_it_is_refused_unread(
    payload: tuple[str, tuple[str, bytes]], tmp_path: Path
) -> None:
    file = tmp_path / "plan.pt2"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive_format", "pt2")
        archive.writestr(*payload[1])
    with pytest.raises(PlanRefused, match=r"zip archive.*run code"):
        Plan.load(file)
    assert not list(tmp_path.glob("harm"))


def test_a_million_nodes_are_refused_before_they_are_read() -> None:
    nodes = b'["aten.relu.default",[{"ref":0}],{}],' * 1_000_000
    with pytest.raises(TensorsRefused, match="header of"):
        Plan.from_bundle(len(nodes).to_bytes(8, "little") + nodes)


@pytest.mark.parametrize(
    ("data", "word"),
    [(pickled(), "pickle"), (zipped(), "zip"), (b"\x1f\x8b\x08" * 9, "gzip"), (b"\x89HDF\r\n\x1a\n" * 9, "HDF5")],
    ids=["pickle", "zip", "gzip", "HDF5"],
)
def test_formats_that_can_run_code_are_refused_by_their_first_bytes(data: bytes, word: str) -> None:
    with pytest.raises(PlanRefused, match=word):
        Plan.from_bundle(data)


def test_a_bundle_with_other_tensors_than_its_recipe_declares_is_refused() -> None:
    def lie(recipe: Any) -> None:
        recipe["model"]["inputs"][0]["shape"] = [4, 8]

    with pytest.raises(TensorsRefused):
        Plan.from_bundle(altered(lie))
    with pytest.raises(TensorsRefused):
        Plan.from_bundle(PLAN.bundle() + b"x")
    with pytest.raises(PlanRefused, match="metadata"):
        Plan.from_bundle(header_bytes(PLAN.layout, {"other": "{}"}) + PLAN.initial)


@pytest.mark.parametrize("text", ["", "{}", "[]", "nonsense", '{"model":1,"model":2}', "[" * 10_000])
def test_a_recipe_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(PlanRefused):
        Plan.from_bundle(header_bytes(PLAN.layout, {RECIPE: text}) + PLAN.initial)


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(PlanRefused, match="unknown field"):
        Plan.from_bundle(altered(lambda recipe: recipe.update(script="import os")))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5) | st.just("B"),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["ref", "mode", "x"]), inner),
    max_leaves=6,
)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_recipe_with_any_part_replaced_is_read_or_refused(data: st.DataObject) -> None:
    def replace(recipe: Any) -> None:
        place = recipe
        while True:
            key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else list(range(len(place)))))
            if not isinstance(place[key], (dict, list)) or not place[key] or data.draw(st.booleans()):
                place[key] = data.draw(json_values)
                return
            place = place[key]

    try:
        plan = Plan.from_bundle(altered(replace))
    except (PlanRefused, TensorsRefused):
        return
    msgspec.json.encode(plan.recipe)


def test_a_plan_is_shown_as_a_short_table() -> None:
    assert "parameters  67" in repr(PLAN)
    assert "<th>parameters</th><td>67</td>" in PLAN._repr_html_()


def test_a_daemon_reads_plans_without_numpy_or_torch() -> None:
    code = "import sys; from grid.learning import plan, validate; plan.Plan.mlp([4, 2]); "
    code += "assert not {'numpy', 'torch'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)
