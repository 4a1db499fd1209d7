"""What a training is asked for with, and the parameters of the task that comes of it."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import msgspec

from grid.learning.plan import Plan
from grid.learning.private import Privacy, made_private
from grid.learning.recipe import Dp
from grid.learning.strategy import Strategy, check_recipe, fitted, least_updates, noised, travelling
from grid.protocol.stopping import stopping
from grid.wire.problems import StrategyRefused
from grid.wire.runs import Quorum, Stopping


class Settings(NamedTuple):
    """As `Grid.train` explains them."""

    rounds: int = 1
    quorum: int | Literal["all"] | None = None
    target_updates: int = 0
    drawn: int = 0
    deadline: float = 600.0
    pace: float = 0.0
    holdout: float = 0.2
    inputs: tuple[str, ...] = ("features",)
    target: str = "target"
    seed: int = 0
    strategy: str | Strategy = "fedavg"
    upload: str | None = None
    broadcast: str | None = None
    secure: bool = False
    clip: float = 0.0
    noise: float = 0.0
    clip_quantile: float = 0.0
    dp: Privacy | Dp | None = None
    stop_on: str | Stopping | None = None
    held: bool = False


def parameters_of(plan: Plan, peers: int, s: Settings) -> tuple[Plan, dict[str, Any]]:
    """The plan as it is trained by so many peers, and the parameters of its task, named as in `Task`.

    Raises:
        StrategyRefused: no such strategy, or not with this plan.
        PlanRefused: the plan cannot be private.
    """
    plan = made_private(plan, s.dp, s.rounds) if s.dp else plan
    if plan.recipe.dp and s.stop_on:
        raise StrategyRefused("a private run is not measured, so no metric can end it")
    least = quorum_of(s.quorum, peers, 0, 0, 1).minimum
    chosen = fitted(s.strategy, least) if isinstance(s.strategy, str) else s.strategy
    secure = s.secure or bool(s.clip or s.noise or s.clip_quantile)
    if secure and s.upload not in {None, "masked"}:
        raise StrategyRefused(f"secure sums need updates under masks; they cannot travel as {s.upload}")
    upload = "masked" if secure else s.upload
    chosen = travelling(chosen, upload, s.broadcast) if upload or s.broadcast else chosen
    if s.clip or s.noise or s.clip_quantile:
        chosen = noised(chosen, s.clip, s.noise, least, s.clip_quantile)
    check_recipe(chosen, plan.recipe)
    parameters = {
        "rounds": s.rounds,
        "inputs": tuple(s.inputs),
        "target": s.target,
        "quorum": quorum_of(s.quorum, peers, s.target_updates, s.drawn, least_updates(chosen)),
        "deadline": s.deadline,
        "pace": s.pace,
        "holdout": 0.0 if plan.recipe.dp else s.holdout,
        "strategy": msgspec.to_builtins(chosen),
        "seed": s.seed,
        "stop": stopping(s.stop_on) if isinstance(s.stop_on, str) else s.stop_on,
        "held": s.held,
    }
    return plan, parameters


def quorum_of(quorum: int | Literal["all"] | None, peers: int, target: int, drawn: int, least: int) -> Quorum:
    """What a round needs: `all` of those it waits for, of `peers` nodes, or half of those that are drawn of them."""
    asked = min(drawn or peers, peers)
    if quorum == "all":
        return Quorum(target or asked, target, drawn)
    return Quorum(quorum or max(min((asked + 1) // 2, target or asked), least), target, drawn)
