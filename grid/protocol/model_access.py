"""Who sees a model, commits to tasks for it, opens such tasks: rules for accounts, for groups, for everybody."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from msgspec import Struct

from grid.wire.problems import CommitsSpent, NotAllowed

EVERYBODY = "*"
"""The subject of the rule for all accounts and keys that no other rule is about."""


class Rule(Struct, frozen=True):
    """What `subject` may do: an account or a key, a group (`@name`), or everybody (`*`).

    `commits` and `opens` imply `sees`. `most`: how often it may commit to one task for the model, each member of a
    group by itself; 0: no maximum.
    """

    subject: str
    sees: bool = True
    commits: bool = False
    opens: bool = False
    most: int = 1


NOTHING = Rule("", sees=False)
ALL = Rule("", commits=True, opens=True, most=0)


def rule_for(rules: Iterable[Rule], name: str | None, groups: Collection[str] = ()) -> Rule:
    """What holds for a caller: the rule about itself, else those about its groups together, else everybody's.

    A rule about oneself may be the narrower one: that is how one client is kept out. Of several groups, each thing
    that one of them allows is allowed, up to the greatest of their maxima.
    """
    there = {rule.subject: rule for rule in rules}
    if name is not None and (own := there.get(name)):
        return own
    if joint := [there[f"@{group}"] for group in groups if f"@{group}" in there]:
        bounded = all(rule.most for rule in joint if rule.commits)
        return Rule(
            "",
            sees=any(rule.sees for rule in joint),
            commits=any(rule.commits for rule in joint),
            opens=any(rule.opens for rule in joint),
            most=max((rule.most for rule in joint if rule.commits), default=0) if bounded else 0,
        )
    return there.get(EVERYBODY, NOTHING)


def admit_commit(rule: Rule, task: str, committed: int) -> None:
    """Whether somebody who committed to a task `committed` times may do so once more.

    Raises:
        NotAllowed: the owner of the task's model does not let them commit at all.
        CommitsSpent: not that often.
    """
    if not rule.commits:
        raise NotAllowed(f"the owner of the model does not let you commit to task {task}")
    if rule.most and committed >= rule.most:
        raise CommitsSpent(f"you have committed to task {task} {committed} times; {rule.most} are allowed")


def admit_open(rule: Rule, model: str) -> None:
    """Whether somebody may open tasks for a model. Raises NotAllowed."""
    if not rule.opens:
        raise NotAllowed(f"the owner of model {model} does not let you open tasks for it")
