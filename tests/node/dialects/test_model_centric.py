"""PyGrid's model-centric protocol as its devices speak it; and what its server let happen."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import time
from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import Any

import aiohttp
import numpy as np
import pytest

from grid.learning.arrays import views
from grid.learning.tensors import Layout, TensorSpec, header_bytes, read_header
from grid.node.series.registry import device_name, topic
from grid.protocol import fleet
from grid.store import tasks
from grid.transport.auth import OWNER
from grid.wire import model_centric as wire
from tests.grid_of_nodes import ANode

StartNode = Callable[..., Awaitable[ANode]]

LAYOUT = Layout([TensorSpec("w", "F32", (4,))])
PASSWORD = "a password of a person"
SECRET = "a secret of a service"


def tensors(*values: float, layout: Layout = LAYOUT) -> bytes:
    return header_bytes(layout) + np.array(values, "<f4").tobytes()


def read(file: bytes) -> list[float]:
    layout, _, offset = read_header(file)
    return [float(value) for value in views(layout, bytearray(file[offset:]))["w"]]


def token(**said: Any) -> str:
    def part(raw: bytes) -> str:
        return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()

    text = f"{part(json.dumps({'alg': 'HS256'}).encode())}.{part(json.dumps(said).encode())}"
    return f"{text}.{part(hmac.digest(SECRET.encode(), text.encode(), sha256))}"


class PyGrid:
    """A node as PyGrid's programs call it; its clock is moved by hand."""

    def __init__(self, node: ANode, http: aiohttp.ClientSession) -> None:
        self.node, self.http = node, http
        self.parts = node.open.parts.pygrid
        self.now = time.time()
        self.parts.series.now = self.parts.rounds._registry.now = lambda: self.now
        self.bearer: dict[str, str] = {}

    async def person(self, name: str, role: str) -> None:
        house = self.node.open.parts.house
        await house.people.create(OWNER, name, PASSWORD, role=role)
        login = {"username": name, "password": PASSWORD}
        async with self.http.post(f"{self.node.address}/api/token/", json=login) as answer:
            self.bearer[name] = (await answer.json())["access"]

    async def call(self, method: str, path: str, said: Any = None, who: str = "", **query: Any) -> tuple[int, Any]:
        """Status and answer."""
        headers = {"Authorization": f"Bearer {self.bearer[who]}"} if who else {}
        kind = "data" if isinstance(said, bytes) else "json"
        url = f"{self.node.address}/model-centric/{path}"
        async with self.http.request(method, url, headers=headers, params=query, **{kind: said}) as answer:
            raw = await answer.read()
            return answer.status, json.loads(raw) if "json" in answer.content_type else raw

    async def refused(self, slug: str, method: str, path: str, said: Any = None, who: str = "", **query: Any) -> str:
        status, problem = await self.call(method, path, said, who, **query)
        assert 400 <= status < 500, problem
        assert problem["type"] == f"urn:grid:problem:{slug}", problem
        return str(problem["detail"])

    def process(self, **server: Any) -> dict[str, Any]:
        return {
            "model": tensors(1, 1, 1, 1).hex(),
            "plans": {"training_plan": {"list": b"as a list".hex(), "torchscript": b"as a script".hex()}},
            "protocols": {"sums": base64.b64encode(b"\xff how to sum").decode()},
            "client_config": {"name": "mnist", "version": "1.0", "batch_size": 64, "lr": 0.005, "mine": {"x": [1]}},
            "server_config": {"pool_selection": "iterate", "cycle_length": 600, **server},
        }

    async def host(self, **server: Any) -> int:
        status, told = await self.call("POST", "host-training", self.process(**server), "ann")
        assert (status, told["status"]) == (200, "success"), told
        return int(told["model_id"])

    async def worker(self) -> str:
        status, told = await self.call("POST", "authenticate", {"model_name": "mnist", "model_version": "1.0"})
        assert (status, told["status"]) == (200, "success"), told
        return str(told["worker_id"])

    async def ask(self, worker: str, **speeds: float) -> dict[str, Any]:
        said = {"worker_id": worker, "model": "mnist", "version": "1.0", **speeds}
        status, told = await self.call("POST", "cycle-request", said)
        assert status == 200, told
        return dict(told)

    async def key(self) -> tuple[str, str]:
        """A new worker that takes part, and its key."""
        worker = await self.worker()
        told = await self.ask(worker)
        assert told["status"] == "accepted", told
        return worker, told["request_key"]

    def report(self, worker: str, key: str, *diff: float, file: bytes = b"") -> dict[str, Any]:
        data = base64.b64encode(file or tensors(*diff)).decode()
        return {"worker_id": worker, "request_key": key, "diff": data}

    async def retrieve(self, checkpoint: str = "latest") -> list[float]:
        query = {"name": "mnist", "version": "1.0", "checkpoint": checkpoint}
        status, file = await self.call("GET", "retrieve-model", who="ann", **query)
        assert status == 200, file
        return read(file)

    async def until(self, number: int, turn: int, state: fleet.Stage) -> None:
        """Look until the series has come to a round and a stage."""
        async with asyncio.timeout(20):
            while True:
                await self.parts.rounds.tick()
                row = await self.parts.series.named("mnist", "1.0")
                assert row.id == number
                if (row.turn.number, row.turn.state) == (turn, state):
                    return
                await asyncio.to_thread(lambda: None)


@pytest.fixture
async def pygrid(start_node: StartNode, connections: aiohttp.ClientSession) -> PyGrid:
    made = PyGrid(await start_node("pygrid", data=False), connections)
    await made.person("ann", "Administrator")
    await made.person("bob", "User")
    return made


async def test_a_process_from_hosting_to_its_second_checkpoint(pygrid: PyGrid) -> None:
    number = await pygrid.host(min_diffs=2, max_diffs=2, num_cycles=1)
    first, second = await pygrid.worker(), await pygrid.worker()
    told = await pygrid.ask(first)
    key, query = told["request_key"], {"worker_id": first, "request_key": told["request_key"]}

    assert told["client_config"] == pygrid.process()["client_config"]
    assert (told["model"], told["version"], told["model_id"]) == ("mnist", "1.0", number)
    assert (told["plans"], told["protocols"]) == ({"training_plan": 1}, {"sums": 1})
    assert read((await pygrid.call("GET", "get-model", model_id=number, **query))[1]) == [1, 1, 1, 1]
    assert (await pygrid.call("GET", "get-plan", plan_id=1, **query))[1] == b"as a list"
    script = await pygrid.call("GET", "get-plan", plan_id=1, receive_operations_as="torchscript", **query)
    assert script[1] == b"as a script"
    assert (await pygrid.call("GET", "get-protocol", protocol_id=1, **query))[1] == b"\xff how to sum"

    assert await pygrid.call("POST", "report", pygrid.report(first, key, 1, 0, 0, -1)) == (200, {"status": "success"})
    told = await pygrid.ask(second)
    await pygrid.call("POST", "report", pygrid.report(second, told["request_key"], 0, 0.5, 0, -2))
    await pygrid.until(number, 2, fleet.WAITING)

    assert await pygrid.retrieve() == [0.5, 0.75, 1.0, 2.5]  # the model less the mean of the differences
    assert await pygrid.retrieve("1") == [1, 1, 1, 1]
    assert await pygrid.retrieve("2") == await pygrid.retrieve()
    last = await pygrid.ask(await pygrid.worker())
    assert (last["status"], last["reason"], "timeout" in last) == ("rejected", "over", False)  # PyGrid #519


async def test_a_round_is_closed_by_its_clock_though_nobody_reports_any_more(pygrid: PyGrid) -> None:
    """Weakness 1: the check ran in a report only."""
    number = await pygrid.host(min_diffs=1, num_cycles=2)
    worker, key = await pygrid.key()
    await pygrid.call("POST", "report", pygrid.report(worker, key, 1, 1, 1, 1))
    await pygrid.parts.rounds.tick()
    assert (await pygrid.parts.series.named("mnist", "")).turn.state == fleet.COLLECTING

    pygrid.now += 600

    await pygrid.until(number, 2, fleet.WAITING)
    assert await pygrid.retrieve() == [0, 0, 0, 0]


async def test_a_round_with_too_few_is_followed_by_one_that_begins_as_it_did(pygrid: PyGrid) -> None:
    number = await pygrid.host(min_diffs=2, num_cycles=1)
    worker, key = await pygrid.key()
    await pygrid.call("POST", "report", pygrid.report(worker, key, 1, 1, 1, 1))
    pygrid.now += 600

    await pygrid.until(number, 2, fleet.WAITING)

    assert await pygrid.retrieve() == [1, 1, 1, 1]
    assert (await pygrid.ask(worker))["status"] == "accepted"
    story = await pygrid.node.open.events.wait(topic(number), 0, 0, 100)
    assert [each.kind for each in story] == ["hosted", "collecting", "invalid", "collecting"]


async def test_late_and_repeated_reports_are_refused_and_count_for_nothing(pygrid: PyGrid) -> None:
    """Weakness 2: both were taken, and the later one replaced the one before."""
    number = await pygrid.host(min_diffs=1)
    worker, key = await pygrid.key()
    late, its_key = await pygrid.key()
    assert (await pygrid.call("POST", "report", pygrid.report(worker, key, 1, 1, 1, 1)))[0] == 200
    await pygrid.refused("update-repeated", "POST", "report", pygrid.report(worker, key, 9, 9, 9, 9))
    again = await pygrid.ask(worker)
    assert (again["status"], again["reason"]) == ("rejected", "handed-in")
    pygrid.now += 600

    await pygrid.refused("task-closed", "POST", "report", pygrid.report(late, its_key, 9, 9, 9, 9))
    await pygrid.until(number, 2, fleet.WAITING)
    await pygrid.refused("task-closed", "POST", "report", pygrid.report(late, its_key, 9, 9, 9, 9))
    assert await pygrid.retrieve() == [0, 0, 0, 0]


async def test_keys_are_of_one_device_alone(pygrid: PyGrid) -> None:
    await pygrid.host()
    worker, key = await pygrid.key()
    other, _ = await pygrid.key()

    for query in ({"worker_id": other, "request_key": key}, {"worker_id": worker, "request_key": "x.y"}):
        await pygrid.refused("ticket-refused", "GET", "get-model", **query)
        await pygrid.refused("ticket-refused", "GET", "get-plan", plan_id=1, **query)
        await pygrid.refused(
            "ticket-refused", "POST", "report", pygrid.report(**_named(query), file=tensors(0, 0, 0, 0))
        )
    await pygrid.refused("device-not-found", "GET", "get-model", worker_id="nobody", request_key=key)
    await pygrid.refused("model-not-found", "GET", "get-model", worker_id=worker, request_key=key, model_id=99)
    await pygrid.refused("model-not-found", "GET", "get-plan", worker_id=worker, request_key=key, plan_id=2)
    await pygrid.refused("device-not-found", "POST", "cycle-request", {"worker_id": "nobody"})


def _named(query: dict[str, str]) -> dict[str, str]:
    return {"worker": query["worker_id"], "key": query["request_key"]}


@pytest.mark.parametrize(
    "file",
    [
        tensors(float("nan"), 0, 0, 0),
        tensors(float("inf"), 0, 0, 0),
        tensors(0, 0, 0),
        tensors(0, 0, 0, 0)[:-1],
        tensors(0, 0, 0, 0) + b"more",
        tensors(0, 0, 0, 0, layout=Layout([TensorSpec("v", "F32", (4,))])),
        b"\x80\x04\x95 a pickle",
        b"short",
    ],
)
async def test_misshapen_differences_are_refused_and_the_key_is_still_good(pygrid: PyGrid, file: bytes) -> None:
    await pygrid.host(min_diffs=1)
    worker, key = await pygrid.key()

    await pygrid.refused("update-refused", "POST", "report", pygrid.report(worker, key, file=file))

    assert (await pygrid.call("POST", "report", pygrid.report(worker, key, 0, 0, 0, 0)))[0] == 200


async def test_who_reports_is_said_before_the_difference(pygrid: PyGrid) -> None:
    """So that nobody's bytes reach the disk before it is known whose they are."""
    await pygrid.host()
    worker, key = await pygrid.key()
    said = pygrid.report(worker, key, 0, 0, 0, 0)

    await pygrid.refused("bad-request", "POST", "report", {"diff": said["diff"], **said})
    await pygrid.refused("bad-request", "POST", "report", {"worker_id": worker, "request_key": key})


async def test_no_more_devices_than_places_however_many_ask_at_once(pygrid: PyGrid) -> None:
    number = await pygrid.host(max_workers=5, max_diffs=5)
    workers = await asyncio.gather(*(pygrid.worker() for _ in range(40)))

    told = await asyncio.gather(*(pygrid.ask(worker) for worker in workers))

    assert sum(each["status"] == "accepted" for each in told) == 5
    refused = [each for each in told if each["status"] == "rejected"]
    assert {each["reason"] for each in refused} == {"full"}
    assert all(each["timeout"] >= 600 for each in refused)
    assert len({each["timeout"] for each in refused}) > 30  # they will not come back all at once
    row = await pygrid.parts.series.named("mnist", "1.0")
    jobs = await pygrid.parts.series.database.read(lambda connection: tasks.jobs(connection, f"series-{number}-1"))
    assert (len(jobs), row.turn.state) == (5, fleet.COLLECTING)
    assert device_name(workers[0]) != workers[0]  # what a device shows is not what is written down


async def test_slow_devices_and_those_that_took_part_are_told_why_not(pygrid: PyGrid) -> None:
    number = await pygrid.host(
        minimum_upload_speed=100,
        minimum_download_speed=200,
        do_not_reuse_workers_until_cycle=2,
        max_diffs=1,
        num_cycles=5,
    )
    status, told = await pygrid.call("POST", "authenticate", {"model_name": "mnist", "model_version": "1.0"})
    assert (status, told["requires_speed_test"]) == (200, True)
    worker = told["worker_id"]

    assert (await pygrid.ask(worker))["reason"] == "too-slow"
    assert (await pygrid.ask(worker, upload=99, download=999))["reason"] == "too-slow"
    told = await pygrid.ask(worker, upload=100, download=200, ping=20)
    await pygrid.call("POST", "report", pygrid.report(worker, told["request_key"], 0, 0, 0, 0))
    await pygrid.until(number, 2, fleet.WAITING)
    told = await pygrid.ask(worker, upload=100, download=200)
    assert (told["status"], told["reason"]) == ("rejected", "rests")


async def test_a_speed_test_streams_and_is_for_devices(pygrid: PyGrid) -> None:
    """Weakness 12: 64 MiB of the server's memory for each device."""
    await pygrid.host()
    worker = await pygrid.worker()
    base = f"{pygrid.node.address}/model-centric/speed-test"
    total = 0

    async with pygrid.http.get(base, params={"worker_id": worker, "random": "1"}) as answer:
        async for block in answer.content.iter_any():
            total += len(block)
    async with pygrid.http.post(base, params={"worker_id": worker}, data=b"x" * 100_000) as answer:
        assert answer.status == 200

    assert total == wire.SPEED_TEST
    assert (await pygrid.call("GET", "speed-test", worker_id=worker, is_ping=1))[0] == 200
    await pygrid.refused("device-not-found", "GET", "speed-test", worker_id="nobody")


async def test_tokens_are_asked_for_where_a_process_says_so(pygrid: PyGrid) -> None:
    """Weakness 10: tokens without end, or signed in whatever way they said themselves."""
    await pygrid.host(authentication={"type": "jwt", "secret": SECRET})
    asked = {"model_name": "mnist", "model_version": "1.0"}

    told = await pygrid.call("POST", "authenticate", {**asked, "auth_token": token(exp=pygrid.now + 60)})
    assert told[1]["status"] == "success"
    for bad in (None, "x.y.z", token(sub="no end"), token(exp=pygrid.now - 1)):
        await pygrid.refused("not-authenticated", "POST", "authenticate", {**asked, "auth_token": bad})


async def test_not_everybody_hosts_a_process_and_no_plan_runs_here(pygrid: PyGrid) -> None:
    """Weaknesses 10 and 11: anyone could, the averaging plan ran in the server, and configs were pickled."""
    said = pygrid.process()

    await pygrid.refused("not-authenticated", "POST", "host-training", said)
    await pygrid.refused("not-allowed", "POST", "host-training", said, "bob")
    await pygrid.refused("project-refused", "POST", "host-training", {**said, "averaging_plan": "00"}, "ann")
    await pygrid.refused("model-refused", "POST", "host-training", {**said, "model": b"\x80\x04 pickle".hex()}, "ann")
    await pygrid.host()
    await pygrid.refused("project-refused", "POST", "host-training", said, "ann")
    await pygrid.refused("project-not-found", "POST", "authenticate", {"model_name": "other"})
    query = {"name": "mnist", "version": "1.0"}
    await pygrid.refused("not-authenticated", "GET", "retrieve-model", **query)
    await pygrid.refused("model-not-found", "GET", "retrieve-model", who="bob", **query)
    await pygrid.refused("model-not-found", "GET", "retrieve-model", who="ann", checkpoint="7", **query)


@pytest.mark.parametrize(
    "config",
    [
        {"max_diffs": 1, "min_diffs": 2},
        {"max_workers": 1, "min_diffs": 2},
        {"authentication": {"endpoint": "http://127.0.0.1/judge"}},
        {"authentication": {}},
        {"authentication": {"pub_key": "no key"}},
    ],
)
async def test_what_cannot_be_is_refused_when_it_is_hosted(pygrid: PyGrid, config: dict[str, Any]) -> None:
    await pygrid.refused("project-refused", "POST", "host-training", pygrid.process(**config), "ann")


async def test_a_key_that_is_not_known_is_not_passed_over(pygrid: PyGrid) -> None:
    await pygrid.refused("bad-request", "POST", "host-training", pygrid.process(max_worker=3), "ann")


async def test_the_same_by_websocket(pygrid: PyGrid) -> None:
    headers = {"Authorization": f"Bearer {pygrid.bearer['ann']}"}
    async with pygrid.http.ws_connect(f"{pygrid.node.address}/", headers=headers) as socket:

        async def say(kind: str, **data: Any) -> dict[str, Any]:
            await socket.send_json({"type": f"model-centric/{kind}", "data": data, "request_id": "7"})
            told = await socket.receive_json(timeout=10)
            assert (told["type"], told["request_id"]) == (f"model-centric/{kind}", "7")
            return dict(told["data"])

        number = (await say("host-training", **pygrid.process(max_diffs=1)))["model_id"]
        worker = (await say("authenticate", model_name="mnist", model_version="1.0"))["worker_id"]
        key = (await say("cycle-request", worker_id=worker, model="mnist", version="1.0"))["request_key"]
        assert await say("report", **pygrid.report(worker, key, 1, 1, 1, 1)) == {"status": "success"}
        again = await say("report", **pygrid.report(worker, key, 1, 1, 1, 1))
        assert again["reason"] in ("update-repeated", "task-closed")
        assert (await say("nothing"))["reason"] == "bad-request"
        await socket.send_str("no message")
        assert "error" in (await socket.receive_json(timeout=10))["data"]

    await pygrid.until(number, 2, fleet.WAITING)
    assert await pygrid.retrieve() == [0, 0, 0, 0]


async def test_nobody_hosts_by_websocket_who_may_not(pygrid: PyGrid) -> None:
    async with pygrid.http.ws_connect(f"{pygrid.node.address}/") as socket:
        await socket.send_json({"type": "model-centric/host-training", "data": pygrid.process()})
        assert (await socket.receive_json(timeout=10))["data"]["reason"] == "not-allowed"


async def test_an_outsider_finds_nothing_of_a_process_among_the_tasks(pygrid: PyGrid) -> None:
    number = await pygrid.host()
    await pygrid.key()
    headers = {"Authorization": f"Bearer {pygrid.bearer['bob']}"}

    async with pygrid.http.get(f"{pygrid.node.address}/v1/tasks", headers=headers) as answer:
        assert (await answer.json())["tasks"] == []
    url = f"{pygrid.node.address}/v1/tasks/series-{number}-1/jobs"
    async with pygrid.http.post(url, headers=headers, json={}) as answer:
        assert answer.status == 404
