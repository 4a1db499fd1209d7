"""A plan on its way to a coordinator: sealed to it, handed in under its digest."""

from __future__ import annotations

from grid.client.calls import Calls
from grid.client.handing_in import hand_in, spooled
from grid.client.payload import read_prekey, sealed
from grid.crypto.envelope import Header
from grid.crypto.identity import Identity
from grid.learning.plan import Plan
from grid.learning.study import Study
from grid.wire.node import PREKEY
from grid.wire.runs import BUNDLE_HELD, PUT_BUNDLE

BUNDLE_LIFE = 3600.0


async def hand_in_plan(
    calls: Calls, identity: Identity, address: str, peer: bytes, plan: Plan | Study, now: float
) -> None:
    """Give the coordinator that answers at `address` with the key `peer` a plan, sealed.

    Raises:
        NotAllowed, PlanRefused: it does not take it.
    """
    published = await calls.call(address, PREKEY, peer=peer)
    bundle = plan.bundle()
    header = Header(
        sender=identity.public,
        audience=peer,
        kind="bundle",
        created=int(now),
        expires=int(now + BUNDLE_LIFE),
        length=len(bundle),
    )
    blocks = sealed(identity, header, [bundle], read_prekey(published.prekey, peer, now))
    async with spooled(blocks) as file:
        await hand_in(calls, address, PUT_BUNDLE, BUNDLE_HELD, file, peer=peer, digest=plan.digest)
