"""Privacy budgets of a node's datasets, as its owner sets and reads them."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from grid.wire.directory import Done
from grid.wire.endpoint import Endpoint
from grid.wire.message import Message
from grid.wire.names import Count, Name
from grid.wire.problems import NotFound
from grid.wire.rights import Right

Epsilon = Annotated[float, Meta(gt=0, le=1e6)]
Delta = Annotated[float, Meta(gt=0, lt=1)]
Subject = Annotated[
    str,
    Meta(max_length=256, description="Empty for all who ask, an account, a group, or a key that stands for no account"),
]


class SetBudget(Message, frozen=True):
    """At most `epsilon` at `delta` on a dataset, of all who ask, of one account, or of one group."""

    dataset: Name
    epsilon: Epsilon
    delta: Delta = 1e-5
    subject: Subject = ""


class DropBudget(Message, frozen=True):
    """Which budget."""

    dataset: Name
    subject: Subject = ""


class BudgetInfo(Message, frozen=True):
    """A budget: `spent` and `left` in epsilon, what is `reserved` by so many runs that go on counted in full."""

    dataset: Name
    subject: Subject
    epsilon: Epsilon
    delta: Delta
    spent: float
    left: float
    runs: Count
    reserved: Count
    members: tuple[str, ...] = ()


class Budgets(Message, frozen=True):
    """All budgets of a node."""

    budgets: tuple[BudgetInfo, ...]


BUDGETS: Endpoint[None, Budgets] = Endpoint(
    "GET",
    "/v1/budgets",
    gives=Budgets,
    who="signed",
    right=Right.MANAGE_BUDGETS,
    about="The privacy budgets, and what is left of them",
)
SET_BUDGET = Endpoint(
    "POST", "/v1/budgets", SetBudget, Done, who="signed", right=Right.MANAGE_BUDGETS, about="Set a privacy budget"
)
DROP_BUDGET = Endpoint(
    "DELETE",
    "/v1/budgets",
    DropBudget,
    Done,
    who="signed",
    right=Right.MANAGE_BUDGETS,
    about="Drop a privacy budget",
    problems=(NotFound,),
)
