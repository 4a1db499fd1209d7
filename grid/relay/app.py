"""The routes of the relay: each handler parses, calls, responds."""

from __future__ import annotations

from aiohttp import web

from grid.client.egress import probe
from grid.relay.mailboxes import Mailboxes
from grid.transport import body
from grid.transport.app import CALLER, Routes
from grid.transport.feed import listen
from grid.transport.parts import send_parts
from grid.wire import relay as wire
from grid.wire.directory import Done
from grid.wire.names import Digest


def relay_routes(mailboxes: Mailboxes) -> Routes:
    """Every endpoint of the relay with its handler."""

    async def open_mailbox(request: web.Request) -> web.StreamResponse:
        published = await body.read(request, wire.OPEN_MAILBOX)
        await mailboxes.open(_mailbox(request), published.prekey, request[CALLER])
        return body.reply(wire.OPEN_MAILBOX, Done("this mailbox is open"), request=request)

    async def mailbox(request: web.Request) -> web.StreamResponse:
        return body.reply(wire.MAILBOX, await mailboxes.box(_mailbox(request)), request=request)

    async def letters(request: web.Request) -> web.StreamResponse:
        name, caller = _mailbox(request), request[CALLER]
        if request.transport is not None:  # whoever is gone without a word is not taken for a listener for an hour
            probe(request.transport.get_extra_info("socket"))
        return await listen(request, wire.LETTERS, lambda after: mailboxes.letters(name, caller, after))

    async def post(request: web.Request) -> web.StreamResponse:
        piece, blocks = body.query(request, wire.POST_LETTER), body.blocks(request, wire.POST_LETTER)
        posted = await mailboxes.post(
            _mailbox(request), _letter(request), request[CALLER], blocks, piece, request.content_length
        )
        return body.reply(wire.POST_LETTER, posted, request=request)

    async def held(request: web.Request) -> web.StreamResponse:
        piece = body.query(request, wire.LETTER_HELD)
        arrived = mailboxes.held(_mailbox(request), _letter(request), request[CALLER], piece)
        return body.reply(wire.LETTER_HELD, arrived, request=request)

    async def letter(request: web.Request) -> web.StreamResponse:
        return await send_parts(request, await mailboxes.letter(_mailbox(request), _letter(request), request[CALLER]))

    async def take(request: web.Request) -> web.StreamResponse:
        taken = await body.read(request, wire.TAKE_LETTERS)
        count = await mailboxes.take(_mailbox(request), taken.letters, request[CALLER])
        return body.reply(wire.TAKE_LETTERS, Done(f"{count} letters were taken"), request=request)

    return {
        wire.OPEN_MAILBOX: open_mailbox,
        wire.MAILBOX: mailbox,
        wire.LETTERS: letters,
        wire.POST_LETTER: post,
        wire.LETTER_HELD: held,
        wire.LETTER: letter,
        wire.TAKE_LETTERS: take,
    }


def _mailbox(request: web.Request) -> str:
    return body.part(request, "mailbox", wire.Mailbox)


def _letter(request: web.Request) -> str:
    return body.part(request, "letter", Digest)
