"""`grid-node demo`: a gateway and some nodes, each a real process with its own scans, train one model together."""

from __future__ import annotations

import asyncio
import json
import os
import platform
import shutil
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import click

from grid.cli import digits
from grid.cli.connect import aconnect
from grid.cli.daemon import new_loop
from grid.cli.processes import Daemon
from grid.cli.report import Alone, Outcome, page
from grid.cli.show import Show
from grid.cli.small_grid import TAG, SmallGrid, small_grid, together
from grid.cli.yardstick import Yardstick
from grid.client.calls import Calls
from grid.client.egress import Egress, open_http
from grid.client.run import History, Result
from grid.client.writing import open_relay
from grid.crypto.identity import Identity
from grid.learning.plan import Plan
from grid.learning.recipe import Sgd
from grid.learning.strategy import BROADCASTS, PRESETS, UPLOADS
from grid.protocol.summing import LEAST
from grid.wire.node import STATUS, Isolation
from grid.wire.runs import Event
from grid.worker.engine import IsolationPolicy, LocalEngine

NAMES = ("alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi", "ivan", "judy", "karl", "lena")
HOLDOUT = 0.2
"""The share of its examples on which each node measures the model, and does not train it."""

DEADLINE = 60.0
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

T = TypeVar("T")


@click.command()
@click.option("--rows", type=click.IntRange(1, 1797), help="Take only so many of the 1,797 scans.")
@click.option("--rounds", type=click.IntRange(1, 1000), default=50, show_default=True, help="Rounds of training.")
@click.option("--nodes", type=click.IntRange(1, len(NAMES)), default=3, show_default=True, help="Nodes to start.")
@click.option("--seed", type=click.IntRange(0, 2**31), default=0, show_default=True, help="For shares and training.")
@click.option(
    "--strategy",
    type=click.Choice(sorted(PRESETS)),
    default="fedavg",
    show_default=True,
    help="How updates become the next model.",
)
@click.option("--upload", type=click.Choice(list(UPLOADS)), default="exact", help="How updates travel.")
@click.option("--secure", is_flag=True, help="Let nobody see an update but summed (--upload masked).")
@click.option("--broadcast", type=click.Choice(list(BROADCASTS)), default="exact", help="How models travel.")
@click.option("--workers", type=click.IntRange(1, 256), default=2, show_default=True, help="Jobs at once on a node.")
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="What the nodes compute trainings on.",
)
@click.option(
    "--listen/--no-listen", default=True, show_default=True, help="Whether nodes have ports; else all goes by letters."
)
@click.option("--dht", is_flag=True, help="No gateway: the node that all others met the grid through is killed midway.")
@click.option(
    "--report",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("grid-demo-report.html"),
    show_default=True,
    help="Where to write the report.",
)
@click.option("--keep", is_flag=True, help="Leave gateway and nodes running, and say what to try next.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as one line of JSON, all else on stderr.")
def demo(
    rows: int | None,
    rounds: int,
    nodes: int,
    seed: int,
    strategy: str,
    upload: str,
    secure: bool,
    broadcast: str,
    workers: int,
    device: str,
    listen: bool,
    dht: bool,
    report: Path,
    keep: bool,
    as_json: bool,
) -> None:
    """Run a whole grid here: a gateway and nodes train one model on scans of which each has its own.

    Everything is stopped and removed at the end, but for the report.
    """
    if not report.resolve().parent.is_dir():
        raise click.BadParameter(f"there is no folder {report.resolve().parent}", param_hint="--report")
    if keep and not listen:
        raise click.UsageError("what --keep says to try next needs nodes with ports")
    if dht and keep:
        raise click.UsageError("--dht kills the node that --keep would name")
    if secure and upload not in {"exact", "masked"}:
        raise click.UsageError(f"--secure lets updates travel under masks, not as {upload}")
    if secure and nodes < LEAST:
        raise click.UsageError(f"a secure sum needs {LEAST} nodes: of two, each would know the other's part")
    upload = "masked" if secure else upload
    show = Show(began=time.monotonic() - process_age(), err=as_json)
    try:
        dealt = digits.deal(digits.load(rows, seed), nodes, seed)
    except (ValueError, FileNotFoundError) as error:
        raise click.ClickException(str(error)) from None
    with _folder(keep) as folder:
        going = Demo(dealt, rounds, seed, folder, show, strategy, upload, broadcast, workers, device, listen, dht)
        outcome = until_signal(going.carry_out(keep))
    report.write_text(page(outcome, time.time()), encoding="utf-8")
    show.end(outcome, report.resolve())
    if as_json:
        click.echo(json.dumps(outcome.plainly()))


class Demo:
    """One demo: its data and how long it goes on. Everything is written to `folder` and told to `show`."""

    def __init__(
        self,
        dealt: digits.Dealt,
        rounds: int,
        seed: int,
        folder: Path,
        show: Show,
        strategy: str = "fedavg",
        upload: str = "exact",
        broadcast: str = "exact",
        workers: int = 2,
        device: str = "auto",
        listen: bool = True,
        dht: bool = False,
    ) -> None:
        self._device, self._listen, self._dht = device, listen, dht
        self._workers, self._upload, self._broadcast = workers, upload, broadcast
        self._dealt, self._rounds, self._seed, self._strategy = dealt, rounds, seed, strategy
        self._folder, self._show = folder, show
        self._shares = dict(zip(NAMES, dealt.shares, strict=False))
        self._plan = plan()

    async def carry_out(self, keep: bool) -> Outcome:
        """Start the grid, train on it, measure, and stop it, unless it is to be kept.

        Raises:
            DaemonFailed, GridError
        """
        key = self._folder / "scientist.key"
        me = Identity.load_or_create(key)
        self._show.begin(self._dealt, "a first peer" if self._dht else "a gateway")
        started = small_grid(
            self._folder, self._shares, me.id, self._show.ready, self._workers, self._device, self._listen, self._dht
        )
        async with started as here:
            async with aconnect(here.directories, identity=me, listen=self._listen) as grid:
                self._show.found(TAG, await here.listed(grid))
                isolation = await confined(here.nodes, me)
                run = await grid.train(
                    self._plan,
                    TAG,
                    rounds=self._rounds,
                    holdout=HOLDOUT,
                    deadline=DEADLINE,
                    seed=self._seed,
                    strategy=self._strategy,
                    upload=self._upload,
                    broadcast=self._broadcast,
                )
                result = await run.result(self._killing(here) if self._dht else self._show.heard)
            outcome = await self._outcome(result, isolation)
            if keep:
                self._show.next_steps(here, self._folder, key)
        return outcome

    def _killing(self, here: SmallGrid) -> Callable[[Event, History], None]:
        """Tells of what happens in the run, and kills who is in its way once: after a round, the first peer."""
        alive = [here.gateway]

        def heard(event: Event, history: History) -> None:
            self._show.heard(event, history)
            if event.kind == "round-closed" and alive:
                self._show.killed(alive[0])
                alive.pop().kill()

        return heard

    async def _outcome(self, result: Result[Plan], isolation: Sequence[tuple[str, str]]) -> Outcome:
        """What it came to, with what each share gives alone and all of them in one place."""
        self._show.comparing()
        pooled = tuple(scan for share in self._dealt.shares for scan in share)
        async with self._yardstick() as yardstick:
            models = await together(*(self._alone(yardstick, share) for share in (*self._dealt.shares, pooled)))
            *alone, together_here = [await yardstick.accuracy(model) for model in models]
            federated = await yardstick.accuracy(result.plan.initial)
        return Outcome(
            nodes=[
                Alone(name, digits.labels(share), accuracy)
                for (name, share), accuracy in zip(self._shares.items(), alone, strict=True)
            ],
            federated=federated,
            pooled=together_here,
            test=len(self._dealt.test),
            rounds=result.history,
            skew=self._dealt.skew,
            seed=self._seed,
            first_round_s=self._show.first_round,
            seconds=self._show.age(),
            plan=self._plan.rows(),
            environment=environment(),
            isolation=isolation,
        )

    async def _alone(self, yardstick: Yardstick, share: digits.Share) -> bytes:
        return await yardstick.train(share, self._rounds, holdout=HOLDOUT, seed=self._seed)

    @asynccontextmanager
    async def _yardstick(self) -> AsyncIterator[Yardstick]:
        scratch = self._folder / "yardstick"
        scratch.mkdir()
        engine = LocalEngine("torch", os.cpu_count() or 1, scratch, policy=IsolationPolicy.PREFER)
        try:
            yield Yardstick(engine, self._plan, self._dealt.test, self._folder)
        finally:
            await engine.close()


def plan() -> Plan:
    """What is trained: 64 grey values to 10 digits, one pass over a node's scans in each round."""
    return Plan.mlp(
        [digits.PIXELS, 256, digits.CLASSES],
        optimizer=Sgd(lr=0.05, momentum=0.9),
        epochs=1,
        batch=16,
        metrics=("accuracy",),
    )


async def confined(nodes: Sequence[Daemon], me: Identity) -> list[tuple[str, str]]:
    """What each node says of how it confines its jobs."""
    async with open_http(Egress(allow_private=True)) as http:
        calls = Calls(http, identity=me)
        async with open_relay(calls, me, time.time):
            said = [(node.name, (await calls.call(node.address, STATUS)).isolation) for node in nodes]
    return [(name, _in_words(found)) for name, found in said]


def _in_words(found: Isolation) -> str:
    landlock = f"Landlock ABI {found.landlock}" if found.landlock else "no Landlock"
    return f"{landlock}, {'seccomp' if found.seccomp else 'no seccomp'}; policy: {found.policy}"


def environment() -> list[tuple[str, str]]:
    """Where the demo ran."""
    return [
        ("machine", f"{platform.platform()}, {os.cpu_count()} processors"),
        ("Python", platform.python_version()),
        *((name, version(name)) for name in ("grid-daemon", "torch", "cryptography")),
    ]


def until_signal(work: Coroutine[Any, Any, T]) -> T:
    """Do `work`. A signal cancels it: what it started is stopped, and the command ends with 128 + the signal."""
    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(_heeding(work))


async def _heeding(work: Coroutine[Any, Any, T]) -> T:
    task = asyncio.ensure_future(work)
    heard: list[int] = []

    def stop(number: int) -> None:
        heard.append(number)
        task.cancel()

    for number in SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, stop, number)
    try:
        return await task
    except asyncio.CancelledError:
        if not heard:
            raise
        click.echo("stopped; nothing of it runs any more", err=True)
        raise click.exceptions.Exit(128 + heard[0]) from None


def process_age() -> float:
    """Seconds since this process was started, where the system tells."""
    try:
        started = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        return time.clock_gettime(time.CLOCK_BOOTTIME) - started / os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError):
        return time.process_time()


@contextmanager
def _folder(keep: bool) -> Iterator[Path]:
    """A folder for keys, data and logs; removed at the end, unless all went well and it is to be kept."""
    folder = Path(tempfile.mkdtemp(prefix="grid-demo-"))
    try:
        yield folder
    except BaseException:
        keep = False
        raise
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
