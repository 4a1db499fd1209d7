"""Projects over HTTP: who may see and join them, and batches that real runs carry out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiohttp import ClientSession

from grid.client.payload import gather
from grid.client.reattach import attach
from grid.client.writing import open_relay
from grid.crypto.identity import Identity
from grid.crypto.prekeys import Prekey, publish
from grid.learning.plan import Plan
from grid.learning.questions import Moments
from grid.learning.strategy import read_strategy
from grid.learning.study import Study
from grid.node import summing
from grid.node.batches import secured
from grid.protocol.documents import read_document, sign_document
from grid.protocol.project import task_of
from grid.wire import projects as wire
from grid.wire.problems import (
    BadSignature,
    NoParticipants,
    NotAllowed,
    OutOfTurn,
    ProjectNotFound,
    ProjectRefused,
    RunNotFound,
)
from grid.wire.runs import CHECKPOINT, RUN, RUN_TASK, TASK, After, FetchCheckpoint, Quorum, Task
from tests.gateway.conftest import gateway_at
from tests.grid_of_nodes import ANode, Learner, Numbers, Scientist, a_node, coordinator_of, numbers, plan_of, pool

Call = Callable[..., Awaitable[Any]]


class Site:
    """A node, and its owner's calls on it."""

    def __init__(self, node: ANode, http: ClientSession) -> None:
        self.node, self.owner = node, Scientist(http, node.identity)

    async def asks(self, endpoint: Any, message: Any = None, of: ANode | None = None, **words: Any) -> Any:
        """What the holder of this site's key is answered, by its own node or by another one."""
        of = of or self.node
        return await self.owner.calls.call(of.address, endpoint, message, peer=of.identity.public, **words)

    async def creates(self, *tasks: wire.ProjectTask, members: tuple[Site, ...] = (), **words: Any) -> str:
        """The id of a new project of this site."""
        keys = tuple(each.node.identity.id for each in members)
        asked = wire.CreateProject("survival", tasks, members=keys, **words)
        info = await self.asks(wire.CREATE_PROJECT, asked)
        return read_document(info.project, wire.Project, wire.PROJECT).project

    async def joins(self, project: str, of: Site) -> wire.ProjectInfo:
        """Take part in another site's project."""
        asked = wire.JoinProject(project, of.node.address, of.node.identity.id)
        info: wire.ProjectInfo = await self.asks(wire.JOIN_PROJECT, asked)
        return info

    async def told(self, project: str, kind: str, batch: int) -> dict[str, Any]:
        """What was told when something happened to a batch; waits for it."""
        cursor = 0
        async with asyncio.timeout(20):
            while True:
                heard = await self.asks(wire.PROJECT_EVENTS, query=After(cursor, 5.0), project=project)
                for event in heard.events:
                    if event.kind == kind and event.data["batch"] == batch:
                        return event.data
                cursor = heard.after

    async def runs(self, project: str) -> list[list[wire.ProjectRun]]:
        """The runs of each batch."""
        info = await self.asks(wire.PROJECT_INFO, project=project)
        return [list(batch.runs) for batch in info.batches]


Sites = Callable[..., Awaitable[Site]]


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Sites]:
    """Starts sites: nodes that are their own owners. All trust the first one, if they are told to."""
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(pool())

        async def start(name: str, learner: Learner | None = None, trusts: tuple[Site, ...] = ()) -> Site:
            folder = tmp_path / name
            folder.mkdir(exist_ok=True)
            keys = tuple(each.node.identity.id for each in trusts)
            me = Identity.load_or_create(folder / "identity.key")
            node = await a_node(name, folder, learner, trust=keys, owners=(me.id,))
            stack.push_async_callback(node.stop)
            return Site(node, http)

        yield start


def a_task(plan: Plan, name: str = "train", continues: bool = True, **parameters: Any) -> wire.ProjectTask:
    exact = {"upload": {"name": "exact"}}  # these workers put on no masks
    usual: dict[str, Any] = {"tags": ["#pulse"], "holdout": 0.0, "deadline": 30.0, "strategy": exact}
    return wire.ProjectTask(plan.digest, {**usual, **parameters}, name, continues)


async def two_tasks(site: Sites, learners: tuple[Learner, ...], trusted: bool = True) -> tuple[Site, list[Site], str]:
    """A coordinator and sites that joined its project of two tasks, of one and of two rounds."""
    lead = await site("lead")
    others = [await site(f"site-{at}", learner, (lead,) if trusted else ()) for at, learner in enumerate(learners)]
    await lead.owner.hand_in(lead.node, plan_of())
    tasks = (a_task(plan_of(), "warm-up"), a_task(plan_of(), "train", rounds=2))
    project = await lead.creates(*tasks, members=tuple(others))
    for other in others:
        await other.joins(project, lead)
    return lead, others, project


# --- documents -------------------------------------------------------------------------------------


async def test_a_project_is_signed_by_its_coordinator_and_says_nothing_of_its_members(site: Sites) -> None:
    lead, (one, two), project = await two_tasks(site, (Learner(), Learner()))

    info = await lead.asks(wire.PROJECT_INFO, project=project)
    said = read_document(info.project, wire.Project, wire.PROJECT, signer=lead.node.identity.id)

    assert (said.project, said.name, [task.name for task in said.tasks]) == (project, "survival", ["warm-up", "train"])
    assert {m.node_id for m in info.members} == {"site-0", "site-1"}
    assert {m.state for m in info.members} == {"joined"}
    for other in (one, two):
        assert other.node.identity.id.encode() not in info.project.payload


async def test_a_participant_sees_itself_and_no_other(site: Sites) -> None:
    lead, (one, _), project = await two_tasks(site, (Learner(), Learner()))

    seen = await one.asks(wire.PROJECT_INFO, of=lead.node, project=project)

    assert [m.public_key for m in seen.members] == [one.node.identity.id]
    assert seen.role == "participant"


async def test_for_who_was_not_admitted_there_is_no_such_project(site: Sites) -> None:
    lead, _, project = await two_tasks(site, (Learner(),))
    outsider = await site("outsider")

    for call in (wire.PROJECT_INFO, wire.PROJECT_EVENTS):
        with pytest.raises(ProjectNotFound):
            await outsider.asks(call, of=lead.node, project=project)
    with pytest.raises(ProjectNotFound):
        await outsider.joins(project, lead)
    for call in (wire.START_PROJECT, wire.STOP_PROJECT, wire.RESTART_PROJECT):
        with pytest.raises(NotAllowed):
            await outsider.asks(call, of=lead.node, project=project)


async def test_a_site_that_is_admitted_later_may_join_and_whoever_left_is_run_without(site: Sites) -> None:
    lead, (one,), project = await two_tasks(site, (Learner(),))
    late = await site("late")

    await lead.asks(wire.ADMIT, wire.Admit(late.node.identity.id), project=project)
    joined = await late.joins(project, lead)
    await one.asks(wire.LEAVE_PROJECT, project=project)

    assert joined.role == "participant"
    members = (await lead.asks(wire.PROJECT_INFO, project=project)).members
    assert {m.node_id: m.state for m in members} == {"late": "joined", "site-0": "left"}
    assert (await one.asks(wire.PROJECTS)).projects == ()


async def test_a_membership_is_its_sites_own_and_an_old_one_does_not_come_back(site: Sites) -> None:
    lead, (one, two), project = await two_tasks(site, (Learner(), Learner()))
    key = lead.node.identity.id

    def said(signer: Site, of: str = project, created: float = 5.0) -> Any:
        member = wire.Membership(of, key, "other", "http://127.0.0.1:9", created)
        return sign_document(signer.node.identity, wire.MEMBERSHIP, member)

    for signed, refusal in [
        (said(two), BadSignature),
        (said(one), ProjectRefused),  # it joined after that
        (said(one, "x" * 24, 1e12), ProjectRefused),
    ]:
        with pytest.raises(refusal):
            await one.asks(wire.MEMBER_OF_PROJECT, signed, of=lead.node, project=project)


@pytest.mark.parametrize(
    ("task", "why"),
    [
        (a_task(plan_of(), speed=3), "no parameter speed"),
        (a_task(plan_of(), rounds=0), "rounds"),
        (a_task(plan_of(), run="x" * 24), "no parameter run"),
        (a_task(plan_of(7)), "not handed in"),
    ],
)
async def test_a_project_that_could_not_be_run_is_not_made(site: Sites, task: wire.ProjectTask, why: str) -> None:
    lead = await site("lead")
    await lead.owner.hand_in(lead.node, plan_of())

    with pytest.raises(ProjectRefused, match=why):
        await lead.creates(task, open=True)


async def test_a_task_cannot_go_on_from_another_kind_of_model(site: Sites) -> None:
    lead = await site("lead")
    for plan in (plan_of(), plan_of(4)):
        await lead.owner.hand_in(lead.node, plan)

    with pytest.raises(ProjectRefused, match="another kind"):
        await lead.creates(a_task(plan_of()), a_task(plan_of(4)), open=True)
    assert await lead.creates(a_task(plan_of()), a_task(plan_of(4), continues=False), open=True)


async def test_a_name_is_given_once_and_somebody_must_be_able_to_join(site: Sites) -> None:
    lead = await site("lead")
    await lead.owner.hand_in(lead.node, plan_of())
    with pytest.raises(ProjectRefused, match="nobody could join"):
        await lead.creates(a_task(plan_of()))
    project = await lead.creates(a_task(plan_of()), open=True)

    with pytest.raises(ProjectRefused, match="already"):
        await lead.creates(a_task(plan_of()), open=True)
    with pytest.raises(NoParticipants):
        await lead.asks(wire.START_PROJECT, project=project)
    with pytest.raises(OutOfTurn, match="never started"):
        await lead.asks(wire.STOP_PROJECT, project=project)


# --- secure sums ---------------------------------------------------------------------------------------


def test_with_three_sites_updates_are_masked_unless_the_strategy_looks_at_each_of_them() -> None:
    def task(**words: Any) -> Task:
        return task_of(wire.ProjectTask("d" * 64, {"tags": ["#a"], **words}), "r" * 32, "d" * 64, "k" * 43, 0.0)

    plain = secured(task())
    assert read_strategy(plain.strategy).masked
    assert plain.quorum.minimum == 3

    assert secured(task(quorum={"minimum": 4, "target": 5})).quorum == Quorum(4, 5)
    median = task(strategy={"aggregation": {"name": "median"}})
    assert secured(median) == median


# --- batches ------------------------------------------------------------------------------------------


async def test_two_tasks_are_run_twice_each_going_on_from_the_one_before(site: Sites) -> None:
    lead, _, project = await two_tasks(site, (Learner(goal=8.0), Learner(goal=8.0), Learner(goal=8.0)))

    for batch in (1, 2):
        await lead.asks(wire.START_PROJECT, project=project)
        assert (await lead.told(project, "batch-ended", batch))["state"] == "success"

    batches = await lead.runs(project)
    assert [[(run.task, run.state) for run in runs] for runs in batches] == [[(1, "success"), (2, "success")]] * 2
    ids = [run.run for runs in batches for run in runs]
    assert len(set(ids)) == 4
    begun = [await begun_with(lead, run) for run in ids]
    first = numbers(plan_of().initial)
    half_way = (first + np.float32(8.0)) / 2  # where a round of the first task takes everybody
    for begins, expected in zip(begun, [first, half_way] * 2, strict=True):
        assert np.allclose(begins, expected)


async def test_between_two_trainings_may_be_a_question_to_all_sites(site: Sites) -> None:
    lead = await site("lead")
    others = [await site(f"site-{at}", Learner(goal=8.0), (lead,)) for at in range(3)]
    study = Study(Moments(("features.0", "target")))
    for plan in (plan_of(), study):
        await lead.owner.hand_in(lead.node, plan)
    asked = wire.ProjectTask(study.digest, {"tags": ["#pulse"], **study.parameters}, "look")
    project = await lead.creates(a_task(plan_of(), "first"), asked, a_task(plan_of(), "more"), members=tuple(others))
    for other in others:
        await other.joins(project, lead)

    await lead.asks(wire.START_PROJECT, project=project)
    assert (await lead.told(project, "batch-ended", 1))["state"] == "success"

    first, look, more = [run.run for run in (await lead.runs(project))[0]]
    half_way = (await begun_with(lead, first) + np.float32(8.0)) / 2
    np.testing.assert_allclose(await begun_with(lead, more), half_way)
    run = await attach(lead.owner.calls, lead.owner.identity, coordinator_of(lead.node), look, time.time)
    assert (await run.checkpoint()).answer == {"n": [30.0], "steps": [2.0], "mean": [0.0, 0.0], "variance": [0.0, 0.0]}
    assert (run.task.quorum.minimum, read_strategy(run.task.strategy).masked) == (3, True)


async def test_what_was_learned_is_evaluated_by_all_sites_as_it_was_learned(site: Sites) -> None:
    lead = await site("lead")
    others = [await site(f"site-{at}", Learner(goal=8.0), (lead,)) for at in range(3)]
    study = Study.of(plan_of())
    for plan in (plan_of(), study):
        await lead.owner.hand_in(lead.node, plan)
    asked = wire.ProjectTask(study.digest, {"tags": ["#pulse"], **study.parameters}, "evaluate")
    project = await lead.creates(a_task(plan_of(), "train"), asked, members=tuple(others))
    for other in others:
        await other.joins(project, lead)

    await lead.asks(wire.START_PROJECT, project=project)
    assert (await lead.told(project, "batch-ended", 1))["state"] == "success"

    first, second = [run.run for run in (await lead.runs(project))[0]]
    learned = (await begun_with(lead, first) + np.float32(8.0)) / 2
    run = await attach(lead.owner.calls, lead.owner.identity, coordinator_of(lead.node), second, time.time)
    assert run.plan.plan is not None
    np.testing.assert_allclose(numbers(run.plan.plan.initial), learned)
    answer = (await run.checkpoint()).answer
    assert (answer["n"], answer["loss"]) == ([30.0], [pytest.approx(float(learned[-1] ** 2), rel=1e-5)])  # of zeros


async def begun_with(lead: Site, run: str) -> Numbers:
    """The parameters that a run began with, as the coordinator's owner is told: signed by its node's key."""
    driver = coordinator_of(lead.node)
    signed = await lead.asks(RUN_TASK, run=run)
    read_document(signed, Task, TASK, signer=lead.node.identity.id)
    attached = await attach(lead.owner.calls, lead.owner.identity, driver, run, time.time)
    return numbers(attached.plan.initial)


async def test_joining_lets_nobody_train(site: Sites) -> None:
    lead, (one,), project = await two_tasks(site, (Learner(),), trusted=False)

    await lead.asks(wire.START_PROJECT, project=project)
    ended = await lead.told(project, "batch-ended", 1)

    assert ended["state"] == "failed"
    assert ended["reason"]
    assert one.node.learner.opened == 0


async def test_a_batch_is_stopped_and_goes_on_at_the_task_that_was_not_done(site: Sites) -> None:
    learner = Learner(goal=8.0)
    lead, _, project = await two_tasks(site, (learner,))
    await lead.asks(wire.START_PROJECT, project=project)
    await lead.told(project, "batch-running", 1)
    async with asyncio.timeout(20):
        while (await lead.runs(project))[0][-1].task == 1:
            await asyncio.to_thread(lambda: None)
    learner.may_go_on.clear()

    with pytest.raises(OutOfTurn):
        await lead.asks(wire.START_PROJECT, project=project)
    await lead.asks(wire.STOP_PROJECT, project=project)
    ended = await lead.told(project, "batch-ended", 1)
    learner.may_go_on.set()
    await lead.asks(wire.RESTART_PROJECT, project=project)
    async with asyncio.timeout(20):
        while (await lead.asks(wire.PROJECT_INFO, project=project)).batches[0].state != "success":
            await asyncio.to_thread(lambda: None)

    assert ended["state"] == "stopped"
    ran = [(run.task, run.state) for run in (await lead.runs(project))[0]]
    assert ran == [(1, "success"), (2, "stopped"), (2, "success")]


async def test_a_coordinator_that_was_stopped_goes_on_with_its_batch(site: Sites) -> None:
    learner = Learner(goal=8.0)
    lead, _, project = await two_tasks(site, (learner,))
    learner.may_go_on.clear()
    await lead.asks(wire.START_PROJECT, project=project)
    await asyncio.wait_for(learner.began.wait(), 20)
    port = int(lead.node.address.rpartition(":")[2])
    await lead.node.stop()

    back = await a_node("lead", lead.node.folder, trust=(), owners=(lead.node.identity.id,), port=port)
    try:
        lead.node = back
        learner.may_go_on.set()
        assert (await lead.told(project, "batch-ended", 1))["state"] == "success"
        assert [run.state for run in (await lead.runs(project))[0]] == ["success", "success"]
    finally:
        await back.stop()


async def test_a_notebook_of_the_owner_starts_a_project_and_gets_what_each_task_learned(site: Sites) -> None:
    lead, _, project = await two_tasks(site, (Learner(goal=8.0), Learner(goal=8.0)))
    grid, address = lead.owner.grid(), lead.node.address

    (listed,) = await grid.projects(address)
    mine = await grid.project(project, address)
    assert (listed.id, repr(mine)) == (project, "Project(survival, coordinator: warm-up, train)")
    assert (await mine.start()).number == 1
    kinds = [event.kind async for event in mine.watch()]

    assert kinds[-1] == "batch-ended"
    assert [event.kind async for event in mine.watch(follow=False)] == kinds
    first = numbers(plan_of().initial)
    warm, last = await mine.run(task=1), await mine.run()
    np.testing.assert_allclose(numbers((await warm.checkpoint()).initial), (first + 8) / 2)
    np.testing.assert_allclose(numbers((await last.checkpoint()).initial), (first + 7 * 8) / 8)
    with pytest.raises(RunNotFound, match="task 1 was not run in batch 2"):
        await mine.run(task=1, batch=2)
    with pytest.raises(NotAllowed):
        await lead.owner.grid().projects((await site("other")).node.address)


async def test_the_owner_of_the_coordinator_gets_what_was_learned_and_a_participant_does_not(site: Sites) -> None:
    lead, (one,), project = await two_tasks(site, (Learner(goal=8.0),))
    await lead.asks(wire.START_PROJECT, project=project)
    await lead.told(project, "batch-ended", 1)
    run = (await lead.runs(project))[0][-1].run

    fetch = FetchCheckpoint(publish(lead.node.identity, Prekey.generate(), time.time(), time.time() + 60))
    async with lead.owner.calls.download(lead.node.address, CHECKPOINT, fetch, run=run) as (_, blocks):
        assert len(await gather(blocks, 10_000)) > 4 * 4
    for call, message in ((RUN, None), (CHECKPOINT, fetch)):
        with pytest.raises(RunNotFound):
            async with one.owner.calls.download(lead.node.address, call, message, run=run) as (_, blocks):
                await gather(blocks, 10_000)


# --- nobody reads, nobody connects -----------------------------------------------------------------


class Sealed:
    """Sites without ports behind one gateway, and a person who owns them all and writes letters."""

    def __init__(self, folder: Path, gateway: str, far: Scientist) -> None:
        self._folder, self._gateway, self.far = folder, gateway, far

    async def start(self, name: str, learner: Learner | None = None, trusts: tuple[str, ...] = ()) -> ANode:
        hidden: dict[str, Any] = {"listen": False, "gateways": (self._gateway,)}
        return await a_node(name, self._folder / name, learner, trust=trusts, owners=(self.far.identity.id,), **hidden)

    async def asks(self, node: ANode, endpoint: Any, message: Any = None, **words: Any) -> Any:
        return await self.far.calls.call(node.address, endpoint, message, peer=node.identity.public, **words)

    async def ended(self, lead: ANode, project: str, batch: int) -> dict[str, Any]:
        """How a batch ended; waits for it."""
        cursor = 0
        async with asyncio.timeout(40):
            while True:
                heard = await self.asks(lead, wire.PROJECT_EVENTS, query=After(cursor, 5.0), project=project)
                for event in heard.events:
                    if event.kind == "batch-ended" and event.data["batch"] == batch:
                        return dict(event.data)
                cursor = heard.after


@pytest.fixture
async def sealed_sites(tmp_path: Path) -> AsyncIterator[Sealed]:
    async with AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(gateway_at(tmp_path / "gateway", clock=time.time))  # type: ignore[arg-type]
        far = Scientist(await stack.enter_async_context(pool()))
        await stack.enter_async_context(open_relay(far.calls, far.identity, time.time))
        yield Sealed(tmp_path, gateway, far)


@pytest.mark.slow
async def test_three_sites_without_ports_run_two_tasks_twice_in_secure_sums_one_restarted_in_the_middle(
    sealed_sites: Sealed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(summing, "STEP", 3.0)
    lead, plan = await sealed_sites.start("lead"), plan_of()
    key, learners = lead.identity.id, [Learner(goal=float(at)) for at in range(3)]
    sites = [await sealed_sites.start(f"site-{at}", each, (key,)) for at, each in enumerate(learners)]
    await sealed_sites.far.hand_in(lead, plan)
    tasks = (a_task(plan, "warm-up", strategy={}), a_task(plan, "train", rounds=2, strategy={}))
    members = tuple(each.identity.id for each in sites)
    info = await sealed_sites.asks(lead, wire.CREATE_PROJECT, wire.CreateProject("survival", tasks, members=members))
    project = read_document(info.project, wire.Project, wire.PROJECT).project
    for each in sites:
        await sealed_sites.asks(each, wire.JOIN_PROJECT, wire.JoinProject(project, lead.address, key))

    learners[2].may_go_on.clear()
    await sealed_sites.asks(lead, wire.START_PROJECT, project=project)
    await learners[2].began.wait()
    await sites[2].stop()
    sites[2] = await sealed_sites.start("site-2", Learner(goal=2.0), (key,))
    assert (await sealed_sites.ended(lead, project, 1))["state"] == "success"
    await sealed_sites.asks(lead, wire.START_PROJECT, project=project)
    assert (await sealed_sites.ended(lead, project, 2))["state"] == "success"

    batches = (await sealed_sites.asks(lead, wire.PROJECT_INFO, project=project)).batches
    last = [batch.runs[-1].run for batch in batches]
    driver = coordinator_of(lead)
    for run in last:
        signed = await sealed_sites.asks(lead, RUN_TASK, run=run)
        assert read_strategy(read_document(signed, Task, TASK).strategy).masked
        attached = await attach(sealed_sites.far.calls, sealed_sites.far.identity, driver, run, time.time)
        model = numbers(plan.initial)
        for _ in range(3):
            model = np.mean([(model + at) / 2 for at in range(3)], axis=0).astype(np.float32)
        np.testing.assert_allclose(numbers((await attached.checkpoint()).initial), model, atol=1e-5)
    for each in (*sites, lead):
        await each.stop()
