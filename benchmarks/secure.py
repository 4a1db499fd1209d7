"""What a secure sum costs above a plain one, and how far from exact it is; masks beside flwr's.

All nodes and their coordinator are in one process, without network and disk: keys, shares, masks and lifting are the
program's own. Processor time; what is not told apart, the coordinator passing on what nodes say, is the nodes'.
"""

from __future__ import annotations

import asyncio
import hashlib
import statistics
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.flower import environment
from benchmarks.row import Row
from grid.crypto.identity import Identity
from grid.crypto.masks import Keystream
from grid.learning.masked import RingSum, Vectors
from grid.learning.masking import mask
from grid.learning.said import Own
from grid.learning.strategy import PRESETS, Masked, travelling
from grid.learning.tensors import Layout, TensorSpec
from grid.node.lift import Place
from grid.node.party import Seeds, SumParty
from grid.node.summing import Summing
from grid.protocol.secure_sum import Terms
from grid.wire.endpoint import Endpoint
from grid.wire.runs import Task
from grid.wire.sums import CONSENT, DEAL, REVEAL, SURVIVED, TELL_KEYS

MILLION = 1_000_000
LAYOUT = Layout([TensorSpec("w", "F32", (MILLION,))])
STRATEGY = travelling(PRESETS["fedavg"], upload="masked")
MODEL = hashlib.sha256(b"model").hexdigest()
REPEATS, MASKS = 15, 10

FLWR = """
import statistics, time
import numpy as np
from flwr.common.secure_aggregation.ndarrays_arithmetic import parameters_addition
from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen
took, vector = [], [np.zeros(1_000_000, np.int64)]
for number in range(15):
    before = time.process_time()
    vector = parameters_addition(vector, pseudo_rand_gen(bytes([number] + [0] * 31), 1 << 32, [(1_000_000,)]))
    took.append(time.process_time() - before)
print(statistics.median(took))
"""


class Kept:
    """What was revealed, for nobody."""

    async def revealed(self, run: str, number: int, key: str, survivors: list[str]) -> None:
        return


@dataclass
class Means:
    """As much of a node's means as a party needs."""

    identity: Identity
    records: Kept
    terms: Terms


@dataclass
class Line:
    """From a node to the coordinator of the same process."""

    summing: Summing
    node: str

    async def ask(self, endpoint: Endpoint[Any, Any], message: Any, number: int, sum_: int) -> Any:
        place, summing = Place(number, sum_), self.summing
        if endpoint is SURVIVED:
            return await summing.survived(place, self.node)
        says = {TELL_KEYS: summing.keys, DEAL: summing.deal, CONSENT: summing.consent, REVEAL: summing.reveal}
        return await next(say for each, say in says.items() if each is endpoint)(place, self.node, message)


class Costs:
    """One sum of so many nodes, of which some vanish before their vectors are in; processor seconds of its parts."""

    def __init__(self, nodes: int, vanish: int) -> None:
        assert isinstance(STRATEGY.upload, Masked)
        identities = sorted((Identity.generate() for _ in range(nodes)), key=lambda each: each.id)
        self.ids, self.survivors = [each.id for each in identities], nodes - vanish
        task = Task(run="a" * 32, plan="b" * 64, coordinator=self.ids[0], tags=("#t",), created=0, expires=9)
        self.vectors = Vectors(STRATEGY, LAYOUT, (), 0, nodes)
        self.summing = Summing(task, STRATEGY.upload, self.vectors.numbers)
        self._identities, self._task = identities, task
        rng = np.random.default_rng(0)
        self.before = memoryview(rng.normal(size=MILLION).astype(np.float32).tobytes())
        self.moved = rng.normal(0, 0.01, size=(nodes, MILLION)).astype(np.float32)
        self.parties: list[SumParty] = []
        self.node = self.coordinator = self.error = 0.0

    async def hold(self) -> None:
        """The whole sum."""
        assert isinstance(STRATEGY.upload, Masked)
        self.summing.begin(1, frozenset(self.ids), MODEL)
        place = Place(1, self.summing.id)
        for identity in self._identities:
            means: Any = Means(identity, Kept(), Terms())
            line: Any = Line(self.summing, identity.id)
            self.parties.append(SumParty(means, line, self._task, place, STRATEGY.upload, self.vectors.numbers))
        began = time.process_time()
        seeds = await asyncio.gather(*(party.agree(MODEL) for party in self.parties))
        self.node = (time.process_time() - began) / len(self.parties)
        total = RingSum(self.vectors.numbers)
        masking = [self._masked(at, seeds[at], total) for at in range(self.survivors)]
        self.node += statistics.median(masking)
        began = time.process_time()
        telling = [asyncio.create_task(party.reveal()) for party in self.parties[: self.survivors]]
        lift = await self.summing.lift(frozenset(self.ids[: self.survivors]))
        await asyncio.gather(*telling)
        target = memoryview(bytearray(LAYOUT.size))
        ring = total.lifted(lift.added, lift.subtracted)
        self.vectors.unfold(ring, total.count, self.before, target)
        self.coordinator = time.process_time() - began
        wanted = np.frombuffer(self.before, np.float32) + self.moved[: self.survivors].mean(0)
        self.error = float(np.abs(np.frombuffer(target, np.float32) - wanted).max())

    def _masked(self, at: int, seeds: Seeds, total: RingSum) -> float:
        after = memoryview((np.frombuffer(self.before, np.float32) + self.moved[at]).tobytes())
        began = time.process_time()
        vector = self.vectors.vector(self.before, after, Own(400, 1.0), np.random.default_rng(at))
        mask(vector, seeds.added, seeds.subtracted)
        took = time.process_time() - began
        self.parties[at].sent()
        total.add(memoryview(vector.tobytes()))
        return took


def mask_seconds() -> float:
    """Processor seconds of one mask over a million parameters, among those of a node in a sum of ten."""
    ring = np.zeros(MILLION, np.uint32)
    took = []
    for number in range(REPEATS):
        seeds = [bytes([number, other]) * 8 for other in range(MASKS)]
        before = time.process_time()
        mask(ring, seeds)
        took.append((time.process_time() - before) / MASKS)
    return statistics.median(took)


def flwr_seconds() -> float | None:
    """The same of flwr's SecAgg+; None where it cannot be installed."""
    if (programs := environment()) is None:
        return None
    done = subprocess.run([programs / "python", "-c", FLWR], capture_output=True, text=True, check=True, timeout=120)
    return float(done.stdout.split()[-1])


def rows() -> Iterator[Row]:
    """The rows of this benchmark."""
    Keystream(bytes(16)).fill(memoryview(bytearray(1024)))  # what is loaded once
    ten, thirty = Costs(10, 0), Costs(30, 3)
    asyncio.run(ten.hold())
    yield Row(
        "secure.10.node", "secure sum, 10 nodes, a million parameters: a node, processor", ten.node * 1e3, "ms", most=25
    )
    yield Row("secure.10.coordinator", "the same: its coordinator", ten.coordinator * 1e3, "ms")
    yield Row("secure.10.error", "the same: largest error of the mean", ten.error, "", most=1e-5)
    asyncio.run(thirty.hold())
    yield Row("secure.30.node", "30 nodes, 3 of them vanish: a node", thirty.node * 1e3, "ms", most=100)
    yield Row("secure.30.coordinator", "the same: its coordinator", thirty.coordinator * 1e3, "ms", most=300)
    yield Row("secure.30.error", "the same: largest error of the mean", thirty.error, "", most=1e-5)
    yield Row("secure.bytes", "bytes of a vector for each parameter", 4 * ten.vectors.numbers / MILLION, "", most=4.001)
    ours, theirs = mask_seconds(), flwr_seconds()
    yield Row("secure.mask", "one mask over a million parameters, drawn and added", ours * 1e3, "ms")
    if theirs is not None:
        yield Row("secure.mask.flwr", "the same with flwr 1.41.0's SecAgg+, of ours", theirs / ours, "x", least=20)
