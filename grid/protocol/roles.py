"""Roles: which rights the preset ones have, and who may give whom which.

Source: PyGrid's roadmap (pygrid_permissions): an Administrator cannot scale workers, a Network Owner never touches a
node's inside. Rights are about a daemon's administration; permissions on data are another matter.
"""

from __future__ import annotations

from collections.abc import Set

from msgspec import Struct

from grid.wire.problems import NotAllowed
from grid.wire.rights import Right


class Role(Struct, frozen=True):
    """What its accounts may do. Preset roles stay as they are; `owns` is everything, whatever else is added to it."""

    id: int
    name: str
    rights: frozenset[Right]
    preset: bool = False
    owns: bool = False


FIRST_CUSTOM = 101
"""The smallest number of a role that somebody made."""

USER = Role(1, "User", frozenset({Right.MAKE_REQUESTS}), preset=True)
OFFICER = Role(2, "Compliance Officer", USER.rights | {Right.TRIAGE_REQUESTS}, preset=True)
ADMINISTRATOR = Role(
    3,
    "Administrator",
    OFFICER.rights
    | {Right.EDIT_SETTINGS, Right.CREATE_USERS, Right.CREATE_GROUPS, Right.UPLOAD_DATA, Right.MANAGE_BUDGETS},
    preset=True,
)
OWNER = Role(4, "Owner", frozenset(Right) - {Right.MANAGE_NODES}, preset=True, owns=True)
NETWORK_ADMINISTRATOR = Role(5, "Network Administrator", frozenset(), preset=True)
NETWORK_OWNER = Role(
    6,
    "Network Owner",
    frozenset({Right.EDIT_SETTINGS, Right.CREATE_USERS, Right.CREATE_GROUPS, Right.EDIT_ROLES, Right.MANAGE_NODES}),
    preset=True,
    owns=True,
)

NODE_ROLES = (USER, OFFICER, ADMINISTRATOR, OWNER)
"""The preset roles of a node: that of a new account first, that of its first account last."""
NETWORK_ROLES = (NETWORK_ADMINISTRATOR, NETWORK_OWNER)
"""The preset roles of a gateway, likewise."""


def may_give(rights: Set[str], role: Role) -> None:
    """Whether somebody with these `rights` may make or change accounts of a role: nobody gives or takes more than that.

    Raises:
        NotAllowed: it is an owner's role, or has a right that the caller has not.
    """
    if role.owns:
        raise NotAllowed(f"nobody but this daemon's owner has to do with accounts that are {role.name}")
    if beyond := sorted(role.rights - rights):
        raise NotAllowed(f"{role.name} may {', '.join(beyond)}, which you may not")
