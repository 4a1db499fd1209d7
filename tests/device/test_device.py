from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grid.device import Device, Later, Refused, over_http
from grid.device.tensors import Model, read, write
from grid.learning.arrays import views
from grid.learning.tensors import Layout, TensorSpec, header_bytes, read_header
from grid.node.series.registry import Hosting
from grid.protocol import fleet
from grid.protocol.series import Terms
from grid.transport.auth import OWNER
from tests.grid_of_nodes import ANode

StartNode = Callable[..., Awaitable[ANode]]
LAYOUT = Layout([TensorSpec("w", "F32", (2, 2)), TensorSpec("b", "F32", (2,))])


@given(st.lists(st.floats(width=32, allow_nan=False), min_size=6, max_size=6))
def test_a_device_reads_and_writes_what_the_node_does(values: list[float]) -> None:
    data = np.array(values, "<f4").tobytes()

    model = read(header_bytes(LAYOUT) + data)
    file = write(model)

    layout, _, offset = read_header(file, len(file))
    assert layout.specs == LAYOUT.specs
    assert file[offset:] == data
    assert list(views(layout, bytearray(file[offset:]))) == list(model)


@pytest.mark.parametrize("file", [b"", b"\xff" * 20, (5).to_bytes(8, "little") + b"{}"])
def test_what_is_no_model_is_refused(file: bytes) -> None:
    with pytest.raises(ValueError, match="no file of tensors"):
        read(file)


async def hosted(start_node: StartNode, **terms: Any) -> ANode:
    node = await start_node("phones", data=False)
    file = header_bytes(LAYOUT) + np.zeros(6, "<f4").tobytes()
    asked = Hosting(
        "digits", "1", Terms(**terms), {"name": "digits", "rate": 2.0}, None, file, {"p": {"list": b"x"}}, {}
    )
    await node.open.parts.pygrid.series.host(OWNER, asked)
    return node


def learn(model: Model, config: Mapping[str, Any]) -> Model:
    return {name: array + config["rate"] for name, array in model.items()}


async def test_three_devices_take_part_over_two_rounds(start_node: StartNode) -> None:
    node = await hosted(start_node, rounds=2, least=3, most=3, devices=3)
    series, rounds = node.open.parts.pygrid.series, node.open.parts.pygrid.rounds
    fleet_of = [Device(over_http(node.address), asyncio.sleep, "digits", "1") for _ in range(4)]

    for number in (2, 3):
        assert await asyncio.gather(*(each.take_part(learn) for each in fleet_of[:3])) == [None] * 3
        late = await fleet_of[3].take_part(learn)
        assert isinstance(late, Later)
        async with asyncio.timeout(20):
            while (await series.named("digits", "1")).turn != fleet.Turn(number):
                await rounds.tick()
                await asyncio.to_thread(lambda: None)

    assert await fleet_of[3].take_part(learn) == Later("over", None)
    row = await series.named("digits", "1")
    parts = await series.checkpoint(row, "latest")
    file = b"".join([bytes(block) async for block in parts.read(0, parts.size)])
    assert {name: array.tolist() for name, array in read(file).items()} == {"w": [[4, 4], [4, 4]], "b": [4, 4]}


async def test_a_plan_is_fetched_by_its_name(start_node: StartNode) -> None:
    node = await hosted(start_node)
    device = Device(over_http(node.address), asyncio.sleep, "digits")
    assert not await device.introduce()
    found = await device.check_in()
    assert not isinstance(found, Later)

    assert await device.fetch_plan(found, "p") == b"x"
    with pytest.raises(Refused, match="model-not-found"):
        await device.fetch_plan(found, "p", "tfjs")


class Flaky:
    """A node that gives answers one after the other; OSError where there is none."""

    def __init__(self, *answers: tuple[int, Any] | None) -> None:
        self.answers, self.asked, self.paused = list(answers), list[str](), list[float]()

    async def ask(self, method: str, path: str, body: Sequence[bytes] = ()) -> tuple[int, bytes]:
        self.asked.append(f"{method} {path}")
        answer = self.answers.pop(0)
        if answer is None:
            raise ConnectionResetError
        return answer[0], json.dumps(answer[1]).encode()

    async def pause(self, seconds: float) -> None:
        self.paused.append(seconds)


TOLD = {"worker_id": "w", "requires_speed_test": False}


async def test_a_device_asks_again_later_and_later_while_no_answer_comes() -> None:
    node = Flaky(None, None, (503, {}), (200, TOLD))

    await Device(node.ask, node.pause, "digits").introduce()

    assert len(node.asked) == 4
    assert [0.25 * 2**n <= each <= 0.5 * 2**n for n, each in enumerate(node.paused)] == [True] * 3


async def test_it_gives_up_in_the_end() -> None:
    node = Flaky(*[None] * 8)

    with pytest.raises(ConnectionResetError):
        await Device(node.ask, node.pause, "digits").introduce()


async def test_an_update_whose_acknowledgement_was_lost_is_there() -> None:
    node = Flaky(
        (200, TOLD),
        (200, {"status": "accepted", "request_key": "k", "client_config": {}, "plans": {}}),
        None,
        (409, {"type": "urn:grid:problem:update-repeated", "detail": "this ticket was used"}),
    )
    device = Device(node.ask, node.pause, "digits")
    await device.introduce()
    found = await device.check_in()
    assert not isinstance(found, Later)

    await device.hand_in(found, b"a difference")

    assert node.asked[-2:] == ["POST /model-centric/report"] * 2


async def test_what_is_refused_is_not_asked_again() -> None:
    node = Flaky((401, {"type": "urn:grid:problem:not-authenticated", "detail": "no"}))

    with pytest.raises(Refused) as refused:
        await Device(node.ask, node.pause, "digits").introduce()

    assert refused.value.slug == "not-authenticated"


def test_an_address_is_one_of_http() -> None:
    with pytest.raises(ValueError, match="http"):
        over_http("file:///etc/passwd")
