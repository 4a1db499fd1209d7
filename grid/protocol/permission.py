"""Permissions on data: what an account may do with a dataset or one of its tensors.

Three have a say, the highest first: the account itself, its groups, the tensor. The first that says anything decides;
where none does, the dataset's visibility. So a grant to one account exceeds what its group may, and a tensor that is
closed is open to those whose group was let in (PyGrid's roadmap: data-centric FL, pygrid_permissions).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from typing import Literal

from msgspec import Struct

Action = Literal["find", "read", "train"]
"""find: see that it is there, and its description · read: download it · train: let a plan learn from it."""
ACTIONS: tuple[Action, ...] = ("find", "read", "train")
Visibility = Literal["public", "private", "hidden"]
"""public: any account may do all three · private: all may find it · hidden: nobody may anything, if not permitted."""
Subject = Literal["user", "group", "tensor"]
WHOLE = ""
"""The name of no tensor: all of the dataset."""


class Permission(Struct, frozen=True):
    """One word of the owner's: whether a user, a group, or whoever asks for this tensor, may do something.

    `name` is the user's or group's, empty for a tensor; `tensor` is empty where the whole dataset is meant.
    """

    subject: Subject
    name: str
    tensor: str
    action: Action
    allow: bool


def decide(user: bool | None, group: bool | None, tensor: bool | None, otherwise: bool) -> bool:
    """Whether something is allowed: by the first of three that says so or not, in this order; else as `otherwise`."""
    for said in (user, group, tensor):
        if said is not None:
            return said
    return otherwise


def at_large(visibility: Visibility, action: Action, *, account: bool) -> bool:
    """What somebody may who was named nowhere: with an `account` here, or only a key."""
    if visibility == "hidden":
        return False
    return action == "find" or (visibility == "public" and account)


class Rules:
    """All permissions on one dataset. A word about one tensor outweighs one about the whole, of the same subject."""

    def __init__(self, permissions: Iterable[Permission] = ()) -> None:
        self._said: Mapping[tuple[Action, Subject, str, str], bool] = {
            (each.action, each.subject, each.name, each.tensor): each.allow for each in permissions
        }

    def allows(
        self, otherwise: bool, action: Action, account: str | None, groups: Set[str], tensor: str = WHOLE
    ) -> bool:
        """Whether an account (None: a key that stands for none), in these groups, may do something.

        `otherwise`: whether whoever is named nowhere may. Where one group may and another may not, it may not.
        """
        user = None if account is None else self._of(action, "user", account, tensor)
        said = {self._of(action, "group", name, tensor) for name in groups} if self._said else set()
        group = False if False in said else True if True in said else None
        own = self._of(action, "tensor", "", tensor) if tensor != WHOLE else None
        return decide(user, group, own, otherwise)

    def _of(self, action: Action, subject: Subject, name: str, tensor: str) -> bool | None:
        found = self._said.get((action, subject, name, tensor))
        return self._said.get((action, subject, name, WHOLE)) if found is None and tensor != WHOLE else found
