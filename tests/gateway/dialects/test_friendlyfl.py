"""FriendlyFL's contract, as a controller written for its routing server speaks it; and what an outsider tries."""

from __future__ import annotations

import base64
import io
import uuid
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from grid.crypto.envelope import Header
from grid.crypto.identity import Identity
from grid.crypto.prekeys import Prekey, publish, read_published
from grid.crypto.sealing import seal_bytes
from tests.gateway.conftest import OWNERS_TOKEN, gateway_at
from tests.gateway.fakes import Clock

BASE = "/friendlyfl/api/v1"
TASKS = [
    {"seq": 1, "model": "LogisticRegression", "config": {"total_round": 2, "current_round": 1}},
    {"seq": 2, "model": "CoxRegression", "config": {"total_round": 1, "current_round": 1}},
]
PASSWORD = "correct horse battery"


class Router:
    """The gateway as controllers call it, each with its name and password."""

    def __init__(self, address: str, http: aiohttp.ClientSession, clock: Clock) -> None:
        self.address, self.http, self.clock = address, http, clock

    async def ask(self, who: str, call: str, body: Any = None, status: int = 200, **more: Any) -> Any:
        """What `who` is answered, which has to be of this status."""
        method, path = call.split(" ")
        headers = {"Authorization": f"Bearer {OWNERS_TOKEN}"} if who == "owner" else basic(who)
        asked = self.http.request(method, self.address + BASE + path, json=body, headers=headers, **more)
        async with asked as response:
            raw = await response.read()
            assert response.status == status, (call, response.status, raw)
            return await response.json(content_type=None) if "json" in response.content_type else raw

    async def site(self, who: str) -> dict[str, Any]:
        """A site of an account, connected."""
        site: dict[str, Any] = await self.ask(who, "POST /sites/", {"name": f"{who}'s", "uid": uid(who)}, 201)
        return site

    async def project(self, name: str = "stroke", *sites: dict[str, Any], tasks: Any = TASKS) -> dict[str, Any]:
        """A project that the first site's account makes and the others join."""
        for site in sites:
            asked = {"name": name, "description": "who", "site": site["id"], "tasks": tasks}
            project = await self.ask(site["owner"], "POST /projects/", asked, 201)
        return dict(project)

    async def batch(self, project: dict[str, Any], who: str = "ann") -> dict[str, dict[str, Any]]:
        """A new batch: its runs by site."""
        runs = await self.ask(who, "POST /runs/", {"project": project["id"]}, 201)
        return {run["site_uid"]: run for run in runs}

    async def move(self, who: str, run: dict[str, Any], to: int, status: int = 202, **more: Any) -> Any:
        """Put a status."""
        return await self.ask(who, f"PUT /runs/{run['id']}/status/", {"status": to, **more}, status)

    async def statuses(self, project: dict[str, Any], who: str = "ann") -> list[int]:
        """Those of the newest batch, as its coordinator sees them."""
        runs = await self.ask(who, f"GET /runs/lookup/?project={project['id']}")
        newest = max(run["batch"] for run in runs)
        return [run["status"] for run in runs if run["batch"] == newest]


def basic(who: str, password: str = PASSWORD) -> dict[str, str]:
    """A name and a password, as HTTP Basic has them."""
    return {"Authorization": "Basic " + base64.b64encode(f"{who}:{password}".encode()).decode()}


def uid(who: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, who))


@pytest.fixture
async def router(tmp_path: Path, http: aiohttp.ClientSession) -> AsyncIterator[Router]:
    """A gateway with four accounts: ann, bob, and eve, who is an outsider to what they do."""
    clock = Clock()
    async with gateway_at(tmp_path, clock=clock) as address:
        router = Router(address, http, clock)
        for name in ("ann", "bob", "eve"):
            await router.ask("owner", "POST /users/", {"username": name, "password": PASSWORD}, 201)
        yield router


# --- accounts ----------------------------------------------------------------------------------------


async def test_who_says_no_name_and_password_is_asked_for_them_as_basic_has_it(router: Router) -> None:
    async with router.http.get(f"{router.address}{BASE}/sites/") as response:
        assert response.status == 401
        assert response.headers["WWW-Authenticate"] == 'Basic realm="grid", charset="UTF-8"'
    wrong = basic("ann", "not the password")
    async with router.http.get(f"{router.address}{BASE}/sites/", headers=wrong) as response:
        assert response.status == 401
    async with router.http.get(f"{router.address}{BASE}/sites/", headers={"Authorization": "Basic !"}) as response:
        assert response.status == 401


async def test_an_account_opens_nothing_but_the_dialect(router: Router) -> None:
    renew = router.http.post(f"{router.address}/v1/renew", json={}, headers=basic("ann"))
    async with renew as response:
        assert response.status in {401, 404}


async def test_passwords_are_tried_only_so_often(router: Router) -> None:
    for status in [401] * 10 + [429]:
        wrong = basic("bob", "not the password")
        async with router.http.get(f"{router.address}{BASE}/sites/", headers=wrong) as response:
            assert response.status == status


async def test_an_account_sees_and_changes_itself(router: Router) -> None:
    users = (await router.ask("owner", "GET /users/"))["results"]
    ann = next(user for user in users if user["username"] == "ann")
    assert set(ann) == {"id", "username", "email", "date_joined", "groups"}

    assert await router.ask("ann", f"GET /users/{ann['id']}/") == ann
    changed = await router.ask("ann", f"PATCH /users/{ann['id']}/", {"email": "ann@example.org"})
    assert changed == {**ann, "email": "ann@example.org"}
    await router.ask("owner", f"DELETE /users/{ann['id']}/", status=204)
    await router.ask("ann", "GET /sites/", status=401)


async def test_groups_are_the_owners_and_everybody_reads_them(router: Router) -> None:
    made = await router.ask("owner", "POST /groups/", {"name": "hospitals"}, 201)
    users = (await router.ask("owner", "GET /users/"))["results"]
    ann = next(user for user in users if user["username"] == "ann")

    assert (await router.ask("ann", "GET /groups/"))["results"] == [made]
    assert await router.ask("ann", f"GET /groups/{made['id']}/") == made
    inside = await router.ask("owner", f"PATCH /users/{ann['id']}/", {"groups": [made["id"]]})
    assert inside == {**ann, "groups": [made["id"]]}
    renamed = await router.ask("owner", f"PUT /groups/{made['id']}/", {"name": "clinics"})
    assert renamed == {**made, "name": "clinics"}

    await router.ask("owner", "POST /groups/", {"name": "clinics"}, 422)
    await router.ask("ann", "POST /groups/", {"name": "mine"}, 403)
    await router.ask("ann", f"PATCH /users/{ann['id']}/", {"groups": []}, 403)
    await router.ask("owner", f"PATCH /users/{ann['id']}/", {"groups": [77]}, 404)
    await router.ask("owner", f"DELETE /groups/{made['id']}/", status=204)
    await router.ask("owner", f"DELETE /groups/{made['id']}/", status=404)
    assert (await router.ask("ann", f"GET /users/{ann['id']}/"))["groups"] == []


# --- sites -------------------------------------------------------------------------------------------


async def test_a_site_is_registered_found_and_changed(router: Router) -> None:
    site = await router.site("ann")
    assert (site["name"], site["uid"], site["status"], site["owner"]) == ("ann's", uid("ann"), 1, "ann")

    assert await router.ask("ann", f"GET /sites/lookup/?uid={uid('ann')}") == site
    assert (await router.ask("ann", f"PUT /sites/{site['id']}/", {"name": "St. Ann"}))["name"] == "St. Ann"
    assert (await router.ask("ann", "GET /sites"))["count"] == 1
    await router.ask("ann", "POST /sites/", {"name": "St. Ann"}, 422)
    await router.ask("ann", f"DELETE /sites/{site['id']}/", status=204)
    await router.ask("ann", f"GET /sites/{site['id']}/", status=404)


async def test_lists_have_pages_of_twenty(router: Router) -> None:
    for number in range(21):
        await router.ask("ann", "POST /sites/", {"name": f"site {number}"}, 201)

    first = await router.ask("ann", "GET /sites/")
    assert (first["count"], len(first["results"]), first["previous"]) == (21, 20, None)
    assert first["next"].endswith("/sites/?page=2")
    second = await router.ask("ann", "GET /sites/?page=2")
    assert (len(second["results"]), second["next"]) == (1, None)


@pytest.mark.parametrize(
    ("silence", "status"), [(0.0, 1), (60.0, 1), (61.0, 0), (89.0, 0), (86_400.0, 0), (86_430.0, 0), (1e7, 0)]
)
async def test_a_site_that_is_silent_for_more_than_a_minute_is_disconnected(
    router: Router, silence: float, status: int
) -> None:
    site = await router.site("ann")
    await router.ask("ann", "POST /sites/heartbeat/", {"uid": uid("ann"), "status": 1}, 202)

    router.clock.time += silence

    assert (await router.ask("ann", f"GET /sites/{site['id']}/"))["status"] == status
    await router.ask("ann", "POST /sites/heartbeat/", {"uid": uid("ann"), "status": 1}, 202)
    assert (await router.ask("ann", f"GET /sites/{site['id']}/"))["status"] == 1
    await router.ask("ann", "POST /sites/heartbeat/", {"uid": uid("ann"), "status": 0}, 202)
    assert (await router.ask("ann", f"GET /sites/{site['id']}/"))["status"] == 0


# --- projects ----------------------------------------------------------------------------------------


async def test_who_makes_a_project_coordinates_it_and_who_makes_it_again_joins(router: Router) -> None:
    ann, bob = await router.site("ann"), await router.site("bob")
    project = await router.project("stroke", ann, bob)

    assert (project["site"], project["batch"], project["tasks"]) == (ann["id"], 0, TASKS)
    found = await router.ask("ann", f"GET /project-participants/lookup/?project={project['id']}")
    assert [(each["site"], each["role"]) for each in found] == [(ann["id"], "CO"), (bob["id"], "PA")]
    mine = await router.ask("bob", "GET /project-participants/")
    assert [each["site"] for each in mine["results"]] == [bob["id"]]
    assert [each["id"] for each in await router.ask("bob", "GET /projects/lookup/?name=stroke")] == [project["id"]]
    assert await router.ask("bob", f"GET /projects/lookup/?site_id={ann['id']}") == []
    await router.ask("bob", "POST /projects/", {"name": "stroke", "site": bob["id"]}, 422)
    await router.ask("bob", f"DELETE /projects/{project['id']}/", status=403)
    await router.ask("bob", f"DELETE /project-participants/{mine['results'][0]['id']}/", status=204)
    changed = await router.ask("ann", f"PATCH /projects/{project['id']}/", {"tasks": TASKS[:1]})
    assert changed["tasks"] == TASKS[:1]
    await router.ask("ann", f"DELETE /projects/{project['id']}/", status=204)


@pytest.mark.parametrize("tasks", [[{"seq": 2, "model": "A"}], [{"seq": 1}], ["a"], [{"seq": 1, "model": 3}]])
async def test_tasks_are_in_order_and_have_a_model(router: Router, tasks: Any) -> None:
    ann = await router.site("ann")

    await router.ask("ann", "POST /projects/", {"name": "stroke", "site": ann["id"], "tasks": tasks}, 422)


# --- runs --------------------------------------------------------------------------------------------


async def two(router: Router) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """A project of ann's that bob has joined, and both their runs."""
    project = await router.project("stroke", await router.site("ann"), await router.site("bob"))
    runs = await router.batch(project)
    return project, runs[uid("ann")], runs[uid("bob")]


async def round_of(router: Router, ann: dict[str, Any], bob: dict[str, Any]) -> None:
    """A round up to the sum, as controllers take it."""
    for who, run in (("ann", ann), ("bob", bob)):
        await router.move(who, run, 3)
    await router.move("ann", ann, 4, update_all=True)
    for who, run in (("ann", ann), ("bob", bob)):
        await router.move(who, run, 5)
        await router.move(who, run, 6)
    await router.move("ann", ann, 7, update_all=True)


async def test_a_run_has_all_its_fields(router: Router) -> None:
    project, ann, bob = await two(router)

    assert set(ann) == {
        *("id", "project", "participant", "site_uid", "batch", "cur_seq", "tasks", "role", "status"),
        *("logs", "artifacts", "middle_artifacts", "created_at", "updated_at"),
    }
    assert (ann["role"], bob["role"], ann["batch"], ann["cur_seq"], ann["status"]) == ("CO", "PA", 1, 1, 2)
    detail = f"GET /runs/detail/?batch=1&project={project['id']}"
    assert len(await router.ask("ann", detail)) == 2
    assert await router.ask("bob", f"{detail}&site_uid={uid('bob')}") == [bob]
    assert await router.ask("bob", detail) == [bob]


async def test_two_tasks_are_run_round_by_round_to_success_and_then_once_more(router: Router) -> None:
    project, ann, bob = await two(router)
    seen = []
    for last in (False, False, True):
        run = await router.ask("ann", f"GET /runs/{ann['id']}/")
        seen.append((run["cur_seq"], run["tasks"][run["cur_seq"] - 1]["config"]["current_round"]))
        await round_of(router, ann, bob)
        assert await router.statuses(project) == [7, 7]
        if not last:
            await router.move("ann", ann, 2, update_all=True, increase_round=True)
            assert await router.statuses(project) == [2, 2]
    await router.move("ann", ann, 8, update_all=True)

    assert seen == [(1, 1), (1, 2), (2, 1)]
    assert await router.statuses(project) == [8, 8]
    assert await router.ask("bob", "GET /runs/active/") == []
    assert {run["batch"] for run in (await router.batch(project)).values()} == {2}


async def test_nobody_goes_ahead_of_the_others(router: Router) -> None:
    project, ann, bob = await two(router)
    await router.move("ann", ann, 3)

    await router.move("ann", ann, 4, 409, update_all=True)  # bob is not ready
    await router.ask("ann", "POST /runs/", {"project": project["id"]}, 409)  # this batch goes on
    await router.move("bob", bob, 5, 409)
    await router.move("bob", bob, 9, 400)
    assert await router.statuses(project) == [3, 2]


async def test_a_batch_begins_only_when_all_sites_are_there(router: Router) -> None:
    project = await router.project("stroke", await router.site("ann"), await router.site("bob"))
    router.clock.time += 61
    await router.ask("ann", "POST /sites/heartbeat/", {"uid": uid("ann")}, 202)

    refused = await router.ask("ann", "POST /runs/", {"project": project["id"]}, 409)

    assert "bob's" in refused["detail"]


async def test_a_batch_is_stopped_and_begun_anew(router: Router) -> None:
    project, ann, bob = await two(router)
    for who, run in (("ann", ann), ("bob", bob)):
        await router.move(who, run, 3)
    await router.move("ann", ann, 4, update_all=True)
    action = {"run": ann["id"], "role": "CO", "project": project["id"], "batch": 1}

    await router.ask("ann", "PUT /runs-action/update/", {**action, "action": "stop"}, 202)
    assert await router.statuses(project) == [1, 1]
    await router.move("bob", bob, 0)
    assert await router.statuses(project) == [1, 0]
    await router.ask("ann", "PUT /runs-action/update/", {**action, "action": "restart"}, 202)
    assert await router.statuses(project) == [2, 2]
    await round_of(router, ann, bob)
    await router.ask("ann", "PUT /runs-action/update/", {**action, "action": "stop"}, 409)  # not while it aggregates


async def test_a_site_that_fails_fails_the_batch(router: Router) -> None:
    project, ann, bob = await two(router)
    await router.move("bob", bob, 3)
    await router.move("bob", bob, 1)
    assert await router.statuses(project) == [2, 1]

    await router.move("bob", bob, 0)

    assert await router.statuses(project) == [1, 0]
    assert (await router.move("ann", ann, 0))["status"] == 0


# --- files -------------------------------------------------------------------------------------------

SENDER = Identity.from_seed(b"s" * 32)


def sealed(router: Router, payload: bytes) -> bytes:
    now = int(router.clock.time)
    reader = Identity.from_seed(b"r" * 32)
    header = Header(sender=SENDER.public, audience=reader.public, kind="artifact", created=now, expires=now + 60)
    published = publish(reader, Prekey.generate(), now, now + 60)
    return seal_bytes(SENDER, header, payload, [read_published(published, reader.public, now)])


async def upload(
    router: Router, who: str, run: dict[str, Any], payload: bytes, kind: str = "mid_artifacts", status: int = 201
) -> Any:
    form = aiohttp.FormData()
    form.add_field(kind, payload, filename="update.zip", content_type="application/zip")
    for name, value in {"run": run["id"], "task_seq": 1, "round_seq": 1}.items():
        form.add_field(name, str(value))
    asked = router.http.post(f"{router.address}{BASE}/runs-action/upload/", data=form, headers=basic(who))
    async with asked as response:
        assert response.status == status, await response.text()
        return await response.json(content_type=None)


async def download(router: Router, who: str, query: str, status: int = 200) -> list[bytes]:
    raw = await router.ask(who, f"GET /runs-action/download/?{query}", status=status)
    if status != 200:
        return []
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        return [archive.read(name) for name in archive.namelist()]


async def test_sealed_files_reach_the_coordinator_and_its_own_reach_all(router: Router, tmp_path: Path) -> None:
    _, ann, bob = await two(router)
    local, model = sealed(router, b"local"), sealed(router, b"model")

    told = await upload(router, "bob", bob, local)
    await upload(router, "ann", ann, model, "artifacts")

    assert [(each["task_seq"], each["size"]) for each in told["middle_artifacts"]] == [(1, len(local))]
    assert await download(router, "ann", f"run={ann['id']}&type=mid_artifacts&all_runs=true") == [local]
    assert await download(router, "ann", f"run={ann['id']}&type=mid_artifacts&all_runs=true&task_seq=2") == []
    assert await download(router, "bob", f"run={bob['id']}&type=artifacts") == [model]
    assert await download(router, "bob", f"run={bob['id']}&type=mid_artifacts") == [local]
    await download(router, "bob", f"run={bob['id']}&type=mid_artifacts&all_runs=true", 403)


async def test_what_is_not_sealed_is_not_taken_and_not_kept(router: Router, tmp_path: Path) -> None:
    _, _, bob = await two(router)
    marker = b"patient 4711 has a stroke"
    envelope = sealed(router, b"local")

    for payload in (marker, b"PK\x03\x04" + marker, envelope[:-1], envelope + b"x"):
        refused = await upload(router, "bob", bob, payload, status=422)
        assert refused["type"].endswith("envelope-refused")
    clear = {"logs": [marker.decode()]}
    await router.ask("bob", f"PUT /runs/{bob['id']}/", clear, 422)

    files = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    assert not any(marker in content for content in files)


async def test_files_of_a_project_that_is_gone_are_removed_when_the_gateway_starts_again(
    router: Router, tmp_path: Path
) -> None:
    project, _, bob = await two(router)
    await upload(router, "bob", bob, sealed(router, b"local"))
    kept = await router.batch(await router.project("other", await router.site("eve")), "eve")
    await upload(router, "eve", kept[uid("eve")], sealed(router, b"another"))
    await router.ask("ann", f"DELETE /projects/{project['id']}/", status=204)

    def files() -> int:
        return len([path for path in (tmp_path / "deposits").glob("??/??/*") if path.is_file()])

    assert files() == 2
    async with gateway_at(tmp_path, clock=router.clock) as address:
        again = Router(address, router.http, router.clock)
        assert files() == 1
        assert len(await download(again, "eve", f"run={kept[uid('eve')]['id']}&type=mid_artifacts")) == 1


# --- the twelve probes -----------------------------------------------------------------------------------


async def test_1_an_outsider_does_not_become_a_second_coordinator(router: Router) -> None:
    project, _, _ = await two(router)
    eve = await router.site("eve")
    asked = {"site": eve["id"], "project": project["id"], "role": "CO"}

    await router.ask("eve", "POST /project-participants/", asked, 403)
    assert [p["role"] for p in await participants(router, project)] == ["CO", "PA"]


async def participants(router: Router, project: dict[str, Any]) -> list[dict[str, Any]]:
    found = await router.ask("ann", f"GET /project-participants/lookup/?project={project['id']}")
    return list(found)


async def test_2_an_outsider_sees_no_runs_projects_or_sites(router: Router) -> None:
    project, ann, _ = await two(router)
    await router.site("eve")

    assert await router.ask("eve", "GET /runs/active/") == []
    assert (await router.ask("eve", "GET /runs/"))["count"] == 0
    assert (await router.ask("eve", "GET /projects/"))["count"] == 0
    assert [site["owner"] for site in (await router.ask("eve", "GET /sites/"))["results"]] == ["eve"]
    for path in (f"/runs/{ann['id']}/", f"/projects/{project['id']}/"):
        await router.ask("eve", f"GET {path}", status=404)


async def test_3_another_hospitals_run_is_not_moved(router: Router) -> None:
    project, ann, bob = await two(router)

    await router.move("eve", bob, 3, 404)
    await router.move("ann", bob, 3, 403)
    await router.move("bob", ann, 3, 404)
    assert await router.statuses(project) == [2, 2]


async def test_4_a_participant_moves_nobody_but_itself(router: Router) -> None:
    project, ann, bob = await two(router)

    await router.move("bob", ann, 8, 404, update_all=True)
    await router.move("bob", bob, 8, 403, update_all=True)
    await router.move("bob", bob, 8, 409)
    await router.ask("bob", "PUT /runs-action/update/", {"run": bob["id"], "role": "CO", "action": "stop"}, 403)
    assert await router.statuses(project) == [2, 2]


async def test_5_the_documented_move_from_standby_to_pending_failed_is_made(router: Router) -> None:
    _, _, bob = await two(router)

    assert (await router.move("bob", bob, 1))["status"] == 1


async def test_6_a_global_model_stays_in_its_project(router: Router) -> None:
    _, ann, bob = await two(router)
    eve = await router.site("eve")
    other = await router.batch(await router.project("other", eve), "eve")
    await upload(router, "ann", ann, sealed(router, b"model"), "artifacts")

    assert await download(router, "eve", f"run={other[uid('eve')]['id']}&type=artifacts") == []
    await download(router, "eve", f"run={ann['id']}&type=artifacts", 404)
    assert len(await download(router, "bob", f"run={bob['id']}&type=artifacts")) == 1


async def test_7_a_local_update_is_for_its_coordinator_alone_and_sealed(router: Router) -> None:
    _, _, bob = await two(router)
    await upload(router, "bob", bob, sealed(router, b"local"))

    await download(router, "eve", f"run={bob['id']}&type=mid_artifacts", 404)
    await upload(router, "eve", bob, sealed(router, b"poison"), status=404)
    await upload(router, "bob", bob, b"local, in clear", status=422)


async def test_8_an_outsider_does_not_speak_for_a_hospital(router: Router) -> None:
    await two(router)

    await router.ask("eve", "POST /sites/heartbeat/", {"uid": uid("bob"), "status": 0}, 403)
    assert (await router.ask("bob", f"GET /sites/lookup/?uid={uid('bob')}"))["status"] == 1


async def test_9_an_outsider_deletes_no_site_and_no_project_goes_with_one(router: Router) -> None:
    project, _, _ = await two(router)

    await router.ask("eve", f"DELETE /sites/{project['site']}/", status=403)
    await router.ask("ann", f"DELETE /sites/{project['site']}/", status=422)  # it coordinates
    assert await router.statuses(project) == [2, 2]


async def test_10_and_11_accounts_are_the_owners_business(router: Router) -> None:
    users = (await router.ask("owner", "GET /users/"))["results"]

    await router.ask("eve", "GET /users/", status=403)
    await router.ask("eve", "POST /users/", {"username": "mallory", "password": PASSWORD}, 403)
    for user in users:
        await router.ask("eve", f"DELETE /users/{user['id']}/", status=403)
    ann = next(user for user in users if user["username"] == "ann")
    await router.ask("eve", f"GET /users/{ann['id']}/", status=403)
    await router.ask("eve", f"PUT /users/{ann['id']}/", {"password": "a new one of eve's"}, 403)


async def test_12_a_site_that_was_silent_for_a_day_and_30_seconds_is_disconnected(router: Router) -> None:
    site = await router.site("ann")

    router.clock.time += 86_400 + 30

    assert (await router.ask("ann", f"GET /sites/{site['id']}/"))["status"] == 0
