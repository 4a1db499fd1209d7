"""Requests for access: asked, decided, used, lapsed. Every change is logged, chained and signed, in its transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from grid.accounts.book import Book
from grid.crypto.identity import Identity
from grid.node.access import Access
from grid.node.evidence import Witness
from grid.node.ledger import Ledger
from grid.node.permissions import Permissions
from grid.node.records import as_events
from grid.protocol.documents import sign_document
from grid.protocol.request import (
    PENDING,
    REQUEST,
    Accepted,
    Denied,
    Grant,
    OverBudget,
    Request,
    TakeBack,
    TimeOver,
    Used,
    Withdrawn,
    likeness,
)
from grid.store import models
from grid.store import requests as rows
from grid.store.database import Database
from grid.store.events import EventLog
from grid.store.schema import Snapshot, Transaction
from grid.transport.auth import Caller
from grid.wire import requests as wire
from grid.wire.budgets import SetBudget
from grid.wire.documents import Signed
from grid.wire.permissions import Permit
from grid.wire.problems import BudgetSpent, NotAllowed, NotFound, RequestRefused, TooManyRequests
from grid.wire.rights import Right
from grid.wire.runs import After, Events

WAITS = 90 * 86_400.0
"""Seconds after which a request lapses on which nobody decided."""
TENDED = 60.0
"""Seconds after which it is looked again what has lapsed."""
OPEN = 100
"""Requests of one account that may be undecided at once."""
NOTHING: dict[str, str] = {}
_NEEDS = {
    "download": "tensor",
    "permission": "action",
    "budget": "epsilon",
    "training": "training",
    "inference": "model",
}


class Requests:
    """The requests of a node, whose own key signs what is logged of them."""

    def __init__(
        self,
        database: Database,
        log: EventLog,
        identity: Identity,
        now: Callable[[], float],
        *,
        access: Access,
        book: Book,
        permissions: Permissions,
        ledger: Ledger,
        witness: Witness,
    ) -> None:
        self._database, self._log, self._identity, self._now = database, log, identity, now
        self._access, self._book, self._permissions, self._ledger = access, book, permissions, ledger
        self._witness = witness
        self._turn = asyncio.Lock()
        self.released: Callable[[str], Awaitable[None]] | None = None
        """Called with the run of a request for release that was accepted: its result may be handed out."""

    # --- who asks -----------------------------------------------------------------------------------

    async def ask(self, asked: wire.Ask, caller: Caller) -> wire.RequestInfo:
        """Ask for access; the same that is pending already is found as it is.

        Raises:
            DatasetNotFound, RequestRefused: what is asked for is not there, or not said.
            NotAllowed: who asks has no account here.
            TooManyRequests: too many are undecided.
        """
        if caller.account is None:
            raise NotAllowed("requests are made by accounts: ask this node's owner for one")
        asker = self._access.asker(caller)
        info = self._permissions.info(asker, asked.dataset)
        if asked.kind == "release" or getattr(asked, _NEEDS[asked.kind]) is None:
            raise RequestRefused(f"a request of this kind names its {_NEEDS.get(asked.kind, 'run, by itself')}")
        if asked.tensor is not None and asked.tensor not in {each.name for each in info.tensors}:
            raise RequestRefused(f"dataset {asked.dataset} has no tensor {asked.tensor}")
        mine = await self._database.read(partial(rows.find, account=caller.account, state=PENDING.value))
        if same := [each for each in mine if each.asked == asked]:
            return await self._told(same[0], officer=False)
        if len(mine) >= OPEN:
            raise TooManyRequests(f"{OPEN} of your requests are undecided")
        async with self._turn:  # its plan must not be forgotten before the request is there
            if asked.training is not None:
                await self._witness.keep(asked.training)
            return await self._new(asked, caller.account, caller.id or "")

    async def _new(self, asked: wire.Ask, account: str, signer: str, run: str = "") -> wire.RequestInfo:
        now = self._now()
        request = Request(0, account, asked, now, now + WAITS, run=run)
        evidence = await self._witness.of(request, signer)
        over = await self._over(request)

        def write(connection: Transaction) -> Request:
            made = rows.add(connection, request, evidence)
            self._entry(connection, made)
            return made if over is None else self._moved(connection, made, OverBudget(over, now))[0]

        return await self._told(await self._database.write(write), officer=False)

    async def _over(self, request: Request) -> str | None:
        """Why a training is denied without anybody deciding: it costs more than is left, or hides nothing."""
        if request.asked.training is None:
            return None
        try:
            await self._witness.fits(request)
        except BudgetSpent as spent:
            return spent.detail
        return None

    async def withdraw(self, number: int, caller: Caller) -> wire.RequestInfo:
        """Take one's own request back. Raises NotFound, OutOfTurn."""
        request = await self._seen(number, caller)
        if request.account != caller.account:
            raise NotAllowed("only who asked can withdraw a request")
        return await self._told(await self._move(number, Withdrawn(self._now())), officer=False)

    # --- officers -----------------------------------------------------------------------------------

    async def decide(self, number: int, decision: wire.Decision, caller: Caller) -> wire.RequestInfo:
        """An officer's word. Raises NotFound, OutOfTurn; NotAllowed for one's own request."""
        request = await self._seen(number, caller)
        if not caller.has(Right.TRIAGE_REQUESTS):
            raise NotAllowed("your role does not let you triage requests")
        if request.account == caller.account and not caller.owner:
            raise NotAllowed("nobody decides on their own request")
        now, by = self._now(), caller.name or "owner"
        event: object = Denied(by, decision.why, now)
        if decision.accept:
            event = Accepted(by, decision.why, now, now + decision.lasts)
        return await self._told(await self._move(number, event), officer=True)

    async def all(self, caller: Caller, state: str | None = None) -> tuple[wire.RequestInfo, ...]:
        """Requests, newest first: one's own, and all for officers."""
        officer = caller.has(Right.TRIAGE_REQUESTS)
        if not officer and caller.account is None:
            return ()
        account = None if officer else caller.account
        found = await self._database.read(partial(rows.find, account=account, state=state))
        return tuple([await self._told(each, officer=False) for each in found])

    async def get(self, number: int, caller: Caller) -> wire.RequestInfo:
        """One request; officers see its evidence. Raises NotFound."""
        return await self._told(await self._seen(number, caller), officer=caller.has(Right.TRIAGE_REQUESTS))

    async def events(self, caller: Caller, after: After) -> Events:
        """What becomes of requests after a cursor: of one's own, of all for officers."""
        topic = rows.TOPIC if caller.has(Right.TRIAGE_REQUESTS) else f"{rows.TOPIC}/{caller.account or caller.id}"
        return as_events(await self._log.wait(topic, after.after, after.wait), after)

    async def audit(self, asked: wire.Behind) -> tuple[Signed, ...]:
        """The log of decisions."""
        found = await self._database.read(partial(rows.logged, after=asked.after, limit=asked.limit))
        return tuple(found)

    async def measured(self, number: int, figures: dict[str, float], provenance: dict[str, str] = NOTHING) -> None:
        """Something was measured about a request, or is known of where it comes from."""

        def write(connection: Transaction) -> None:
            _, evidence = rows.get(connection, number)
            rows.measured(connection, number, self._witness.with_figures(evidence, figures, provenance))

        await self._database.write(write)

    # --- what uses them -----------------------------------------------------------------------------

    async def admitted(self, account: str, dataset: str, training: wire.Training, run: str) -> bool:
        """Whether a run was admitted: by a request that was accepted, and that this run uses from now on."""
        like = likeness(training)
        find = partial(rows.find, account=account, dataset=dataset, kind="training", like=like)
        for request in await self._database.read(find):
            if request.state == "released" and request.run == run and request.expires > self._now():
                return True
            if request.state == "accepted" and request.expires > self._now():
                await self._move(request.id, Used(self._now(), run))
                return True
        return False

    async def downloaded(self, account: str | None, dataset: str, tensor: str) -> None:
        """A tensor was downloaded: the request that let it be was used."""
        if account is None:
            return
        find = partial(rows.find, account=account, dataset=dataset, kind="download", state="accepted")
        for request in await self._database.read(find):
            if request.asked.tensor == tensor:
                await self._move(request.id, Used(self._now()))

    async def ask_release(
        self,
        run: str,
        account: str,
        dataset: str,
        figures: dict[str, float],
        where: dict[str, str],
        *,
        at_once: bool,
    ) -> None:
        """A run is over here whose result waits for an officer, or is released `at_once`; said once."""
        if await self._database.read(partial(rows.find, kind="release", run=run)):
            return
        asked = wire.Ask("release", dataset, f"run {run} is over; its result waits to be handed to {account}")
        info = await self._new(asked, account, "", run)
        await self.measured(info.id, figures, where)
        if at_once:
            now = self._now()
            await self._move(info.id, Accepted("node", f"{dataset} has no gate after runs", now, now + WAITS))

    async def to_release(self) -> list[tuple[str, dict[str, str]]]:
        """The runs whose release was accepted and was not told to their coordinators yet, and where these are."""

        def read(connection: Snapshot) -> list[tuple[str, dict[str, str]]]:
            found = rows.find(connection, kind="release", state="accepted")
            return [(each.run, rows.get(connection, each.id)[1].provenance) for each in found]

        return await self._database.read(read)

    async def was_released(self, run: str) -> None:
        """The coordinator of a run knows that its result may be handed out."""
        for request in await self._database.read(partial(rows.find, kind="release", run=run, state="accepted")):
            await self._move(request.id, Used(self._now()))

    async def keep(self) -> None:
        """Let lapse what is to lapse, as long as this node runs."""
        while True:
            await self.tend()
            await asyncio.sleep(TENDED)

    async def tend(self) -> None:
        """Let lapse what nobody decided on or used in time."""
        for state in ("pending", "accepted", "released"):
            for request in await self._of(state):
                if request.expires <= self._now():
                    await self._move(request.id, TimeOver(self._now()))
        async with self._turn:
            live = [*await self._of("pending"), *await self._of("accepted")]
            await self._witness.forget_all_but({r.asked.training.plan for r in live if r.asked.training is not None})

    async def _of(self, state: str) -> list[Request]:
        return await self._database.read(partial(rows.find, state=state))

    # --- moving ---------------------------------------------------------------------------------------

    async def _move(self, number: int, event: object) -> Request:
        """Let something happen to a request, and carry out what follows: one at a time."""
        async with self._turn:
            after, effects = await self._database.write(
                lambda connection: self._moved(connection, rows.get(connection, number)[0], event)
            )
            for effect in effects:
                if isinstance(effect, Grant):
                    await self._grant(after)
                elif isinstance(effect, TakeBack):
                    await self._take_back(after)
        return after

    def _moved(
        self, connection: Transaction, request: Request, event: object
    ) -> tuple[Request, tuple[Grant | TakeBack, ...]]:
        after, effects = REQUEST.advance(request, event)
        if after != request:
            rows.put(connection, after)
            self._entry(connection, after)
        return after, effects

    def _entry(self, connection: Transaction, request: Request) -> None:
        data: dict[str, object] = {
            "request": request.id,
            "account": request.account,
            "asked": request.asked,
            "state": request.state.value,
            "by": request.by,
            "why": request.why,
            "run": request.run,
        }
        sign = partial(sign_document, self._identity, wire.AUDIT_ENTRY)
        at = request.changed or request.created
        rows.log(connection, sign, at, f"request-{request.state}", data)

    async def _grant(self, request: Request) -> None:
        asked = request.asked
        if (permit := _permit(request, True)) is not None:
            await self._permissions.permit(asked.dataset, permit)
        elif asked.kind == "budget" and asked.epsilon is not None:
            await self._ledger.raise_budget(SetBudget(asked.dataset, asked.epsilon, subject=request.account))
        elif asked.kind == "inference" and asked.model is not None:
            await self._database.write(partial(models.let_see, name=asked.model, account=request.account))
        elif asked.kind == "release" and self.released is not None:
            await self.released(request.run)

    async def _take_back(self, request: Request) -> None:
        asked = request.asked
        if (permit := _permit(request, None)) is not None:
            try:
                await self._permissions.permit(asked.dataset, permit)
            except NotFound:
                return  # the owner was first
        elif asked.kind == "inference" and asked.model is not None:
            await self._database.write(partial(models.let_see_no_more, name=asked.model, account=request.account))

    async def _seen(self, number: int, caller: Caller) -> Request:
        request, _ = await self._database.read(partial(rows.get, number=number))
        if not caller.has(Right.TRIAGE_REQUESTS) and (caller.account is None or request.account != caller.account):
            raise NotFound(f"there is no request {number}")
        return request

    async def _told(self, request: Request, *, officer: bool) -> wire.RequestInfo:
        evidence = await self._witness.now(request) if officer else None
        return wire.RequestInfo(
            id=request.id,
            account=request.account,
            asked=request.asked,
            state=request.state.value,
            created=request.created,
            changed=request.changed,
            expires=request.expires,
            by=request.by,
            why=request.why,
            run=request.run,
            evidence=evidence,
        )


def _permit(request: Request, allow: bool | None) -> Permit | None:
    """What a request lets its account do with data; None where it is about something else."""
    asked = request.asked
    if asked.kind == "download":
        return Permit("read", allow, user=request.account, tensor=asked.tensor)
    if asked.kind == "permission" and asked.action is not None:
        return Permit(asked.action, allow, user=request.account, tensor=asked.tensor)
    return None
