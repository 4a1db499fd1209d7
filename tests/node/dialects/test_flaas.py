"""FLaaS's contract, as its app and its README speak it, L1 to L8; and what its server let happen."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import aiohttp
import numpy as np
import pytest

from grid.learning.arrays import Buffer
from grid.learning.joint import Mode, learn_jointly
from grid.learning.tensors import Layout, TensorSpec, header_bytes
from grid.node.fleet import rounds as rounds_module
from grid.node.fleet.push import Gone
from grid.node.tasks.registry import Asked
from grid.protocol import fleet
from grid.store import fleets as fleets_store
from grid.transport.auth import OWNER
from grid.wire import flaas as flaas_wire
from grid.wire import models as wire
from grid.wire.problems import ProjectRefused, RoundNotFound
from tests.grid_of_nodes import ANode

StartNode = Callable[..., Awaitable[ANode]]

WIDTH = 4
PASSWORD = "a password of a phone"


def numbers(*values: float) -> bytes:
    return np.array(values * (WIDTH // len(values)), "<f4").tobytes()


def device_info(plugged: bool = True, level: float = 1.0, **more: Any) -> dict[str, Any]:
    """What FLaaS's app tells of a phone."""
    return {
        "app_details": {"version_code": 12, "version_name": "1.2"},
        "battery_status": {"level": level, "power_plugged": plugged, "temperature": 300, "technology": "Li-ion"},
        "usage_stats_details": {"app_standby_bucket": 30},
        "device_details": {"os": "Android", "model": "PLANTED-MODEL"},
        "cell_towers_info": [{"cid": "PLANTED-TOWER"}],
        "location": {"latitude": "PLANTED-PLACE"},
        **more,
    }


class Bell(asyncio.Event):
    """What tells the node's scheduler to look; while it is `deaf`, the test alone does."""

    deaf = True

    def set(self) -> None:
        if not self.deaf:
            super().set()


class Flaas:
    """A node as FLaaS's programs call it, with devices of the names that are given; and its clock, moved by hand."""

    def __init__(self, node: ANode, http: aiohttp.ClientSession) -> None:
        self.node, self.http = node, http
        self.parts = node.open.parts.flaas
        self.now = time.time()
        before, self.bell = self.parts.fleets.changed, Bell()
        self.parts.fleets.changed = self.bell
        before.set()  # whoever listens to that one already looks again, and listens to this one
        self.parts.fleets.now = self.parts.jobs._registry.now = lambda: self.now
        self.token: dict[str, str] = {}

    async def people(self, *names: str, role: str = "User") -> None:
        for name in names:
            await self.parts.house.people.create(OWNER, name, PASSWORD, role=role)
            pair = await self.ask("", "POST token/", {"username": name, "password": PASSWORD})
            self.token[name] = pair["access"]

    async def devices(self, *names: str) -> None:
        """Accounts that are devices, their samples counted from 0."""
        await self.people(*names)
        for index, name in enumerate(names):
            await self.parts.fleets.database.write(
                lambda connection, name=name, index=index: fleets_store.add_device(connection, name, index)
            )

    async def ask(self, who: str, call: str, body: Any = None, status: int = 0, **more: Any) -> Any:
        """What `who` is answered, which has to be of this status (any success, if it is not given)."""
        method, path = call.split(" ")
        headers = {"Authorization": f"Bearer {self.token[who]}"} if who else {}
        url = f"{self.node.address}/api/{path}"
        kind = "data" if isinstance(body, bytes) else "json"
        async with self.http.request(method, url, headers=headers, **{kind: body}, **more) as response:
            raw = await response.read()
            good = response.status == status if status else response.status < 300
            assert good, (call, response.status, raw)
            return json.loads(raw) if raw and "json" in response.content_type else raw

    async def refused(self, who: str, call: str, slug: str, body: Any = None) -> str:
        method, path = call.split(" ")
        headers = {"Authorization": f"Bearer {self.token[who]}"} if who else {}
        kind = "data" if isinstance(body, bytes) else "json"
        url = f"{self.node.address}/api/{path}"
        async with self.http.request(method, url, headers=headers, **{kind: body}) as response:
            problem = await response.json(content_type=None)
            assert problem["type"] == f"urn:grid:problem:{slug}", problem
            assert 400 <= response.status < 500
            return str(problem["detail"])

    async def project(self, **terms: Any) -> int:
        """A project that is in progress, of all devices whose names begin with "phone"."""
        asked = {"title": "Project 1", "model": "tiny", "status": "In Progress", **terms}
        made = await self.ask("ann", "POST project/", asked, 201)
        await self.parts.fleets.assign(made["id"], "phone")
        return int(made["id"])

    async def ping(self, *names: str, **info: Any) -> None:
        for name in names:
            said = {"request_type": "device-ping", "device_info": device_info(**info)}
            await self.ask(name, "POST report-availability", said, 201)

    async def train(self, name: str, project: int, number: int, data: bytes, samples: int = 0) -> None:
        """All that the app does in a round."""
        base = f"project/{project}"
        for status in (1, 2):
            await self.ask(name, f"GET {base}/join-round/{number}/?status={status}")
        await self.ask(name, f"GET {base}/get-model/{number}/")
        for status in (3, 4):
            await self.ask(name, f"GET {base}/join-round/{number}/?status={status}")
        await self.ask(name, f"POST {base}/submit-model/{number}/model_weights.bin?samples={samples}", data, 201)
        told = json.dumps({"local_training_worker": {"epochs": [0.5, 0.25]}}).encode()
        await self.ask(name, f"GET {base}/join-round/{number}/?status=5")
        await self.ask(name, f"POST {base}/submit-results/{number}/performance.json", told, 201)
        await self.ask(name, f"GET {base}/join-round/{number}/?status=6")

    async def until(self, project: int, number: int, state: fleet.Stage) -> None:
        """Look until a round is in a state."""
        async with asyncio.timeout(20):
            while (await self.round(project, number)) != state:
                await self.parts.rounds.tick()
                await asyncio.to_thread(lambda: None)

    async def round(self, project: int, number: int) -> fleet.Stage | None:
        try:
            return (await self.parts.rounds.round_of(OWNER, project, number))[1].turn.state
        except RoundNotFound:
            return None


@pytest.fixture
async def flaas(start_node: StartNode, connections: aiohttp.ClientSession) -> Flaas:
    node = await start_node("flaas", data=False)
    made = Flaas(node, connections)
    await made.people("ann", role="Administrator")
    models = node.open.parts.flea.models
    await models.put_model(OWNER, "tiny", wire.NewModel())
    await models.put_rule(OWNER, "tiny", "ann", wire.AccessRule())
    await models.put_variant(OWNER, "tiny", "plain", wire.NewVariant())
    layout = Layout([TensorSpec("w", "F32", (WIDTH,))])

    async def blocks() -> AsyncIterator[bytes]:
        yield header_bytes(layout) + numbers(0.5)

    await models.put_checkpoint(OWNER, "tiny", "plain", "first", blocks())
    return made


# --- L1: the README's list ------------------------------------------------------------------------


async def test_l1_every_verb_that_the_readme_claims_is_answered_with_and_without_a_slash(flaas: Flaas) -> None:
    await flaas.devices("phone1")
    project = await flaas.project()
    samples = flaas.parts.samples / "IID" / "0" / "Red" / "samples.bin"
    samples.parent.mkdir(parents=True)
    samples.write_bytes(b"red samples")

    for slash in ("", "/"):
        listed = await flaas.ask("phone1", f"GET project{slash}")
        assert [each["title"] for each in listed] == ["Project 1"]
        assert (await flaas.ask("phone1", f"GET project/{project}{slash}"))["id"] == project
        changed = await flaas.ask("ann", f"PUT project/{project}{slash}", {"description": f"x{slash}"})
        assert changed["description"] == f"x{slash}"
        assert await flaas.ask("phone1", f"GET get-samples/IID/Red{slash}") == b"red samples"
        assert await flaas.ask("phone1", f"GET project/{project}/get-model/0{slash}") == numbers(0.5)
        ping = {"request_type": "device-ping", "device_info": device_info()}
        await flaas.ask("phone1", f"POST report-availability{slash}", ping, 201)
    await flaas.parts.rounds.tick()
    for slash in ("", "/"):
        told = await flaas.ask("phone1", f"GET project/{project}/join-round/0{slash}")
        assert (told["status"], told["round_number"], told["number_of_epochs"]) == (2, 0, 20)
    await flaas.ask("phone1", f"POST project/{project}/submit-results/0/performance.json", b"{}", 201)
    await flaas.ask("phone1", f"POST project/{project}/submit-model/0/model_weights.bin", numbers(1.0), 201)
    await flaas.ask("ann", f"DELETE project/{project}/", status=204)
    await flaas.refused("phone1", f"GET project/{project}", "project-not-found")


async def test_l1_a_project_has_all_fields_with_their_defaults(flaas: Flaas) -> None:
    made = await flaas.ask("ann", "POST project/", {"title": "all", "unknown": 1}, 201)

    assert {name: value for name, value in made.items() if name not in ("id", "create_date")} == {
        "title": "all",
        "description": None,
        "status": "Stopped",
        "model": "CIFAR10_B20",
        "dataset": "CIFAR10",
        "dataset_type": "IID",
        "training_mode": "BASELINE",
        "number_of_rounds": 20,
        "number_of_apps": 3,
        "number_of_samples": 150,
        "number_of_epochs": 20,
        "responses_ratio_threshold": "0.80",
        "max_training_time": 60,
        "valid_round_training_threshold": "0.70",
        "power_plugged_only": True,
        "battery_level_threshold": "0.60",
        "seed": 42524235,
        "current_round": 0,
        "aggregation": "fedavg",
    }
    first = await flaas.ask("ann", f"GET project/{made['id']}/get-model/0")
    assert (len(first), set(first)) == (4 * 627_210, {0})
    await flaas.refused("ann", "POST project", "project-refused", {"title": "all"})
    for wrong in (
        {"title": ""},
        {"title": "x" * 31},
        {"title": "b", "max_training_time": 0},
        {"title": "b", "seed": -1},
    ):
        await flaas.refused("ann", "POST project", "bad-request", wrong)
    assert await flaas.refused("ann", "POST project", "model-not-found", {"title": "b", "model": "none"})
    assert (await flaas.ask("ann", f"PUT project/{made['id']}", {"battery_level_threshold": "0.25"}))[
        "battery_level_threshold"
    ] == "0.25"


async def test_a_model_that_phones_cannot_take_begins_no_project(flaas: Flaas) -> None:
    models = flaas.node.open.parts.flea.models
    layout = Layout([TensorSpec("w", "F64", (WIDTH,))])

    async def blocks() -> AsyncIterator[bytes]:
        yield header_bytes(layout) + bytes(layout.size)

    await models.put_model(OWNER, "wide", wire.NewModel())
    await models.put_rule(OWNER, "wide", "*", wire.AccessRule())
    await models.put_variant(OWNER, "wide", "plain", wire.NewVariant())
    await models.put_checkpoint(OWNER, "wide", "plain", "first", blocks())

    assert "float32" in await flaas.refused("ann", "POST project", "model-refused", {"title": "w", "model": "wide"})


# --- L2, L4, L5: devices -------------------------------------------------------------------------


async def test_l2_a_report_says_what_is_needed_and_nothing_of_where_the_phone_is_is_kept(flaas: Flaas) -> None:
    await flaas.devices("phone1")
    await flaas.project()
    await flaas.ping("phone1", plugged=False, level=0.5)

    (told,) = await flaas.parts.fleets.database.read(lambda c: fleets_store.reports(c, 0.0))
    assert (told.name, told.version, told.bucket, told.round) == ("phone1", 12, 30, 0)
    assert told.report == fleet.Report(flaas.now, plugged=False, level=0.5)
    kept = b"".join(path.read_bytes() for path in flaas.node.folder.rglob("*") if path.is_file())
    assert b"PLANTED" not in kept
    for wrong in ({}, {"request_type": "device-ping"}, {"request_type": "device-train", "eligible": True}):
        await flaas.refused("phone1", "POST report-availability", "bad-request", wrong)
    await flaas.refused(
        "ann", "POST report-availability", "device-not-found", {"request_type": "device-ping", "eligible": True}
    )


async def test_l2_a_phone_may_judge_by_itself_and_say_no_more_than_yes_or_no(flaas: Flaas) -> None:
    await flaas.devices("phone1")
    project = await flaas.project()

    for says, state in ((False, fleet.WAITING), (True, fleet.COLLECTING)):
        await flaas.ask("phone1", "POST report-availability", {"request_type": "device-ping", "eligible": says}, 201)
        await flaas.parts.rounds.tick()
        assert await flaas.round(project, 0) == state


async def test_l4_no_two_devices_have_the_same_samples(flaas: Flaas) -> None:
    await flaas.devices("phone1", "phone2")
    for index in range(2):
        path = flaas.parts.samples / "NonIID" / str(index) / "Blue" / "samples.bin"
        path.parent.mkdir(parents=True)
        path.write_bytes(b"shard %d" % index)

    assert await flaas.ask("phone1", "GET get-samples/NonIID/Blue/") == b"shard 0"
    assert await flaas.ask("phone2", "GET get-samples/NonIID/Blue/") == b"shard 1"
    await flaas.refused("phone2", "GET get-samples/NonIID/Green/", "device-not-found")
    await flaas.refused("phone2", "GET get-samples/..%2F..%2Fidentity/Green/", "bad-request")
    await flaas.people("phone3")
    with pytest.raises(ProjectRefused):
        await flaas.parts.fleets.database.write(lambda c: fleets_store.add_device(c, "phone3", 1))


async def test_l5_the_call_to_train_is_in_the_events_of_a_project_for_its_devices_alone(flaas: Flaas) -> None:
    await flaas.devices("phone1", "outsider")
    project = await flaas.project(max_training_time=30, training_mode="JOINT_MODELS")
    heard = await flaas.ask("phone1", f"GET project/{project}/events")
    assert [each["kind"] for each in heard["events"]] == ["created"]
    waiting = asyncio.ensure_future(flaas.ask("phone1", f"GET project/{project}/events?after={heard['after']}&wait=20"))
    await flaas.ping("phone1")
    await flaas.parts.rounds.tick()
    told = await waiting
    assert [each["kind"] for each in told["events"]] == ["train"]
    call = told["events"][-1]["data"]
    assert call == {
        "type": "train",
        "validDate": int((flaas.now + 1800) * 1000),
        "request": call["request"],
        "project": project,
        "round": 0,
        "trainingMode": "JOINT_MODELS",
    }
    done = {"request_type": "device-train", "request_id": call["request"], "device_info": device_info()}
    await flaas.ask("phone1", "POST report-availability", done, 201)
    await flaas.refused("phone1", "POST report-availability", "round-not-found", {**done, "request_id": 99})
    await flaas.refused("outsider", f"GET project/{project}/events", "project-not-found")


# --- L3: rounds by the clock -----------------------------------------------------------------------

PHONES = tuple(f"phone{number}" for number in range(1, 6))


async def test_l3_a_round_begins_when_four_of_five_can_train_and_not_before(flaas: Flaas) -> None:
    await flaas.devices(*PHONES)
    project = await flaas.project()

    await flaas.ping(*PHONES[:3])
    await flaas.ping(PHONES[3], plugged=False)
    said = await flaas.parts.rounds.tick()
    assert "Ratio is 0.60 (3/5)" in said
    assert await flaas.round(project, 0) == fleet.WAITING
    await flaas.refused("phone1", f"GET project/{project}/join-round/0", "round-closed")
    flaas.now += 3600.0
    await flaas.ping(PHONES[3])
    assert "Ratio is 0.20 (1/5)" in await flaas.parts.rounds.tick()  # the others' reports are an hour old
    await flaas.ping(*PHONES[:3])
    assert "Sending train request: 4 devices." in await flaas.parts.rounds.tick()
    assert await flaas.round(project, 0) == fleet.COLLECTING


async def test_l3_a_round_is_complete_with_seven_of_ten_when_its_time_is_over(flaas: Flaas) -> None:
    names = tuple(f"phone{number}" for number in range(10))
    await flaas.devices(*names)
    project = await flaas.project(number_of_rounds=1)
    await flaas.ping(*names)
    await flaas.parts.rounds.tick()
    for name in names[:7]:
        await flaas.train(name, project, 0, numbers(1.0))

    flaas.now += 3599.0
    assert "Waiting for 0 more minutes. Current Ratio is 0.70 (7 out of 10)." in await flaas.parts.rounds.tick()
    assert await flaas.round(project, 0) == fleet.COLLECTING
    flaas.now += 1.0
    await flaas.until(project, 0, fleet.COMPLETE)
    told = await flaas.ask("phone1", f"GET project/{project}")
    assert (told["status"], told["current_round"]) == ("Completed", 1)
    assert await flaas.ask("phone1", f"GET project/{project}/get-model/1") == numbers(1.0)


async def test_l3_a_round_of_too_few_is_invalid_and_the_next_begins_with_the_same_model(flaas: Flaas) -> None:
    await flaas.devices(*PHONES)
    project = await flaas.project()
    await flaas.ping(*PHONES)
    await flaas.parts.rounds.tick()
    for name in PHONES[:3]:
        await flaas.train(name, project, 0, numbers(9.0))
    flaas.now += 3600.0
    said = await flaas.parts.rounds.tick()

    assert "Round '0' is invalid: 3 of 5 devices handed in in time." in said
    assert await flaas.round(project, 0) == fleet.INVALID
    assert await flaas.ask("phone1", f"GET project/{project}/get-model/1") == numbers(0.5)
    await flaas.ping(*PHONES)
    await flaas.parts.rounds.tick()
    assert await flaas.round(project, 1) == fleet.COLLECTING
    assert not [path for path in flaas.node.folder.rglob("update-*") if path.is_file()]


async def test_l3_a_round_ends_at_once_when_nobody_is_waited_for(flaas: Flaas) -> None:
    await flaas.devices(*PHONES)
    project = await flaas.project()
    await flaas.ping(*PHONES[:4])
    await flaas.parts.rounds.tick()
    for number, name in enumerate(PHONES[:4]):
        assert await flaas.round(project, 0) == fleet.COLLECTING
        await flaas.train(name, project, 0, numbers(float(number)))

    await flaas.until(project, 0, fleet.COMPLETE)
    assert await flaas.ask("phone1", f"GET project/{project}/get-model/1") == numbers(1.5)


async def test_l3_a_project_that_is_stopped_asks_nobody_and_goes_on_where_it_was(flaas: Flaas) -> None:
    await flaas.devices("phone1")
    project = await flaas.project(number_of_rounds=1)
    await flaas.ask("ann", f"PUT project/{project}", {"status": "Stopped"})
    await flaas.ping("phone1")

    assert await flaas.parts.rounds.tick() == ["Found 0 available projects."]
    await flaas.ask("ann", f"PUT project/{project}", {"status": "In Progress"})
    await flaas.until(project, 0, fleet.COLLECTING)
    await flaas.train("phone1", project, 0, numbers(1.0))
    await flaas.until(project, 0, fleet.COMPLETE)
    await flaas.refused("ann", f"PUT project/{project}", "out-of-turn", {"status": "In Progress"})
    await flaas.refused("ann", f"PUT project/{project}", "project-refused", {"model": "CIFAR10_B20"})


async def test_l3_a_node_that_was_stopped_goes_on_with_its_round(flaas: Flaas, start_node: StartNode) -> None:
    await flaas.devices("phone1", "phone2")
    project = await flaas.project()
    await flaas.ping("phone1", "phone2")
    await flaas.parts.rounds.tick()
    await flaas.train("phone1", project, 0, numbers(1.0))
    await flaas.node.stop()
    tokens = flaas.token

    again = Flaas(await start_node("flaas", data=False), flaas.http)
    again.token = tokens
    await again.train("phone2", project, 0, numbers(2.0))
    await again.until(project, 0, fleet.COMPLETE)
    assert await again.ask("phone1", f"GET project/{project}/get-model/1") == numbers(1.5)


async def test_l3_a_node_that_stopped_when_it_had_opened_the_task_takes_that_one(flaas: Flaas) -> None:
    await flaas.devices("phone1")
    project = await flaas.project()
    await flaas.ping("phone1")
    at = await flaas.parts.fleets.database.read(lambda c: rounds_module._standing(c, project))
    await flaas.parts.rounds._open(at, f"fleet-{project}-0", flaas.now + 10.0)
    flaas.now += 60.0

    assert "Sending train request: 1 devices." in await flaas.parts.rounds.tick()
    assert (await flaas.parts.jobs._registry.get(OWNER, f"fleet-{project}-0")).task.ends == flaas.now + 3600.0
    await flaas.train("phone1", project, 0, numbers(1.0))


async def test_a_task_of_somebody_else_by_the_name_of_a_round_is_not_taken_for_it(flaas: Flaas) -> None:
    await flaas.devices("phone1")
    project = await flaas.project()
    asked = Asked(f"fleet-{project}-0", "tiny", "plain", flaas.now + 10.0, checkpoints=("first",))
    await flaas.parts.jobs._registry.register(OWNER, asked)
    await flaas.ping("phone1")

    assert f"there is a task fleet-{project}-0 already" in await flaas.parts.rounds.tick()
    assert await flaas.round(project, 0) == fleet.WAITING


async def test_l3_a_node_that_stopped_between_the_task_and_the_round_goes_on_with_what_the_task_is(
    flaas: Flaas,
) -> None:
    await flaas.devices("phone1")
    project = await flaas.project()
    await flaas.ping("phone1")
    await flaas.until(project, 0, fleet.COLLECTING)
    registry, outcome = flaas.parts.jobs._registry, flaas.parts.rounds._outcome
    await flaas.train("phone1", project, 0, numbers(1.0))
    await registry.change(OWNER, f"fleet-{project}-0", opened=False)
    await outcome.aggregate(OWNER, f"fleet-{project}-0")
    while await flaas.round(project, 0) != fleet.COMPLETE:
        await flaas.parts.rounds.tick()
    await flaas.ping("phone1")
    await flaas.parts.rounds.tick()
    assert await flaas.round(project, 1) == fleet.COLLECTING
    await registry.change(OWNER, f"fleet-{project}-1", opened=False)
    await outcome.archive(OWNER, f"fleet-{project}-1")
    await flaas.parts.rounds.tick()

    assert await flaas.round(project, 1) == fleet.INVALID
    assert await flaas.ask("phone1", f"GET project/{project}/get-model/2") == numbers(1.0)


async def test_l3_a_round_whose_models_cannot_be_summed_is_invalid_and_says_why(flaas: Flaas) -> None:
    await flaas.devices("phone1", "phone2")
    project = await flaas.project(aggregation={"aggregation": {"name": "krum"}})
    await flaas.ping("phone1", "phone2")
    await flaas.until(project, 0, fleet.COLLECTING)
    for name in ("phone1", "phone2"):
        await flaas.train(name, project, 0, numbers(1.0))
    await flaas.until(project, 0, fleet.INVALID)

    told = await flaas.ask("phone1", f"GET project/{project}/events")
    (reason,) = [each["data"]["reason"] for each in told["events"] if each["kind"] == "invalid"]
    assert "it takes 5" in reason
    assert await flaas.ask("phone1", f"GET project/{project}/get-model/1") == numbers(0.5)


async def test_l3_a_round_that_counted_models_which_cannot_be_summed_is_invalid(flaas: Flaas) -> None:
    await flaas.devices("phone1", "phone2")
    project = await flaas.project()
    await flaas.ping("phone1", "phone2")
    await flaas.until(project, 0, fleet.COLLECTING)
    for name, value in (("phone1", 1.0), ("phone2", 1e30)):  # finite, and beyond what a sum takes
        await flaas.train(name, project, 0, numbers(value))

    await flaas.until(project, 0, fleet.INVALID)
    assert await flaas.ask("phone1", f"GET project/{project}/get-model/1") == numbers(0.5)


async def test_a_project_that_is_removed_in_a_round_leaves_nothing(flaas: Flaas) -> None:
    await flaas.devices("phone1", "phone2")
    project = await flaas.project()
    await flaas.ping("phone1", "phone2")
    await flaas.until(project, 0, fleet.COLLECTING)
    await flaas.train("phone1", project, 0, numbers(1.0))
    await flaas.ask("ann", f"DELETE project/{project}", status=204)

    assert await flaas.parts.rounds.tick() == ["Found 0 available projects."]
    await flaas.refused("phone2", f"GET project/{project}/join-round/0", "project-not-found")
    assert not [path for path in flaas.node.folder.rglob("update-*") if path.is_file()]


async def test_reports_are_forgotten_after_ninety_days(flaas: Flaas) -> None:
    await flaas.devices("phone1")
    await flaas.ping("phone1")
    flaas.now += 91 * 86_400.0
    await flaas.ping("phone1")
    await flaas.parts.fleets.forget_reports()

    (told,) = await flaas.parts.fleets.database.read(lambda c: fleets_store.reports(c, 0.0))
    assert told.report.at == flaas.now


async def test_l3_twenty_rounds_of_instant_devices_take_seconds_and_nobody_ticks(flaas: Flaas) -> None:
    flaas.bell.deaf = False
    await flaas.devices(*PHONES[:3])
    project = await flaas.project(number_of_rounds=20)
    await flaas.ping(*PHONES[:3])

    began, cursor, done = time.monotonic(), 0, 0
    while done < 20:
        heard = await flaas.ask("phone1", f"GET project/{project}/events?after={cursor}&wait=20")
        cursor = heard["after"]
        for event in heard["events"]:
            done += event["kind"] == "complete"
            if event["kind"] == "train":
                number = event["data"]["round"]
                for name in PHONES[:3]:
                    await flaas.ask(name, f"GET project/{project}/join-round/{number}/?status=1")
                    call = f"POST project/{project}/submit-model/{number}/model_weights.bin"
                    await flaas.ask(name, call, numbers(float(number)), 201)
    assert time.monotonic() - began < 60.0
    assert (await flaas.ask("phone1", f"GET project/{project}"))["status"] == "Completed"
    assert await flaas.ask("phone1", f"GET project/{project}/get-model/20") == numbers(19.0)


# --- L7: tokens -----------------------------------------------------------------------------------


async def test_l7_a_refresh_word_is_good_once_and_a_replay_ends_the_session(flaas: Flaas) -> None:
    await flaas.people("sue")
    said = {"username": "sue", "password": PASSWORD}
    for slash in ("", "/"):
        first = await flaas.ask("", f"POST token{slash}", said)
        second = await flaas.ask("", f"POST token/refresh{slash}", {"refresh": first["refresh"]})
        assert second["refresh"] != first["refresh"]
        flaas.token["sue"] = second["access"]
        assert await flaas.ask("sue", "GET project") == []
        await flaas.refused("", "POST token/refresh", "not-authenticated", {"refresh": first["refresh"]})
        await flaas.refused("", "POST token/refresh", "not-authenticated", {"refresh": second["refresh"]})
        await flaas.refused("sue", "GET project", "not-authenticated")
    await flaas.refused("", "POST token", "not-authenticated", {**said, "password": "wrong password"})
    await flaas.refused("", "GET project", "not-authenticated")


async def test_l7_an_access_token_is_short(flaas: Flaas) -> None:
    logins = flaas.parts.house.logins
    logins._now = lambda: time.time() + 901.0

    await flaas.refused("ann", "GET project", "not-authenticated")


# --- what FLaaS's server let happen -----------------------------------------------------------------


async def test_an_outsider_sees_no_project_and_poisons_no_mean(flaas: Flaas) -> None:
    await flaas.devices("phone1", "phone2", "outsider")
    project = await flaas.project()
    await flaas.ping("phone1", "phone2", "outsider")
    await flaas.parts.rounds.tick()

    base = f"project/{project}"
    assert await flaas.ask("outsider", "GET project") == []
    for call in (f"GET {base}", f"GET {base}/get-model/0", f"GET {base}/join-round/0?status=6"):
        await flaas.refused("outsider", call, "project-not-found")
    await flaas.refused("outsider", f"POST {base}/submit-model/0/model_weights.bin", "project-not-found", numbers(1e9))
    for name in ("phone1", "phone2"):
        await flaas.train(name, project, 0, numbers(1.0))
    await flaas.until(project, 0, fleet.COMPLETE)
    assert await flaas.ask("phone1", f"GET {base}/get-model/1") == numbers(1.0)
    await flaas.refused("outsider", f"DELETE {base}", "not-allowed")
    await flaas.refused("phone1", f"PUT {base}", "not-allowed", {"status": "Stopped"})
    await flaas.refused("phone1", "POST project", "not-allowed", {"title": "mine"})


async def test_a_device_counts_once_however_often_it_reports_and_hands_in(flaas: Flaas) -> None:
    await flaas.devices(*PHONES[:4])
    project = await flaas.project()
    await flaas.ping(*PHONES[:4])
    await flaas.parts.rounds.tick()
    await flaas.train("phone1", project, 0, numbers(8.0))

    base = f"project/{project}"
    await flaas.refused("phone1", f"POST {base}/submit-model/0/other.bin", "update-repeated", numbers(8.0))
    await flaas.refused("phone1", f"GET {base}/join-round/0", "commits-spent")
    for _ in range(3):
        await flaas.ping("phone1")
    assert "Waiting for 60 more minutes. Current Ratio is 0.25 (1 out of 4)." in await flaas.parts.rounds.tick()
    for name in PHONES[1:4]:
        await flaas.train(name, project, 0, numbers(0.0))
    await flaas.until(project, 0, fleet.COMPLETE)
    assert await flaas.ask("phone1", f"GET {base}/get-model/1") == numbers(2.0)


async def test_to_say_that_one_is_done_does_not_make_it_so(flaas: Flaas) -> None:
    await flaas.devices("phone1", "phone2")
    project = await flaas.project()
    await flaas.ping("phone1", "phone2")
    await flaas.parts.rounds.tick()

    base = f"project/{project}"
    await flaas.refused("phone1", f"GET {base}/join-round/0?status=6", "out-of-turn")
    await flaas.refused("phone1", f"POST {base}/submit-model/0/w.bin", "not-invited", numbers(1.0))
    await flaas.refused("phone1", f"GET {base}/join-round/0?status=3", "not-invited")
    await flaas.ask("phone1", f"GET {base}/join-round/0")
    await flaas.refused("phone1", f"GET {base}/join-round/0?status=6", "out-of-turn")
    for wrong in (numbers(1.0)[:-4], numbers(1.0) + b"1234", b"", numbers(float("nan")), numbers(float("inf"))):
        await flaas.refused("phone1", f"POST {base}/submit-model/0/w.bin", "update-refused", wrong)
    await flaas.ask("phone1", f"GET {base}/join-round/0")  # it may begin anew
    assert "Waiting for 60 more minutes. Current Ratio is 0.00 (0 out of 2)." in await flaas.parts.rounds.tick()


async def test_a_late_model_changes_nothing_of_a_round_that_is_over(flaas: Flaas) -> None:
    await flaas.devices("phone1", "phone2", "phone3")
    project = await flaas.project(valid_round_training_threshold=0.6)
    await flaas.ping("phone1", "phone2", "phone3")
    await flaas.parts.rounds.tick()
    for name in ("phone1", "phone2"):
        await flaas.train(name, project, 0, numbers(1.0))
    await flaas.ask("phone3", f"GET project/{project}/join-round/0")
    flaas.now += 3600.0

    call = f"POST project/{project}/submit-model/0/model_weights.bin"
    await flaas.refused("phone3", call, "task-closed", numbers(5.0))
    await flaas.until(project, 0, fleet.COMPLETE)
    await flaas.refused("phone3", call, "task-closed", numbers(5.0))
    assert "takes no models any more" in await flaas.refused(
        "phone3", f"GET project/{project}/join-round/0", "round-closed"
    )
    assert await flaas.ask("phone3", f"GET project/{project}/get-model/1") == numbers(1.0)


async def test_what_is_not_there_is_not_found(flaas: Flaas) -> None:
    await flaas.devices("phone1")
    project = await flaas.project()

    for call in ("GET project/{}/join-round/7", "GET project/{}/get-model/7", "POST project/{}/submit-model/7/w.bin"):
        body = numbers(1.0) if call.startswith("POST") else None
        await flaas.refused("phone1", call.format(project), "round-not-found", body)
        await flaas.refused("phone1", call.format(99), "project-not-found", body)
    await flaas.refused("phone1", f"GET project/{project}/get-model/x", "bad-request")
    await flaas.refused("phone1", f"POST project/{project}/submit-model/0/w.bin", "out-of-turn", numbers(1.0))


async def test_a_mean_weighs_each_device_by_its_samples_and_no_more_than_the_project_says(flaas: Flaas) -> None:
    await flaas.devices("phone1", "phone2")
    project = await flaas.project(number_of_samples=10, number_of_apps=3)
    await flaas.ping("phone1", "phone2")
    await flaas.parts.rounds.tick()
    await flaas.train("phone1", project, 0, numbers(4.0), samples=10)
    await flaas.train("phone2", project, 0, numbers(0.0), samples=10**9)

    await flaas.until(project, 0, fleet.COMPLETE)
    assert await flaas.ask("phone1", f"GET project/{project}/get-model/1") == numbers(1.0)


async def test_a_robust_mean_is_a_field_of_the_project(flaas: Flaas) -> None:
    await flaas.devices(*PHONES)
    project = await flaas.project(aggregation={"aggregation": {"name": "median"}})
    await flaas.ping(*PHONES)
    await flaas.parts.rounds.tick()
    for name, value in zip(PHONES, (1.0, 1.0, 2.0, 2.0, 1e9), strict=True):
        await flaas.train(name, project, 0, numbers(value))

    await flaas.until(project, 0, fleet.COMPLETE)
    assert await flaas.ask("phone1", f"GET project/{project}/get-model/1") == numbers(2.0)
    await flaas.refused(
        "ann", "POST project", "strategy-refused", {"title": "x", "model": "tiny", "aggregation": "scaffold"}
    )


# --- L5: push --------------------------------------------------------------------------------------


class Recorder:
    """A push service that takes everything, until `gone`."""

    def __init__(self) -> None:
        self.sent, self.gone, self.heard = list[tuple[object, Any]](), False, asyncio.Event()

    async def send(self, to: object, told: Any, lives: float) -> None:
        self.heard.set()
        if self.gone:
            raise Gone
        self.sent.append((to, told))


async def test_l5_devices_that_asked_for_it_are_woken_and_forgotten_when_they_are_gone(flaas: Flaas) -> None:
    recorder = Recorder()
    flaas.parts.rounds._called._drivers = {flaas_wire.Fcm: recorder}  # type: ignore[attr-defined]
    await flaas.devices("phone1", "phone2")
    project = await flaas.project()
    await flaas.ask("phone1", "PUT push", {"wake": {"kind": "fcm", "token": "t1"}}, 204)
    await flaas.refused("ann", "PUT push", "device-not-found", {"wake": {"kind": "fcm", "token": "t1"}})
    await flaas.refused("phone1", "PUT push", "bad-request", {"wake": {"kind": "sms", "token": "t1"}})
    assert len((await flaas.ask("phone1", "GET push"))["key"]) == 87

    await flaas.ping("phone1", "phone2")
    await flaas.until(project, 0, fleet.COLLECTING)
    await asyncio.wait_for(recorder.heard.wait(), 10)
    assert recorder.sent[0][0] == flaas_wire.Fcm("t1")
    assert recorder.sent[0][1]["project"] == project
    recorder.gone = True
    recorder.heard.clear()
    flaas.now += 3600.0
    await flaas.ping("phone1", "phone2")
    await flaas.until(project, 1, fleet.COLLECTING)
    await asyncio.wait_for(recorder.heard.wait(), 10)
    async with asyncio.timeout(10):
        while await flaas.parts.fleets.database.read(lambda c: fleets_store.device(c, "phone1").wake):
            await asyncio.to_thread(lambda: None)


# --- L8: several apps of one device -----------------------------------------------------------------

Shard = tuple[float, int]


def half_way(model: Buffer, apps: Sequence[Shard]) -> bytes:
    """Half of the way to the mean of the apps' samples."""
    goal = sum(value * count for value, count in apps) / sum(count for _, count in apps)
    return ((np.frombuffer(model, "<f4") + np.float32(goal)) / 2).astype("<f4").tobytes()


@pytest.mark.parametrize("mode", Mode)
async def test_l8_two_levels_over_the_wire_are_one_weighted_mean(flaas: Flaas, mode: Mode) -> None:
    phones: dict[str, list[Shard]] = {
        "phone1": [(1.0, 10), (3.0, 20), (8.0, 5)],
        "phone2": [(-2.0, 7), (0.5, 1)],
        "phone3": [(4.0, 30)],
    }
    await flaas.devices(*phones)
    project = await flaas.project(training_mode=mode, number_of_samples=30, number_of_apps=3)
    await flaas.ping(*phones)
    await flaas.until(project, 0, fleet.COLLECTING)
    layout = Layout([TensorSpec("w", "F32", (WIDTH,))])
    for name, apps in phones.items():
        told = await flaas.ask(name, f"GET project/{project}/join-round/0")
        model = await flaas.ask(name, f"GET project/{project}/get-model/0")
        made = learn_jointly(Mode(told["training_mode"]), layout, model, apps, half_way, lambda app: app[1])
        call = f"POST project/{project}/submit-model/0/model_weights.bin?samples={made.samples}"
        await flaas.ask(name, call, bytes(made.model), 201)

    await flaas.until(project, 0, fleet.COMPLETE)
    found = np.frombuffer(await flaas.ask("phone1", f"GET project/{project}/get-model/1"), "<f4")
    flat = half_way(numbers(0.5), [app for apps in phones.values() for app in apps])
    assert found == pytest.approx(np.frombuffer(flat, "<f4"), rel=1e-6)
