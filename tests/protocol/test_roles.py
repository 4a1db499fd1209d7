"""The roadmap's roles, and who may give them."""

from __future__ import annotations

import pytest

from grid.protocol.roles import ADMINISTRATOR, NETWORK_ROLES, NODE_ROLES, OFFICER, OWNER, USER, Role, may_give
from grid.wire.problems import NotAllowed
from grid.wire.rights import Right

COLUMNS = (
    Right.TRIAGE_REQUESTS,
    Right.EDIT_SETTINGS,
    Right.CREATE_USERS,
    Right.CREATE_GROUPS,
    Right.EDIT_ROLES,
    Right.MANAGE_INFRASTRUCTURE,
    Right.UPLOAD_DATA,
)
ROADMAP = {
    "User": "-------",
    "Compliance Officer": "x------",
    "Administrator": "xxxx--x",
    "Owner": "xxxxxxx",
}


def test_node_roles_have_exactly_the_roadmaps_rights() -> None:
    table = {role.name: "".join("x" if right in role.rights else "-" for right in COLUMNS) for role in NODE_ROLES}

    assert table == ROADMAP


def test_a_network_administrator_only_looks_and_a_network_owner_has_no_right_inside_a_node() -> None:
    administrator, owner = NETWORK_ROLES

    assert administrator.rights == frozenset()
    assert not owner.rights & {Right.TRIAGE_REQUESTS, Right.UPLOAD_DATA, Right.MANAGE_INFRASTRUCTURE}
    assert Right.MANAGE_NODES in owner.rights


def test_nobody_gives_more_than_they_have() -> None:
    may_give(ADMINISTRATOR.rights, OFFICER)
    may_give(ADMINISTRATOR.rights, USER)
    with pytest.raises(NotAllowed, match="manage-infrastructure"):
        may_give(ADMINISTRATOR.rights, Role(101, "Scaler", frozenset({Right.MANAGE_INFRASTRUCTURE})))
    with pytest.raises(NotAllowed, match="owner"):
        may_give(frozenset(Right), OWNER)
