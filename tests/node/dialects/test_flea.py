"""Flea's contract, as its clients and task generators speak it, F1 to F8; and what its server let happen."""

from __future__ import annotations

import asyncio
import io
import json
import time
import zipfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from grid.learning.plan import Plan
from grid.learning.tensors import header_bytes
from grid.node.tasks.registry import Asked, Registry
from grid.protocol import task as machine
from grid.store import tasks as store
from grid.transport.auth import OWNER, Caller
from grid.wire import models as wire
from tests.grid_of_nodes import ANode, add_arrays, add_dataset, numbers, plan_of

StartNode = Callable[..., Awaitable[ANode]]

TOKENS = """\
FleaAdmin    admin-token-of-flea-0001
FleaTaskGen  gen-token-of-flea-00001    gen
FleaTaskGen  other-gen-of-flea-00001
FleaClient   phone-token-of-flea-001    phone
FleaClient   tablet-token-of-flea-01
FleaClient   watch-token-of-flea-001
ModelsWriter writer-token-of-flea-01    writer
"""
TOKEN = {
    "admin": "admin-token-of-flea-0001",
    "gen": "gen-token-of-flea-00001",
    "other": "other-gen-of-flea-00001",
    "phone": "phone-token-of-flea-001",
    "tablet": "tablet-token-of-flea-01",
    "watch": "watch-token-of-flea-001",
    "writer": "writer-token-of-flea-01",
}
TASK = {"modelId": "lung", "hyperparametersId": "small"}
BUNDLE = b"what clients understand: any one file"


class Flea:
    """A node as Flea's programs call it, each with its token; and its clock, which a test moves."""

    def __init__(self, node: ANode, http: aiohttp.ClientSession, tokens: Path) -> None:
        self.node, self.http, self.tokens = node, http, tokens
        self.parts = node.open.parts.flea
        self.now = time.time()
        self.parts.registry.now = lambda: self.now

    @property
    def deadline(self) -> int:
        return int(self.now) + 100

    async def ask(self, who: str, call: str, body: Any = None, status: int = 200, **more: Any) -> Any:
        """What `who` is answered, which has to be of this status."""
        method, path = call.split(" ")
        headers = {"Authorization": f"Bearer {TOKEN[who]}"} if who else {}
        url = path if path.startswith("http") else f"{self.node.address}/v1/flea/{path}"
        kind = "data" if isinstance(body, bytes | aiohttp.FormData) else "json"
        async with self.http.request(method, url, headers=headers, **{kind: body}, **more) as response:
            raw = await response.read()
            assert response.status == status, (call, response.status, raw)
            return json.loads(raw) if "json" in response.content_type else raw

    async def refused(self, who: str, call: str, slug: str, body: Any = None) -> str:
        """Why `who` is refused."""
        method, path = call.split(" ")
        headers = {"Authorization": f"Bearer {TOKEN[who]}"} if who else {}
        url = path if path.startswith("http") else f"{self.node.address}/v1/flea/{path}"
        kind = "data" if isinstance(body, bytes | aiohttp.FormData) else "json"
        async with self.http.request(method, url, headers=headers, **{kind: body}) as response:
            problem = await response.json(content_type=None)
            assert problem["type"] == f"urn:grid:problem:{slug}", problem
            assert response.status >= 400
            return str(problem["detail"])

    async def create(self, name: str = "t", who: str = "gen", status: int = 200, **more: Any) -> Any:
        """Register a task by JSON."""
        asked = {**TASK, "taskId": name, "checkpointId": "c1", "deadline": self.deadline, "active": True, **more}
        return await self.ask(who, "POST create_task", asked, status)

    async def commit(self, who: str = "phone", name: str = "t") -> dict[str, str]:
        """Commit to a task."""
        started: dict[str, str] = await self.ask(who, f"POST tasks/{name}")
        return started

    async def work(self, who: str, values: list[float], samples: int = 10, name: str = "t") -> None:
        """Commit, and hand in."""
        await self.ask("", f"PUT {(await self.commit(who, name))['uploadTo']}", result(values, samples, name))

    async def until(self, state: str, name: str = "t") -> dict[str, Any]:
        """Wait until the task is in a state, by its events."""
        topic, cursor = f"task/{name}", 0
        async with asyncio.timeout(30):
            while True:
                for event in await self.node.open.events.wait(topic, cursor, 30.0):
                    cursor = event.cursor
                    if event.kind == state:
                        shown: dict[str, Any] = await self.ask("gen", f"GET tasks/{name}")
                        return shown

    async def model(self, name: str) -> np.ndarray[Any, Any]:
        """The numbers of a checkpoint."""
        row = await self.parts.models.checkpoint(OWNER, "lung", "small", name)
        return numbers(Plan.load(self.parts.models.path(row)).initial)

    async def jobs(self) -> dict[str, tuple[str, str]]:
        """Where the jobs of the task stand, and why, by client; that of an unnamed token by its own name."""
        rows = await self.node.open.events._database.read(lambda connection: store.jobs(connection, "t"))
        names = {self.parts.tokens.bearer(token).account: who for who, token in TOKEN.items()}  # type: ignore[union-attr]
        return {names[row.client]: (row.assignment.state, row.assignment.reason) for row in rows}

    async def job_of(self, who: str) -> str:
        """The job of a client."""
        name = self.parts.tokens.bearer(TOKEN[who]).account  # type: ignore[union-attr]
        rows = await self.node.open.events._database.read(lambda connection: store.jobs(connection, "t", name))
        return str(rows[0].id)

    async def checkpoints(self, *values: list[float]) -> None:
        """Checkpoints c1, c2, ... of the model."""
        for number, each in enumerate(values, 1):
            data = plan_of().trained(np.array(each, np.float32).tobytes()).bundle()
            await self.parts.models.put_checkpoint(WRITER, "lung", "small", f"c{number}", blocks(data))

    async def rule(self, subject: str, **rule: Any) -> None:
        """What the model's owner lets somebody do."""
        await self.parts.models.put_rule(WRITER, "lung", subject, wire.AccessRule(**rule))


WRITER = Caller(None, None, owner=False, kind="token", account="writer")


async def blocks(data: bytes) -> AsyncIterator[bytes]:
    yield data


def tensors(values: list[float]) -> bytes:
    """A model's tensors in a file."""
    layout = plan_of().layout
    return header_bytes(layout) + np.array(values, np.float32).tobytes()


def result(
    values: list[float],
    samples: int = 10,
    task: str = "t",
    *,
    files: Mapping[str, bytes] | None = None,
    folder: str = "r",
    **said: Any,
) -> bytes:
    """A client's result, zipped."""
    report = {
        "taskId": task,
        "numSamples": samples,
        "taskParameters": {"numEpochs": 1, "batchSize": 8, "placeholders": None},
        "deviceInfo": {"deviceType": "Phone", "osVersion": "1", "tensorIOVersion": "1"},
        **said,
    }
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{folder}/result.json", json.dumps(report))
        for name, data in (files or {"r/checkpoints/model.safetensors": tensors(values)}).items():
            archive.writestr(name, data)
    return target.getvalue()


@pytest.fixture
async def flea(start_node: StartNode, connections: aiohttp.ClientSession, tmp_path: Path) -> Flea:
    """A node with a model of three checkpoints, for which all may open tasks and commit to them."""
    tokens = tmp_path / "tokens"
    tokens.write_text(TOKENS)
    flea = Flea(await start_node("ann", tokens=tokens, least_rows=5), connections, tokens)
    await add_dataset(flea.node.open, 10, "yard")
    await flea.node.open.means.catalogue.change("yard", visibility="public")
    await flea.parts.models.put_model(WRITER, "lung", wire.NewModel("Finds nodules"))
    await flea.parts.models.put_variant(WRITER, "lung", "small", wire.NewVariant())
    await flea.checkpoints([0, 0, 0, 0], [1, 1, 1, 1], [2, 2, 2, 2])
    await flea.rule("*", commits=True, opens=True)
    return flea


# --- F1: tasks are registered ---------------------------------------------------------------------


def form(flea: Flea, **more: str) -> aiohttp.FormData:
    data = aiohttp.FormData()
    fields = {**TASK, "taskId": "t", "deadline": str(flea.deadline), "active": "true", **more}
    for name, value in fields.items():
        data.add_field(name, value)
    data.add_field("task", BUNDLE, filename="flea.zip", content_type="application/zip")
    return data


async def test_f1_a_task_is_registered_with_its_range_its_deadline_and_its_one_file(flea: Flea) -> None:
    asked = form(flea, initialCheckpointId="c1", finalCheckpointId="c2")
    made = await flea.ask("gen", "POST tasks", asked, 201)

    assert (made["checkpointIds"], made["active"], made["state"]) == (["c1", "c2"], True, "open")
    assert made["digest"] == sha256(BUNDLE).hexdigest()
    assert await flea.ask("phone", f"GET {made['link']}") == BUNDLE
    assert (await flea.ask("phone", "GET tasks/t"))["deadline"].endswith("Z")
    await flea.refused("gen", "POST tasks", "task-exists", form(flea, checkpointIds="c1"))


async def test_f1_a_list_of_checkpoints_is_put_in_their_order(flea: Flea) -> None:
    made = await flea.ask("gen", "POST tasks", form(flea, checkpointIds="c3,c1"), 201)

    assert (made["checkpointIds"], made["checkpointId"]) == (["c1", "c3"], "c1")


async def test_f1_the_servers_own_route_takes_one_checkpoint_a_link_and_rfc_3339(flea: Flea) -> None:
    made = await flea.create(deadline="2099-07-31T23:59:59.002Z", link="https://example.org/t.zip", checkpointId="c2")

    assert (made["deadline"], made["link"]) == ("2099-07-31T23:59:59.002Z", "https://example.org/t.zip")
    assert made["checkpointLink"].endswith("/v1/repository/models/lung/hyperparameters/small/checkpoints/c2")
    link = await flea.ask("phone", f"GET {made['checkpointLink']}")
    assert link["resourcePath"] == "/models/lung/hyperparameters/small/checkpoints/c2"
    assert len(await flea.ask("phone", f"GET {link['link']}")) > 100


@pytest.mark.parametrize(
    ("more", "slug"),
    [
        ({"modelId": "heart"}, "model-not-found"),
        ({"hyperparametersId": "large"}, "model-not-found"),
        ({"checkpointId": "c9"}, "model-not-found"),
        ({"checkpointId": ""}, "run-refused"),
        ({"deadline": 1}, "run-refused"),
        ({"deadline": "tomorrow"}, "bad-request"),
        ({"initialCheckpointId": "c1"}, "run-refused"),
        ({"checkpointId": "", "initialCheckpointId": "c2", "finalCheckpointId": "c1"}, "model-refused"),
        ({"aggregation": "scaffold"}, "strategy-refused"),
        ({"aggregation": "nonsense"}, "strategy-refused"),
        ({"taskId": "../t"}, "bad-request"),
    ],
)
async def test_f1_a_task_that_cannot_be_is_refused(flea: Flea, more: dict[str, Any], slug: str) -> None:
    asked = {**TASK, "taskId": "t", "checkpointId": "c1", "deadline": flea.deadline, "active": True, **more}

    await flea.refused("gen", "POST create_task", slug, asked)
    assert (await flea.ask("gen", "GET tasks?includeInactive=true"))["taskIds"] == []


# --- the repository of models --------------------------------------------------------------------


async def test_a_repository_is_set_up_as_the_one_of_tensorio_models_is(flea: Flea) -> None:
    base = f"{flea.node.address}/v1/repository"
    model = {"modelId": "TestModel", "details": "A test", "canonicalHyperparameters": "h2"}
    hyper = f"{base}/models/TestModel/hyperparameters"
    assert await flea.ask("", f"GET {base}/healthz") == {"status": "SERVING"}
    made = await flea.ask("writer", f"POST {base}/models", {"model": model})
    assert made == {"resourcePath": "/models/TestModel"}
    await flea.refused("writer", f"POST {base}/models", "model-exists", {"model": model})
    await flea.refused("phone", f"POST {base}/models", "not-allowed", {"model": {"modelId": "x"}})
    await flea.ask("writer", f"POST {hyper}", {"hyperparametersId": "h1", "hyperparameters": {"lol": "rofl"}})
    checkpoint = {
        "checkpointId": "k1",
        "createdAt": "1557790163",
        "info": {"accuracy": "0.9"},
        "link": "https://x.org/1",
    }
    made = await flea.ask("writer", f"POST {hyper}/h1/checkpoints", checkpoint)
    assert made == {"resourcePath": "/models/TestModel/hyperparameters/h1/checkpoints/k1"}
    changed = await flea.ask("writer", f"PUT {hyper}/h1", {"canonicalCheckpoint": "k1", "upgradeTo": "h2"})
    assert changed == {
        "modelId": "TestModel",
        "hyperparametersId": "h1",
        "upgradeTo": "h2",
        "canonicalCheckpoint": "k1",
        "hyperparameters": {"lol": "rofl"},
    }
    assert (await flea.ask("writer", f"PUT {hyper}/h1", {"upgradeTo": ""}))["canonicalCheckpoint"] == "k1"
    await flea.refused("writer", f"PUT {hyper}/h1", "model-refused", {"hyperparameters": {"lol": "wtf"}})
    await flea.refused("writer", f"POST {hyper}", "model-exists", {"hyperparametersId": "h1"})
    told = await flea.ask("writer", f"GET {hyper}/h1/checkpoints/k1")
    assert (told["link"], told["info"]) == ("https://x.org/1", {"accuracy": "0.9"})
    assert (await flea.ask("writer", f"GET {base}/models?marker=T"))["modelIds"] == ["TestModel", "lung"]
    assert (await flea.ask("writer", f"GET {base}/models?maxItems=1"))["modelIds"] == ["TestModel"]
    assert (await flea.ask("writer", f"GET {hyper}"))["hyperparametersIds"] == ["h1"]
    assert (await flea.ask("writer", f"GET {hyper}/h1/checkpoints"))["checkpointIds"] == ["k1"]
    assert (await flea.ask("writer", f"GET {base}/models/TestModel"))["model"] == model
    change = {"model": {"details": "Another"}}
    assert (await flea.ask("writer", f"PUT {base}/models/TestModel", change))["model"] == {
        **model,
        "details": "Another",
    }
    await flea.refused("phone", f"GET {base}/models/TestModel", "model-not-found")
    assert (await flea.ask("phone", f"GET {base}/models"))["modelIds"] == ["lung"]


# --- F2: the range ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("checkpoint", "inside"), [("c1", False), ("c2", True), ("c3", True), ("c4", False)])
async def test_f2_a_commit_is_taken_with_a_checkpoint_inside_the_range_alone(
    flea: Flea, checkpoint: str, inside: bool
) -> None:
    await flea.create(checkpointId="", initialCheckpointId="c2", finalCheckpointId="c3")
    data = plan_of().bundle()
    await flea.parts.models.put_checkpoint(WRITER, "lung", "small", "c4", blocks(data))  # newer than the range

    if inside:
        assert (await flea.ask("phone", f"POST tasks/t?checkpointId={checkpoint}"))["status"] == "APPROVED"
    else:
        assert "not for" in await flea.refused("phone", f"POST tasks/t?checkpointId={checkpoint}", "model-not-found")


# --- F3: closed is closed ---------------------------------------------------------------------------


async def test_f3_a_closed_task_takes_neither_commits_nor_updates_and_may_be_reopened(flea: Flea) -> None:
    await flea.create()
    upload = (await flea.commit())["uploadTo"]
    closed = await flea.ask("gen", "PUT tasks/t", {"active": False})

    assert (closed["active"], closed["state"]) == (False, "closed")
    assert "closed by its owner" in await flea.refused("tablet", "POST tasks/t", "task-closed")
    assert "closed by its owner" in await flea.refused("", f"PUT {upload}", "task-closed", result([1, 1, 1, 1]))
    assert (await flea.ask("gen", "PUT tasks/t", {"active": True}))["active"] is True
    await flea.ask("", f"PUT {upload}", result([1, 1, 1, 1]))


async def test_f3_the_servers_clock_closes_a_task_at_its_deadline(flea: Flea) -> None:
    await flea.create()
    upload = (await flea.commit())["uploadTo"]
    flea.now += 101

    assert "deadline" in await flea.refused("tablet", "POST tasks/t", "task-closed")
    assert "deadline" in await flea.refused("", f"PUT {upload}", "task-closed", result([1, 1, 1, 1]))
    shown = await flea.ask("phone", "GET tasks/t")
    assert (shown["active"], shown["reason"]) == (False, "its deadline has passed")
    assert (await flea.ask("phone", "GET tasks"))["taskIds"] == []
    await flea.ask("gen", "PUT tasks/t", {"deadline": flea.deadline, "active": True})
    await flea.ask("", f"PUT {upload}", result([1, 1, 1, 1]))


async def test_f3_a_deadline_may_be_extended_and_the_address_holds_as_long(flea: Flea) -> None:
    await flea.create()
    upload = (await flea.commit())["uploadTo"]
    await flea.ask("gen", "PUT tasks/t", {"deadline": flea.deadline + 100})
    flea.now += 150

    await flea.ask("", f"PUT {upload}", result([1, 1, 1, 1]))


async def test_f3_the_servers_route_closes_where_active_is_missing(flea: Flea) -> None:
    await flea.create()

    assert (await flea.ask("gen", "POST modify_task/t", {"deadline": flea.deadline}))["active"] is False
    assert (await flea.ask("gen", "POST modify_task/t", {"active": True}))["active"] is True


async def test_f3_an_upload_that_is_under_way_when_the_task_is_closed_is_not_registered(flea: Flea) -> None:
    await flea.create()
    upload, data = (await flea.commit())["uploadTo"], result([1, 1, 1, 1])

    async def slowly() -> AsyncIterator[bytes]:
        yield data[:100]
        await flea.ask("gen", "PUT tasks/t", {"active": False})
        yield data[100:]

    async with flea.http.put(upload, data=slowly()) as response:
        assert (response.status, (await response.json(content_type=None))["type"]) == (
            409,
            "urn:grid:problem:task-closed",
        )
    assert (await flea.ask("gen", "GET tasks/t/statistics"))["registrations"] == 0
    assert not list((flea.node.folder / "tasks" / "named").glob("*"))


# --- F4: aggregation, evaluation ---------------------------------------------------------------------


async def test_f4_updates_become_a_checkpoint_once_the_task_is_closed(flea: Flea) -> None:
    await flea.create(checkpointId="", initialCheckpointId="c1", finalCheckpointId="c3")
    await flea.work("phone", [1, 2, 3, 4], samples=30)
    await flea.work("tablet", [5, 6, 7, 8], samples=10)

    await flea.refused("gen", "POST tasks/t/aggregate", "out-of-turn")
    await flea.refused("gen", "POST tasks/t/evaluate", "out-of-turn", {"dataset": "yard"})
    await flea.ask("gen", "PUT tasks/t", {"active": False})
    await flea.refused("gen", "POST tasks/t/evaluate", "out-of-turn", {"dataset": "yard"})
    await flea.ask("gen", "POST tasks/t/aggregate", None, 202)
    shown = await flea.until("aggregated")

    assert shown["aggregatedCheckpointId"] == "t"
    np.testing.assert_allclose(await flea.model("t"), [2, 3, 4, 5])
    info = (await flea.parts.models.checkpoint(OWNER, "lung", "small", "t")).info
    assert info == {"task": "t", "updates": "2", "examples": "40"}
    await flea.refused("gen", "PUT tasks/t", "out-of-turn", {"active": True})
    await flea.refused("gen", "POST tasks/t/aggregate", "out-of-turn")
    assert not list((flea.node.folder / "tasks" / "named").glob("update-*"))


@pytest.mark.parametrize(
    ("aggregation", "expected"),
    [
        ("WeightedCumulativeMovingAverage", [2.0] * 4),
        ("CumulativeMovingAverage", [4.0] * 4),
        ("median", [1.0] * 4),
        ("fedavgm", [2.0] * 4),
    ],
)
async def test_f4_the_aggregators_of_flea_and_any_strategy_for_whole_models(
    flea: Flea, aggregation: str, expected: list[float]
) -> None:
    await flea.create(aggregation=aggregation)
    for who, value, samples in (("phone", 1.0, 40), ("tablet", 1.0, 40), ("watch", 10.0, 10)):
        await flea.work(who, [value] * 4, samples)
    flea.now += 101  # its deadline closes it as well
    await flea.ask("gen", "POST tasks/t/aggregate", None, 202)
    await flea.until("aggregated")

    np.testing.assert_allclose(await flea.model("t"), expected)


async def test_f4_evaluation_compares_with_every_checkpoint_of_the_range(
    start_node: StartNode, connections: aiohttp.ClientSession, tmp_path: Path
) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text(TOKENS)
    node = await start_node("ann", tokens=tokens, real=True, workers=1)
    flea = Flea(node, connections, tokens)
    features = np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)
    target = (features.sum(axis=1, keepdims=True) + 1).astype(np.float32)
    await add_arrays(node.open, {"features": features, "target": target}, "trial", ("#trial",))
    await node.open.means.catalogue.change("trial", visibility="public")
    await flea.parts.models.put_model(WRITER, "lung", wire.NewModel())
    await flea.parts.models.put_variant(WRITER, "lung", "small", wire.NewVariant())
    await flea.checkpoints([0, 0, 0, 0], [0.5, 0.5, 0.5, 0.5], [2, 2, 2, 2])
    await flea.rule("*", commits=True, opens=True)
    await flea.create(checkpointId="", initialCheckpointId="c1", finalCheckpointId="c3")
    await flea.work("phone", [0.9] * 4)
    await flea.work("tablet", [1.1] * 4)
    await flea.ask("gen", "PUT tasks/t", {"active": False})
    await flea.ask("gen", "POST tasks/t/aggregate", None, 202)
    await flea.until("aggregated")

    await flea.refused("gen", "POST tasks/t/evaluate", "not-allowed", {"dataset": "pulse"})
    await flea.ask("gen", "POST tasks/t/evaluate", {"dataset": "trial"}, 202)
    await flea.until("evaluated")

    found = await flea.ask("gen", "GET tasks/t/evaluation")
    assert [each["checkpointId"] for each in found["checkpoints"]] == ["c1", "c2", "c3"]
    assert found["aggregated"]["loss"] == pytest.approx(0.0, abs=1e-10)
    assert found["aggregated"]["examples"] == 64
    assert found["improved"] is True
    assert found["checkpoints"][0]["loss"] > found["checkpoints"][1]["loss"] > 0.1


async def test_f4_without_an_update_there_is_no_sum_and_the_task_may_go_on(flea: Flea) -> None:
    await flea.create()
    await flea.ask("gen", "PUT tasks/t", {"active": False})
    await flea.ask("gen", "POST tasks/t/aggregate", None, 202)
    async with asyncio.timeout(10):
        while (shown := await flea.ask("gen", "GET tasks/t"))["state"] == "aggregating":
            await flea.node.open.events.wait("task/t", 0, 0.05)

    assert (shown["state"], "0 updates" in shown["reason"]) == ("closed", True)
    await flea.ask("gen", "PUT tasks/t", {"active": True})
    await flea.work("phone", [1, 1, 1, 1])


async def test_f4_a_task_may_be_put_away(flea: Flea) -> None:
    await flea.create()
    await flea.work("phone", [1, 1, 1, 1])
    await flea.refused("gen", "DELETE tasks/t", "out-of-turn")
    await flea.ask("gen", "PUT tasks/t", {"active": False})

    assert (await flea.ask("gen", "DELETE tasks/t"))["state"] == "archived"
    assert not list((flea.node.folder / "tasks" / "named").glob("update-*"))
    await flea.refused("gen", "PUT tasks/t", "out-of-turn", {"active": True})


# --- F5: discovery ----------------------------------------------------------------------------------


async def test_f5_tasks_are_found_by_model_hyperparameters_and_checkpoint_in_pages(flea: Flea) -> None:
    await flea.create("a", checkpointId="c1")
    await flea.create("b", checkpointId="c2")
    await flea.create("d", active=False)
    await flea.create("c", checkpointId="", initialCheckpointId="c1", finalCheckpointId="c2")

    async def found(query: str) -> list[str]:
        names: list[str] = (await flea.ask("phone", f"GET tasks?{query}"))["taskIds"]
        return names

    of_model = "modelId=lung&hyperparametersId=small&checkpointId"
    assert await found("") == ["a", "b", "c"]
    assert await found(f"{of_model}=c1") == ["a", "c"]
    assert await found(f"{of_model}=c2") == ["b", "c"]
    assert await found(f"{of_model}=c3") == []
    assert await found("startTaskId=b&maxItems=1") == ["b"]
    assert await found("modelId=heart") == []
    whole = await flea.ask("phone", f"GET tasks?{of_model}=c2")
    assert whole["tasks"]["c"] == "/models/lung/hyperparameters/small/checkpoints/c2"
    assert whole["repositoryBaseUrl"] == f"{flea.node.address}/v1/repository"
    await flea.refused("phone", "GET tasks?checkpointId=c1", "bad-request")
    assert (await flea.ask("gen", "GET tasks?includeInactive=true"))["taskIds"] == ["a", "b", "c", "d"]
    assert (await flea.ask("phone", "GET tasks?includeInactive=true"))["taskIds"] == ["a", "b", "c"]  # d is a draft


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20, deadline=None)
@given(data=st.data())
async def test_f5_a_task_is_listed_if_and_only_if_it_is_open_and_in_range(flea: Flea, data: st.DataObject) -> None:
    registry: Registry = flea.parts.registry
    first, last = sorted(data.draw(st.tuples(st.integers(1, 3), st.integers(1, 3))))
    name, left = f"t{time.monotonic_ns()}", data.draw(st.integers(1, 100))
    asked = Asked(name, "lung", "small", flea.now + left, first=f"c{first}", last=f"c{last}")
    await registry.register(OWNER, asked)
    closed = data.draw(st.booleans())
    if closed:
        await registry.change(OWNER, name, opened=False)
    began, flea.now = flea.now, flea.now + data.draw(st.integers(0, 120))
    try:
        for number in (1, 2, 3):
            found = await registry.find(WRITER, "lung", "small", f"c{number}", first=name, most=1)
            listed = bool(found) and found[0].task.id == name
            assert listed == (first <= number <= last and not closed and flea.now < began + left)
    finally:
        flea.now = began
        if not closed:
            await registry.change(OWNER, name, opened=False)


# --- F6: committed first, once, by whose it is ------------------------------------------------------


async def test_f6_an_update_needs_a_commit_and_its_address_works_once(flea: Flea) -> None:
    await flea.create()
    started = await flea.commit()
    upload = started["uploadTo"]
    forged = upload[:-3] + ("abc" if not upload.endswith("abc") else "xyz")

    assert started["status"] == "APPROVED"
    await flea.refused("", f"PUT {forged}", "ticket-refused", result([1, 1, 1, 1]))
    await flea.refused("", "PUT uploads/nonsense", "ticket-refused", result([1, 1, 1, 1]))
    assert "another's" in await flea.refused("tablet", f"PUT {upload}", "ticket-refused", result([1, 1, 1, 1]))
    await flea.ask("phone", f"PUT {upload}", result([1, 1, 1, 1]))
    await flea.refused("", f"PUT {upload}", "update-repeated", result([2, 2, 2, 2]))
    assert (await flea.ask("gen", "GET tasks/t/statistics"))["registrations"] == 1


async def test_f6_of_uploads_to_one_address_at_the_same_time_one_is_registered(flea: Flea) -> None:
    await flea.create()
    upload, data = (await flea.commit())["uploadTo"], result([1, 1, 1, 1])

    async def put() -> int:
        async with flea.http.put(upload, data=data) as response:
            return response.status

    statuses = await asyncio.gather(*(put() for _ in range(8)))

    assert sorted(statuses) == [200] + [409] * 7
    assert (await flea.ask("gen", "GET tasks/t/statistics"))["registrations"] == 1


async def test_f6_an_upload_that_broke_off_may_be_made_again(flea: Flea) -> None:
    await flea.create()
    upload, data = (await flea.commit())["uploadTo"], result([1, 1, 1, 1])

    async def broken() -> AsyncIterator[bytes]:
        yield data[:50]
        raise ConnectionResetError

    with pytest.raises((aiohttp.ClientError, ConnectionResetError)):
        await flea.http.put(upload, data=broken())
    status = 409
    async with asyncio.timeout(10):
        while status == 409:  # until the node has noticed that the one before is gone
            async with flea.http.put(upload, data=data) as response:
                status = response.status
    assert status == 200


async def test_f6_the_servers_own_route_commits_too_and_a_failure_is_reported(flea: Flea) -> None:
    await flea.create()
    started = await flea.ask("phone", "GET start_task/t")
    call = f"POST job_error/t/{started['jobId']}"

    said = {"errorMessage": "out of memory", "clientId": "x"}
    await flea.refused("tablet", call, "task-not-found", said)
    assert (await flea.ask("phone", call, said))["message"] == "Thank you for the error report."
    again = await flea.ask("phone", "GET start_task/t")  # nothing of it was taken: the job begins anew
    assert again["jobId"] == started["jobId"]
    await flea.refused("", f"PUT {started['uploadTo']}", "ticket-refused", result([1, 1, 1, 1]))
    await flea.ask("", f"PUT {again['uploadTo']}", result([1, 1, 1, 1]))
    await flea.refused("phone", call, "out-of-turn", said)


async def test_f6_what_was_acknowledged_is_there_after_a_restart(
    flea: Flea, start_node: StartNode, connections: aiohttp.ClientSession
) -> None:
    await flea.create()
    await flea.work("phone", [1, 2, 3, 4])
    upload = (await flea.commit("tablet"))["uploadTo"].replace(flea.node.address, "")
    await flea.node.stop()
    again = Flea(await start_node("ann", tokens=flea.tokens, least_rows=5), connections, flea.tokens)

    await again.ask("", f"PUT {again.node.address}{upload}", result([3, 4, 5, 6]))
    await again.ask("gen", "PUT tasks/t", {"active": False})
    await again.ask("gen", "POST tasks/t/aggregate", None, 202)
    await again.until("aggregated")
    np.testing.assert_allclose(await again.model("t"), [2, 3, 4, 5])


# --- F7: model owners -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "sees", "commits"),
    [
        ({"sees": False}, False, False),
        ({"sees": True}, True, False),
        ({"commits": True}, True, True),
    ],
)
async def test_f7_each_client_sees_and_commits_to_what_the_models_owner_lets_it(
    flea: Flea, rule: dict[str, bool], sees: bool, commits: bool
) -> None:
    await flea.create()
    await flea.rule("phone", **rule)

    assert (await flea.ask("phone", "GET tasks"))["taskIds"] == (["t"] if sees else [])
    if not sees:
        await flea.refused("phone", "GET tasks/t", "task-not-found")
        await flea.refused("phone", "POST tasks/t", "task-not-found")
    elif not commits:
        await flea.refused("phone", "POST tasks/t", "not-allowed")
    else:
        await flea.commit("phone")
    await flea.commit("tablet")  # the rule is about the one client


async def test_f7_who_opens_tasks_is_the_owners_word_too(flea: Flea) -> None:
    await flea.rule("gen", commits=True)

    asked = {**TASK, "taskId": "t", "checkpointId": "c1", "deadline": flea.deadline, "active": True}
    await flea.refused("gen", "POST create_task", "not-allowed", asked)
    await flea.create(who="other")


@pytest.mark.parametrize("most", [1, 3])
async def test_f7_no_client_commits_more_often_than_it_may_however_many_ask_at_once(flea: Flea, most: int) -> None:
    await flea.create()
    await flea.rule("*", commits=True, opens=True, most=most)

    async def work(who: str) -> bool:
        async with flea.http.post(
            f"{flea.node.address}/v1/flea/tasks/t", headers={"Authorization": f"Bearer {TOKEN[who]}"}
        ) as response:
            upload = (await response.json(content_type=None)).get("uploadTo")
        if upload is None:
            return False
        async with flea.http.put(upload, data=result([1, 1, 1, 1])) as response:
            return response.status == 200

    async def many(who: str) -> int:
        return sum([await work(who) for _ in range(most + 2)])

    done = await asyncio.gather(many("phone"), many("tablet"), many("watch"))

    assert list(done) == [most] * 3
    assert "allowed" in await flea.refused("phone", "POST tasks/t", "commits-spent")
    told = await flea.ask("writer", "GET models/lung/statistics")
    assert [(each["commitments"], each["registrations"]) for each in told["clients"]] == [(most, most)] * 3
    assert (told["commitments"], told["registrations"]) == (3 * most, 3 * most)


async def test_f7_commits_at_the_same_time_are_counted_exactly(flea: Flea) -> None:
    await flea.create()
    await flea.rule("*", commits=True, opens=True, most=5)

    async def ask() -> int:
        async with flea.http.post(
            f"{flea.node.address}/v1/flea/tasks/t", headers={"Authorization": f"Bearer {TOKEN['phone']}"}
        ) as response:
            return response.status

    await asyncio.gather(*(ask() for _ in range(30)))

    (client,) = (await flea.ask("writer", "GET tasks/t/statistics"))["clients"]
    assert client == {"clientId": "phone", "commitments": 5, "registrations": 0}


async def test_f7_figures_are_for_owners(flea: Flea) -> None:
    await flea.create()
    await flea.work("phone", [1, 1, 1, 1])

    assert (await flea.ask("gen", "GET tasks/t/statistics"))["commitments"] == 1
    assert (await flea.ask("writer", "GET models/lung/statistics"))["registrations"] == 1
    for who in ("phone", "other"):
        await flea.refused(who, "GET tasks/t/statistics", "not-allowed")
        await flea.refused(who, "GET models/lung/statistics", "not-allowed")


# --- F8: maintainers --------------------------------------------------------------------------------


async def test_f8_health_configuration_and_figures_are_told(flea: Flea) -> None:
    await flea.create()
    await flea.work("phone", [1, 1, 1, 1])

    assert await flea.ask("", "GET healthz") == {"status": "SERVING"}
    assert await flea.ask("", "GET config") == {"backendType": "LOCAL_FILES"}
    for page in (await flea.ask("", "GET metrics"), await flea.ask("", f"GET {flea.node.address}/metrics")):
        lines = page.decode().splitlines()
        assert {"grid_tasks_open 1.0", "grid_task_commitments 1.0", "grid_task_registrations 1.0"} <= set(lines)


async def test_f8_tokens_are_read_again_while_the_node_runs(flea: Flea) -> None:
    await flea.create()
    flea.tokens.write_text(TOKENS.replace("phone-token-of-flea-001", "phone-token-of-flea-002"))

    await flea.refused("phone", "POST admin", "not-allowed", {"type": "RELOAD_TOKENS"})
    await flea.refused("admin", "POST admin", "bad-request", {"type": "REBOOT"})
    await flea.commit("phone")
    assert await flea.ask("admin", "POST admin", {"type": "RELOAD_TOKENS"}) == {
        "message": "Updated Authentication Tokens"
    }
    await flea.refused("phone", "POST tasks/t", "not-authenticated")
    flea.tokens.write_text("FleaBoss nonsense")
    assert "line 1" in await flea.refused("admin", "POST admin", "bad-request", {"type": "RELOAD_TOKENS"})
    await flea.commit("tablet")


async def test_f8_an_update_of_the_node_keeps_its_tasks(
    flea: Flea, start_node: StartNode, connections: aiohttp.ClientSession
) -> None:
    await flea.ask("gen", "POST tasks", form(flea, checkpointIds="c1"), 201)
    await flea.work("phone", [1, 1, 1, 1])
    before = await flea.ask("gen", "GET tasks/t")
    await flea.node.stop()
    again = Flea(await start_node("ann", tokens=flea.tokens), connections, flea.tokens)

    after = await again.ask("gen", "GET tasks/t")
    assert {**after, "link": "", "checkpointLink": ""} == {**before, "link": "", "checkpointLink": ""}
    assert await again.ask("phone", f"GET {after['link']}") == BUNDLE
    assert (await again.ask("gen", "GET tasks/t/statistics"))["registrations"] == 1


async def test_f8_a_task_that_was_being_summed_when_the_node_stopped_is_summed(
    flea: Flea, start_node: StartNode, connections: aiohttp.ClientSession
) -> None:
    await flea.create()
    await flea.work("phone", [1, 2, 3, 4])
    await flea.ask("gen", "PUT tasks/t", {"active": False})
    flea.parts.outcome._spawn = lambda work: work.close()  # type: ignore[assignment, return-value]  # killed right here
    await flea.ask("gen", "POST tasks/t/aggregate", None, 202)
    await flea.node.stop()

    again = Flea(await start_node("ann", tokens=flea.tokens), connections, flea.tokens)

    assert (await again.until("aggregated"))["aggregatedCheckpointId"] == "t"
    np.testing.assert_allclose(await again.model("t"), [1, 2, 3, 4])


# --- what its server let happen -----------------------------------------------------------------------


async def test_a_generator_edits_its_own_tasks_alone(flea: Flea) -> None:
    await flea.create()

    for call in ("PUT tasks/t", "POST modify_task/t"):
        assert "another's" in await flea.refused("other", call, "not-allowed", {"active": False})
    await flea.ask("gen", "PUT tasks/t", {"active": False})
    for call in ("POST tasks/t/aggregate", "DELETE tasks/t", "GET tasks/t/evaluation"):
        await flea.refused("other", call, "not-allowed")


async def test_a_client_opens_no_tasks_and_nobody_does_anything_without_a_token(flea: Flea) -> None:
    await flea.create()
    asked = {**TASK, "taskId": "u", "checkpointId": "c1", "deadline": flea.deadline}

    await flea.refused("phone", "POST create_task", "not-allowed", asked)
    for call in ("GET tasks", "GET tasks/t", "POST tasks/t", "GET start_task/t", "PUT tasks/t", "POST admin"):
        await flea.refused("", call, "not-authenticated", {} if call.startswith(("PUT", "POST admin")) else None)


def other_model() -> bytes:
    plan = plan_of(4)
    return header_bytes(plan.layout) + bytes(plan.layout.size)


REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "no zip": (lambda: b"hello", "no zip archive"),
    "a way out": (lambda: result([], files={"../model.safetensors": tensors([1] * 4)}), "leads out"),
    "a bomb": (lambda: result([], files={"model.safetensors": bytes(1 << 22)}), "times as long|more than"),
    "two models": (
        lambda: result([], files={"a.safetensors": tensors([1] * 4), "b.safetensors": tensors([1] * 4)}),
        "has 2 files",
    ),
    "no model": (lambda: result([], files={"model.ckpt": b"pickled"}), "has no files"),
    "a pickle": (lambda: result([], files={"model.safetensors": b"\x80\x04" + bytes(80)}), "are expected"),
    "another model": (lambda: result([], files={"model.safetensors": other_model()}), "declared was"),
    "cut off": (lambda: result([], files={"model.safetensors": tensors([1] * 4)[:-1]}), "are expected"),
    "another task": (lambda: result([1] * 4, task="u"), "of task 'u'"),
    "another job": (lambda: result([1] * 4, folder="0-0.tioresult"), "another job"),
    "no report": (lambda: result([1] * 4).replace(b"result.json", b"result_json"), "no result.json"),
    "no samples": (lambda: result([1] * 4, samples=0), "numSamples"),
    "a field too many": (lambda: result([1] * 4, evil=1), "evil"),
}


@pytest.mark.parametrize("what", REFUSED)
async def test_a_foreign_archive_is_refused_and_the_address_stays_good(flea: Flea, what: str) -> None:
    make, why = REFUSED[what]
    await flea.create()
    upload = (await flea.commit())["uploadTo"]

    detail = await flea.refused("", f"PUT {upload}", "update-refused", make())

    assert any(each in detail for each in why.split("|")), detail
    assert not [path for path in (flea.node.folder / "tasks").rglob("*") if path.is_file()]
    await flea.ask("", f"PUT {upload}", result([1, 1, 1, 1]))


async def test_an_archive_that_is_longer_than_its_model_needs_is_refused_before_it_is_all_here(flea: Flea) -> None:
    await flea.create()
    upload = (await flea.commit())["uploadTo"]
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        for _ in range(4000):
            taken += 1 << 16
            yield bytes(1 << 16)

    try:
        async with flea.http.put(upload, data=endless()) as response:
            assert response.status == 413
    except aiohttp.ClientError:
        pass
    assert taken < 200 << 20
    await flea.ask("", f"PUT {upload}", result([1, 1, 1, 1]))


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
async def test_an_update_with_numbers_that_are_not_finite_is_refused(flea: Flea, number: float) -> None:
    await flea.create()
    upload = (await flea.commit())["uploadTo"]

    assert "not finite" in await flea.refused("", f"PUT {upload}", "update-refused", result([1, number, 1, 1]))
    await flea.ask("", f"PUT {upload}", result([3e38, 3e38, 3e38, 3e38]))


async def test_an_update_that_the_sums_worker_refuses_is_left_out_and_its_job_says_why(flea: Flea) -> None:
    await flea.create()
    await flea.work("phone", [1, 1, 1, 1])
    await flea.work("tablet", [5, 5, 5, 5])
    (rotten,) = (flea.node.folder / "tasks" / "named").glob(f"update-{await flea.job_of('tablet')}")
    rotten.write_bytes(tensors([float("nan")] * 4))  # as half-width numbers could be, which are seen there first
    await flea.ask("gen", "PUT tasks/t", {"active": False})
    await flea.ask("gen", "POST tasks/t/aggregate", None, 202)
    await flea.until("aggregated")

    np.testing.assert_allclose(await flea.model("t"), [1, 1, 1, 1])
    states = await flea.jobs()
    assert states["phone"] == ("accepted", "")
    assert states["tablet"][0] == "rejected"
    assert "finite" in states["tablet"][1]


async def test_a_job_that_nothing_came_of_is_over_once_its_task_is_summed(flea: Flea) -> None:
    await flea.create()
    await flea.work("phone", [1, 1, 1, 1])
    await flea.commit("tablet")
    await flea.ask("gen", "PUT tasks/t", {"active": False})
    await flea.ask("gen", "POST tasks/t/aggregate", None, 202)
    await flea.until("aggregated")

    assert (await flea.jobs())["tablet"] == ("expired", "the task was summed without it")


async def test_who_claims_more_samples_weighs_no_more_than_the_task_allows(flea: Flea) -> None:
    await flea.create(maxSamples=10)
    await flea.work("phone", [0, 0, 0, 0], samples=10)
    await flea.work("tablet", [1, 1, 1, 1], samples=2_000_000_000)
    await flea.ask("gen", "PUT tasks/t", {"active": False})
    await flea.ask("gen", "POST tasks/t/aggregate", None, 202)
    await flea.until("aggregated")

    np.testing.assert_allclose(await flea.model("t"), [0.5] * 4)


async def test_every_step_of_a_task_is_in_the_log(flea: Flea) -> None:
    await flea.create()
    await flea.work("phone", [1, 1, 1, 1])
    await flea.ask("gen", "PUT tasks/t", {"active": False})

    told = [event.kind for event in await flea.node.open.events.since("task/t", 0)]

    assert told == ["registered", machine.OPEN, "committed", "handed-in", machine.CLOSED]
    events = f"GET {flea.node.address}/v1/tasks/t/events"
    assert [event["kind"] for event in (await flea.ask("gen", f"{events}?wait=5"))["events"]] == told
    await flea.refused("phone", events, "not-allowed")


async def test_a_timer_closes_a_task_at_its_deadline(flea: Flea) -> None:
    flea.parts.registry.now = time.time
    await flea.create(deadline=time.time() + 0.3)

    shown = await flea.until("closed")

    assert shown["reason"] == "its deadline has passed"


async def test_a_writers_token_makes_models_and_a_clients_does_not(flea: Flea) -> None:
    url = f"{flea.node.address}/v1/models/heart"

    await flea.refused("phone", f"PUT {url}", "not-allowed", {})
    made = await flea.ask("writer", f"PUT {url}", {"details": "Beats"})
    await flea.ask("writer", f"PUT {url}/variants/small", {})
    await flea.ask("writer", f"PUT {url}/variants/small/checkpoints/c1/file", plan_of().bundle())
    await flea.refused("phone", f"GET {url}", "model-not-found")
    await flea.ask("writer", f"PUT {url}/access/phone", {"commits": True})

    assert (made["owner"], (await flea.ask("phone", f"GET {url}"))["variants"]) == ("writer", ["small"])
