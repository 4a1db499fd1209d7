"""What a run comes to by computation alone: no daemon, no socket, no disk but the data. In this process.

The jobs are those of the workers. A fit depends on nothing but model, data and seed, and a sum on nothing but its
updates and their order: so the same orders of arrival must give the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from grid.learning.plan import Plan
from grid.learning.scheme import Scheme
from grid.learning.strategy import read_strategy
from grid.learning.tensors import header_bytes
from grid.node.collect import NUMBERS
from grid.wire.runs import Task
from grid.worker import jobs
from grid.worker.port import FoldJob, TrainJob
from grid.worker.seat import Desk

load = cache(jobs.load)


class Sitting:
    """A job on a desk in this process."""

    def __init__(self, job: TrainJob | FoldJob) -> None:
        work = job.work()
        inbox, outbox, state = (bytearray(size) for size in (work.model_bytes, work.model_bytes, work.state_bytes))
        files = {name: memoryview(path.read_bytes()) for name, path in work.files.items()}
        self.desk = Desk(files, memoryview(inbox), memoryview(outbox), job.limits, lambda _: None, memoryview(state))
        self._verbs = load("torch").jobs[work.job](self.desk, **work.arguments)

    def call(self, verb: str, model: bytes | memoryview = b"", **arguments: Any) -> dict[str, Any]:
        """Run a verb, with a model in the inbox."""
        self.desk.inbox[: len(model)] = model
        return self._verbs[verb](**arguments)


def replayed(plan: Plan, task: Task, bundle: Path, data: Mapping[str, Path], orders: Sequence[Sequence[str]]) -> bytes:
    """The plan's own values after rounds whose updates came in these `orders`; `data`: each node's tensors."""
    scheme = Scheme(plan, read_strategy(task.strategy))
    bundle.write_bytes(plan.bundle())
    nodes = {
        name: Sitting(
            TrainJob(bundle, path, task.inputs, task.target, task.holdout, seed=task.seed, strategy=scheme.strategy)
        )
        for name, path in data.items()
    }
    head = header_bytes(scheme.layout)
    folder = Sitting(FoldJob(head, strategy=scheme.strategy, statistics=scheme.statistics, updates=len(data)))
    model = b"".join(scheme.first())
    for number, order in enumerate(orders, 1):
        folder.call("round", model)
        sent = bytes(folder.desk.inbox[: scheme.broadcast.size])
        folder.call("begin", model, current="inbox", population=len(data))
        for name in order:
            nodes[name].call("receive", sent)
            done = nodes[name].call("fit", round=number, seed=task.seed + number)
            told = {key: done["numbers"][key] for key in NUMBERS if key in done["numbers"]}
            told |= {"base": done["base"]} if "base" in done else {}
            told["weight"] = float(done["examples"])
            folder.call("check", nodes[name].desk.outbox, **told)
            folder.call("fold", **told)
        folder.call("result")
        model = bytes(folder.desk.outbox[: scheme.model.size])
    return scheme.plain(memoryview(model))
