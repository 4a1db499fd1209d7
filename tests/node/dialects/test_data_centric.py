"""PyGrid's data-centric routes, as its clients call them: a token from /users/login, and plain JSON."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import ClientSession

from grid.transport.auth import OWNER
from grid.wire.data_centric import FLAGS
from tests.grid_of_nodes import ANode

StartNode = Callable[..., Awaitable[ANode]]

PASSWORD = "correct horse battery"
PEOPLE = {"olga": "", "adam": "Administrator", "cora": "Compliance Officer", "ursula": "User"}


class Domain:
    """A node as PyGrid's clients see one."""

    def __init__(self, node: ANode, http: ClientSession) -> None:
        self.node, self._http, self._tokens = node, http, dict[str, str]()

    async def sign_in(self, who: str) -> None:
        told = await self("", "POST /users/login", {"email": f"{who}@example.org", "password": PASSWORD})
        self._tokens[who] = told["token"]

    async def __call__(self, who: str, call: str, body: Any = None, status: int = 200) -> Any:
        """What the node answers somebody who has signed in; nobody has an empty name."""
        method, path = call.split()
        headers = {"token": self._tokens[who]} if who else {}
        async with self._http.request(method, self.node.address + path, json=body, headers=headers) as response:
            told = await response.json()
            assert response.status == status, told
            return told


@pytest.fixture
async def domain(start_node: StartNode, connections: ClientSession) -> Domain:
    """A node with an owner, an administrator, an officer and a user, all signed in."""
    node = await start_node("ann")
    for name, role in PEOPLE.items():
        await node.open.means.house.people.create(OWNER, f"{name}@example.org", PASSWORD, role=role)
    domain = Domain(node, connections)
    for name in PEOPLE:
        await domain.sign_in(name)
    return domain


def given(name: str = "scans", **changes: Any) -> dict[str, Any]:
    """A dataset as a data owner hands it in."""
    tensor = {"name": "age", "dtype": "float32", "shape": [2, 1], "data": base64.b64encode(bytes(8)).decode()}
    return {"name": name, "description": "a ward", "tags": ["#mri"], "tensors": [tensor]} | changes


async def test_users_sign_in_and_no_answer_has_what_signs_in(domain: Domain) -> None:
    me = await domain("cora", "GET /users/me")
    assert (me["email"], me["role"]["name"]) == ("cora@example.org", "Compliance Officer")
    assert me["role"]["can_triage_requests"] is True
    assert set(me["role"]) == {"id", "name", *FLAGS}
    users = await domain("olga", "GET /users")
    assert [user["email"] for user in users] == [f"{name}@example.org" for name in PEOPLE]
    said = str(users) + str(await domain("olga", "GET /users/1"))
    assert not any(word in said for word in ("password", "salt", "private_key", "argon2"))
    assert await domain("ursula", "GET /users") == [await domain("ursula", "GET /users/me")]
    await domain("ursula", "GET /users/1", status=404)
    await domain("", "GET /users", status=401)
    wrong = {"email": "olga@example.org", "password": "a guess at it"}
    unknown = {"email": "nobody@example.org", "password": "a guess at it"}
    said = [(await domain("", "POST /users/login", each, 401))["detail"] for each in (wrong, unknown)]
    assert said[0] == said[1]


async def test_users_are_made_changed_found_and_removed_by_those_who_may(domain: Domain) -> None:
    new = {"email": "nina@example.org", "password": PASSWORD}
    await domain("cora", "POST /users", new, 403)
    nina = await domain("adam", "POST /users", new)
    assert nina["role"]["name"] == "User"
    group = await domain("adam", "POST /groups", {"name": "heart"})
    await domain("adam", f"PUT /users/{nina['id']}/groups", {"groups": [group["id"]]})
    found = await domain("adam", "POST /users/search", {"group": group["id"]})
    assert [user["email"] for user in found] == ["nina@example.org"]
    assert found[0]["groups"] == [group]
    await domain("adam", f"PUT /users/{nina['id']}/role", {"role": 4}, 403)  # nobody makes an owner
    await domain("adam", "PUT /users/1/role", {"role": 1}, 403)  # or takes one down
    await domain("adam", "DELETE /users/1", status=403)
    await domain("adam", f"PUT /users/{nina['id']}/role", {"role": 2})
    await domain("adam", f"DELETE /users/{nina['id']}")
    await domain("adam", f"GET /users/{nina['id']}", status=404)
    await domain("ursula", "PUT /users/4/password", {"password": "quite another one"}, 401)
    await domain("ursula", "PUT /users/4/password", {"password": "quite another one", "present": PASSWORD})
    await domain("ursula", "PUT /users/4/email", {"email": "u@example.org"})
    assert (await domain("ursula", "GET /users/me"))["email"] == "u@example.org"


async def test_roles_have_flags_and_preset_ones_stay(domain: Domain) -> None:
    roles = await domain("ursula", "GET /roles")
    assert [role["name"] for role in roles] == ["User", "Compliance Officer", "Administrator", "Owner"]
    asked = {"name": "Curator", "can_upload_data": True}
    await domain("adam", "POST /roles", asked, 403)
    curator = await domain("olga", "POST /roles", asked)
    assert [flag for flag in FLAGS if curator[flag]] == ["can_upload_data"]
    changed = await domain("olga", f"PUT /roles/{curator['id']}", {"name": "Keeper", "can_create_groups": True})
    assert (changed["name"], changed["can_upload_data"], changed["can_create_groups"]) == ("Keeper", False, True)
    await domain("olga", "PUT /roles/3", {"name": "Administrator", "can_manage_infrastructure": True}, 422)
    await domain("olga", f"DELETE /roles/{curator['id']}")
    await domain("olga", f"GET /roles/{curator['id']}", status=404)


async def test_datasets_are_handed_in_found_described_and_removed(domain: Domain) -> None:
    await domain("ursula", "POST /data-centric/datasets", given(), 403)
    made = await domain("adam", "POST /data-centric/datasets", given())
    assert made["tensors"][0] | {"id": ""} == {
        "id": "",
        "name": "age",
        "dataset": "scans",
        "dtype": "float32",
        "shape": [2, 1],
        "tags": ["#mri"],
    }
    assert [d["id"] for d in await domain("ursula", "GET /data-centric/datasets")] == ["pulse", "scans"]
    told = await domain("ursula", "GET /data-centric/tensors/scans:age")
    assert told["shape"] == [2, 1]
    changed = await domain("adam", "PUT /data-centric/datasets/scans", {"description": "two wards", "tags": ["#ct"]})
    assert (changed["description"], changed["tags"]) == ("two wards", ["#ct"])
    await domain("ursula", "DELETE /data-centric/datasets/scans", status=403)
    await domain("adam", "DELETE /data-centric/datasets/scans")
    await domain("ursula", "GET /data-centric/datasets/scans", status=404)


@pytest.mark.parametrize(
    ("wrong", "status"),
    [
        ({"tensors": []}, 400),
        ({"name": "../../etc"}, 400),
        ({"tensors": [{"name": "age", "dtype": "object", "shape": [1], "data": ""}]}, 400),
        ({"tensors": [{"name": "age", "dtype": "float32", "shape": [9], "data": ""}]}, 422),
        ({"tensors": [{"name": "age", "dtype": "float32", "shape": [10**9, 10**9], "data": ""}]}, 422),
        ({"tensors": "H4sIAAAAAAAAA+3BAQ0AAADCoPdPbQ8HFAAAAAAAAAAA"}, 400),  # an archive
    ],
)
async def test_what_is_no_dataset_is_refused_and_leaves_nothing(
    domain: Domain, wrong: dict[str, Any], status: int
) -> None:
    def files() -> int:
        return sum(path.is_file() for path in (domain.node.folder / "blobs").rglob("*"))

    before = files()
    await domain("adam", "POST /data-centric/datasets", given(**wrong), status)
    await domain("adam", "POST /data-centric/datasets", given("pulse"), 409)

    assert files() == before
    assert [d["id"] for d in await domain("adam", "GET /data-centric/datasets")] == ["pulse"]


async def test_listings_leak_nothing_that_may_not_be_found(domain: Domain) -> None:
    """PySyft#4594: tensors that were private stood in a listing."""
    await domain("adam", "POST /data-centric/datasets", given("rare"))
    await domain.node.open.means.catalogue.change("rare", visibility="hidden")

    for path in ("datasets", "tensors"):
        assert "rare" not in str(await domain("ursula", f"GET /data-centric/{path}"))
        await domain("", f"GET /data-centric/{path}", status=401)
    await domain("ursula", "GET /data-centric/datasets/rare", status=404)
    await domain("ursula", "GET /data-centric/tensors/rare:age", status=404)
    await domain("ursula", "POST /data-centric/requests", {"reason": "why", "object_id": "rare:age"}, 404)


async def test_requests_are_triaged_by_officers_and_withdrawn_by_who_asked(domain: Domain) -> None:
    asked = {"reason": "a study", "object_id": "pulse:features"}
    made = await domain("ursula", "POST /data-centric/requests", asked)
    assert {key: made[key] for key in ("user_id", "object_id", "status", "request_type")} == {
        "user_id": 4,
        "object_id": "pulse:features",
        "status": "pending",
        "request_type": "permissions",
    }
    number = made["id"]
    await domain("ursula", f"PUT /data-centric/requests/{number}", {"status": "accepted"}, 403)
    await domain("adam", f"PUT /data-centric/requests/{number}", {"status": "accepted"})
    assert (await domain("ursula", f"GET /data-centric/requests/{number}"))["status"] == "accepted"
    second = await domain("ursula", "POST /data-centric/requests", asked | {"object_id": "pulse:target"})
    third = {"reason": "more", "object_id": "pulse", "request_type": "budget", "epsilon": 0.5}
    await domain("ursula", "POST /data-centric/requests", third)
    withdrawn = await domain("ursula", f"PUT /data-centric/requests/{second['id']}", {"status": "denied"})
    assert withdrawn["status"] == "denied"
    assert [r["request_type"] for r in await domain("cora", "GET /data-centric/requests")] == [
        "budget",
        "permissions",
        "permissions",
    ]


async def test_the_dashboard_counts_and_setup_is_the_operators(domain: Domain) -> None:
    counts = await domain("adam", "GET /dashboard")
    assert counts == {
        "datasets": 1,
        "tensors": 2,
        "requests": 0,
        "common_users": 1,
        "org_users": 3,
        "groups": 0,
        "roles": 4,
    }
    await domain("ursula", "GET /dashboard", status=403)
    assert (await domain("", "GET /setup/status"))["init"] is True
    await domain("adam", "POST /setup", {"email": "eve@example.org", "password": PASSWORD}, 403)
    await domain("", "POST /setup", {"email": "eve@example.org", "password": PASSWORD}, 401)
    assert (await domain("", "GET /metadata"))["name"] == "ann"


async def test_workers_are_the_owners_business_alone(domain: Domain) -> None:
    assert [worker["id"] for worker in await domain("olga", "GET /data-centric/workers")] == [1, 2]
    await domain("adam", "POST /data-centric/workers", status=403)
    assert len(await domain("olga", "POST /data-centric/workers")) == 3
    assert (await domain("olga", "GET /data-centric/workers/3"))["provider"] == "local"
    assert len(await domain("olga", "DELETE /data-centric/workers/3")) == 2
    await domain("olga", "GET /data-centric/workers/3", status=404)


async def test_an_association_is_asked_for_and_never_approves_itself(domain: Domain) -> None:
    """In that system two calls without any proof made a stranger an associated network."""
    for call in ("POST /association-requests/request", "POST /association-requests/respond"):
        await domain("", call, {"address": "http://127.0.0.1:1"}, 401)
    for body in ({"name": "eve", "address": "http://127.0.0.1:1", "handshake": "x"}, {}):
        await domain("", "POST /association-requests/receive", body, 405)
    assert await domain("adam", "GET /association-requests") == []
    await domain("ursula", "GET /association-requests", status=403)
    await domain("adam", "POST /association-requests/request", {"address": domain.node.address}, 403)
    await domain("adam", "POST /association-requests/respond", {"id": "0" * 64, "response": "accept"}, 404)
    await domain("adam", f"GET /association-requests/{'0' * 64}", status=404)
