"""The relay: mailboxes for sealed letters, at a gateway or at a node, so that another needs no inbound port.

A letter is an envelope (`crypto.envelope`) for one recipient; its id is the SHA-256 of its bytes. The relay proves
who posts it and that its signature holds, keeps it until it is taken or its time is over, and cannot open it.
"""

from __future__ import annotations

import re
from typing import Annotated

from msgspec import Meta

from grid.wire.directory import Done, Prekey
from grid.wire.endpoint import Endpoint, Stream
from grid.wire.message import Message
from grid.wire.names import Digest, Seconds
from grid.wire.node import Published
from grid.wire.problems import (
    EnvelopeRefused,
    LetterRepeated,
    MailboxFull,
    MailboxUnknown,
    NotAllowed,
    NotFound,
    PartMismatch,
    QuotaSpent,
    RangeUnsatisfiable,
)
from grid.wire.ranges import Held, Piece
from grid.wire.runs import BUNDLE_LIMIT, After, Event, Events

Mailbox = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9_-]{43}(\.[a-z0-9]{1,32})?\Z",
        description="A public key, and a label where its holder reads in several places",
    ),
]

LETTER_LIMIT = BUNDLE_LIMIT + 64 * 1024**2
"""Bytes: a letter holds a call, with a body of up to `BUNDLE_LIMIT`, and what sealing adds to it."""

INLINE = 32 * 1024
"""Bytes: a letter up to this size comes with the entry that tells of it."""

LETTER_ENTRY = "letter"
"""The kind of the entry that tells of a letter: `letter` (its id), `size`, and where it is small its bytes, `body`."""

_ADDRESS = re.compile(r"(https?://[^\s?#]+?)/v1/mailboxes/([A-Za-z0-9_-]{43}(?:\.[a-z0-9]{1,32})?)/?")


class Box(Message, frozen=True):
    """A mailbox: the prekey that letters are sealed to, and for how many seconds nobody has listened there."""

    prekey: Prekey
    silent: Seconds = 0.0


class Posted(Message, frozen=True):
    """The letter is on disk: it is kept until it is taken, or until `expires`."""

    expires: Seconds


LONGEST_WAIT = 3600.0
"""Seconds for which a mailbox may be held open by one question: two thousand that are idle then cost nothing."""


class Reading(After, frozen=True):
    """Read letters after a cursor. Few come, so that a wait may be far longer than for a run's events."""

    wait: Annotated[float, Meta(ge=0, le=LONGEST_WAIT)] = 0.0


class Taken(Message, frozen=True):
    """These letters were dealt with; the gateway need keep them no longer."""

    letters: Annotated[tuple[Digest, ...], Meta(max_length=1000)]


def mailbox_address(gateway: str, mailbox: str) -> str:
    """The address of whoever reads a mailbox at a gateway."""
    return f"{gateway.rstrip('/')}/v1/mailboxes/{mailbox}"


def mailbox_at(address: str) -> tuple[str, str] | None:
    """The gateway and the mailbox that an address names, if it is that of a mailbox."""
    found = _ADDRESS.fullmatch(address)
    return (found[1], found[2]) if found else None


def key_of(mailbox: str) -> str:
    """Whose mailbox it is: a public key as messages write it."""
    return mailbox.partition(".")[0]


OPEN_MAILBOX = Endpoint(
    "PUT",
    "/v1/mailboxes/{mailbox}",
    Published,
    Done,
    who="signed",
    about="Open a mailbox of the caller's own, with the prekey that letters are to be sealed to",
    problems=(NotAllowed, MailboxFull),
)
MAILBOX: Endpoint[None, Box] = Endpoint(
    "GET",
    "/v1/mailboxes/{mailbox}",
    gives=Box,
    about="The prekey that letters for this mailbox are sealed to, signed by its holder; and whether that one listens",
    problems=(MailboxUnknown,),
)
LETTERS: Endpoint[None, Events] = Endpoint(
    "GET",
    "/v1/mailboxes/{mailbox}/letters",
    gives=Events,
    query=Reading,
    who="signed",
    about="The letters of the caller's own mailbox: by long-poll, as server-sent events, or through a websocket",
    entry=Event,
    deadline=75.0,
    problems=(NotAllowed,),
)
POST_LETTER = Endpoint(
    "PUT",
    "/v1/mailboxes/{mailbox}/letters/{letter}",
    Stream,
    Posted,
    who="signed",
    query=Piece,
    about="Post a sealed letter; `letter` is its SHA-256",
    limit=LETTER_LIMIT,
    deadline=60.0,
    problems=(MailboxUnknown, LetterRepeated, EnvelopeRefused, MailboxFull, QuotaSpent, PartMismatch),
)
LETTER_HELD: Endpoint[None, Held] = Endpoint(
    "GET",
    "/v1/mailboxes/{mailbox}/letters/{letter}/held",
    gives=Held,
    query=Piece,
    who="signed",
    about="How much of a letter arrived before its connection broke",
)
LETTER: Endpoint[None, Stream] = Endpoint(
    "GET",
    "/v1/mailboxes/{mailbox}/letters/{letter}",
    gives=Stream,
    who="signed",
    about="A letter of the caller's own mailbox",
    parts=True,
    problems=(NotAllowed, NotFound, RangeUnsatisfiable),
)
TAKE_LETTERS = Endpoint(
    "POST",
    "/v1/mailboxes/{mailbox}/taken",
    Taken,
    Done,
    who="signed",
    about="Take letters out of the caller's own mailbox",
    limit=128 * 1024,
    problems=(NotAllowed,),
)
