"""Search: from the index, and from the nodes themselves where the index cannot know or the caller wants it live.

A member that signed nothing, as the RFC's own nodes, advertises no tags: it is asked as the RFC describes,
`POST /search {"query": [...]}`, answered by `{"content": true}`. All are asked at once under one deadline; who
is dead, slow or talks nonsense is named as silent and holds nobody up. Members behind a mailbox are never asked: for
them the index speaks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import islice
from types import EllipsisType

import msgspec

from grid.gateway.ask import Ask, url_of
from grid.gateway.roll import Listed, Roll
from grid.wire.directory import Found, Search
from grid.wire.message import encode
from grid.wire.relay import mailbox_at

DEADLINE = 2.0
MOST = 256
"""Questions for one search: it must not become a way to make a gateway shout at the whole grid."""
AT_ONCE = 128
"""Questions under way, for all searches together."""
KEEP, KEEP_SILENCE = 3.0, 15.0
"""Seconds for which an answer, and the lack of one, is remembered."""
REMEMBERED = 10_000
SLACK = 0.1
"""Seconds: a question's own deadline comes first, so that silence is remembered."""

Question = tuple[str, tuple[str, ...]]  # the node's address, and the tags it is asked for


class Holds(msgspec.Struct):
    """The RFC's answer of a node. What else it says is passed over."""

    content: bool


class Searches:
    """Answers searches over the members on a roll."""

    def __init__(
        self, roll: Roll, ask: Ask, now: Callable[[], float], *, deadline: float = DEADLINE, most: int = MOST
    ) -> None:
        self._roll, self._ask, self._now, self._deadline, self._most = roll, ask, now, deadline, most
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._known: dict[Question, tuple[float, bool | None]] = {}

    async def search(self, message: Search) -> Found:
        """The members that have the tags; never later than the deadline."""
        tags = tuple(sorted(set(message.query)))
        named = self._roll.tags.having_any(tags) if message.match == "any" else self._roll.tags.having_all(tags)
        if not tags or not (message.live or self._roll.mute):
            return self._found(named, set())
        # A node takes its tags together; for any of them it is asked for each.
        questions: list[tuple[str, ...]] = [(tag,) for tag in tags] if message.match == "any" else [tags]
        asked = self._whom(named, message.live)[: max(1, self._most // len(questions))]
        answers = await self._answers(asked, questions)
        unasked = (self._roll.mute | named if message.live else self._roll.mute) - answers.keys()
        silent = unasked | {node_id for node_id, said in answers.items() if said is None}
        hidden = {node_id for node_id in silent if self._is_hidden(node_id)}
        silent -= hidden
        holding = {node_id for node_id, said in answers.items() if said} | hidden & named
        return self._found(holding if message.live else holding | named, silent)

    def _found(self, named: set[str], silent: set[str]) -> Found:
        members = [listed for node_id in named if (listed := self._roll.get(node_id))]  # some left meanwhile
        if len(members) > 1:
            members.sort(key=_rank)
        unverified = [listed.claim.node_id for listed in members if not listed.member.verified]
        return Found(tuple([listed.found_at for listed in members]), tuple(unverified), tuple(sorted(silent)))

    def _whom(self, named: set[str], live: bool) -> list[Listed]:
        """Whom to ask, the likeliest first: those the index names, those it knows nothing of, then all others."""
        likely = [*(sorted(named) if live else ()), *sorted(self._roll.mute)]
        members = [listed for node_id in likely if (listed := self._roll.get(node_id)) and not _hidden(listed)]
        if not live or len(members) >= self._most:
            return members
        known = set(likely)
        others = (
            listed
            for listed in self._roll
            if listed.found and listed.claim.node_id not in known and not _hidden(listed)
        )
        return [*members, *islice(others, self._most - len(members))]

    def _is_hidden(self, node_id: str) -> bool:
        listed = self._roll.get(node_id)
        return listed is not None and _hidden(listed)

    async def _answers(self, asked: list[Listed], questions: list[tuple[str, ...]]) -> dict[str, bool | None]:
        """What each says within the deadline: it has such data, it has not, or (None) nothing."""
        wanted = {(listed.claim.node_address, tags) for listed in asked for tags in questions}
        heard = {question: said for question in wanted if (said := self._recall(question)) is not ...}
        heard |= await self._ask_all(wanted - heard.keys())
        return {
            listed.claim.node_id: _either([heard[listed.claim.node_address, tags] for tags in questions])
            for listed in asked
        }

    async def _ask_all(self, questions: set[Question]) -> dict[Question, bool | None]:
        tasks = {question: asyncio.create_task(self._ask_one(question)) for question in questions}
        if tasks:
            try:
                await asyncio.wait(tasks.values(), timeout=self._deadline + SLACK)
            finally:
                for task in tasks.values():
                    task.cancel()
                await asyncio.gather(*tasks.values(), return_exceptions=True)
        return {question: None if task.cancelled() else task.result() for question, task in tasks.items()}

    async def _ask_one(self, question: Question) -> bool | None:
        address, tags = question
        async with self._slots:
            body = encode({"query": tags})
            answer = await self._ask("POST", url_of(address, "/search"), body, deadline=self._deadline)
        said = _read(answer.body) if answer and answer.status == 200 else None
        if len(self._known) >= REMEMBERED:
            self._known.clear()
        self._known[question] = self._now() + (KEEP_SILENCE if said is None else KEEP), said
        return said

    def _recall(self, question: Question) -> bool | EllipsisType | None:
        """What was answered a moment ago; `...` if nothing is remembered."""
        until, said = self._known.get(question, (0.0, None))
        return said if self._now() < until else ...


def _hidden(listed: Listed) -> bool:
    """Whether nobody can connect to it: it reads a mailbox."""
    return mailbox_at(listed.claim.node_address) is not None


def _rank(listed: Listed) -> tuple[bool, str]:
    return listed.rank


def _either(said: list[bool | None]) -> bool | None:
    """One yes is a yes; a no is one only if nothing is open."""
    return True if True in said else None if None in said else False


def _read(body: bytes) -> bool | None:
    try:
        return msgspec.json.decode(body, type=Holds).content
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
