from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from grid.crypto.identity import Identity
from grid.transport import body
from grid.transport.app import Routes, create_app
from grid.transport.auth import Authenticator
from grid.transport.form import FIELD, FIELDS, fields
from grid.transport.metrics import Metrics
from grid.transport.serve import running
from grid.wire.endpoint import Endpoint, Stream

UPLOAD: Endpoint[Any, dict[str, int]] = Endpoint("POST", "/form", Stream, dict[str, int], limit=1_000_000)


@pytest.fixture
async def url() -> AsyncIterator[str]:
    """A daemon that says how long each field of a form is."""

    async def handle(request: Any) -> Any:
        sizes = {}
        async for field in fields(request, UPLOAD):
            if field.is_file:
                sizes[field.name] = sum([len(block) async for block in field.blocks()])
            else:
                sizes[field.name] = len(await field.text())
        return body.reply(UPLOAD, sizes)

    routes: Routes = {UPLOAD: handle}
    auth = Authenticator(Identity.generate(), lambda: 0.0)
    async with running(create_app(routes, auth=auth, metrics=Metrics(), about="Forms")) as address:
        yield f"{address}/form"


async def post(url: str, form: Any, headers: dict[str, str] | None = None) -> tuple[int, Any]:
    async with aiohttp.ClientSession() as http, http.post(url, data=form, headers=headers) as response:
        return response.status, await response.json(content_type=None)


def a_form(**values: str | bytes) -> aiohttp.FormData:
    form = aiohttp.FormData()
    for name, value in values.items():
        form.add_field(name, value, filename=None if isinstance(value, str) else "a.bin")
    if not any(isinstance(value, bytes) for value in values.values()):
        form.add_field("none", b"", filename="none")  # a form without files is encoded otherwise
    return form


async def test_fields_and_files_come_one_after_the_other(url: str) -> None:
    status, sizes = await post(url, a_form(run="17", update=b"x" * 600_000, model=b""))

    assert (status, sizes) == (200, {"run": 2, "update": 600_000, "model": 0})


async def test_what_is_too_much_is_refused(url: str) -> None:
    for form in (
        a_form(update=b"x" * 600_000, model=b"x" * 600_000),
        a_form(run="x" * (FIELD + 1)),
    ):
        assert (await post(url, form))[0] == 413
    assert (await post(url, a_form(**{f"f{number}": "x" for number in range(FIELDS + 1)})))[0] == 400


@pytest.mark.parametrize("header", ["Origin", "Sec-Fetch-Site"])
async def test_a_page_in_a_browser_sends_no_forms(url: str, header: str) -> None:
    assert (await post(url, a_form(run="17"), {header: "http://evil.example"}))[0] == 415


async def test_what_is_no_form_is_refused(url: str) -> None:
    assert (await post(url, b"{}", {"Content-Type": "application/json"}))[0] == 415
    for broken in (b"", b"--x\r\n", b"no form"):
        status, _ = await post(url, broken, {"Content-Type": "multipart/form-data; boundary=x"})
        assert status in {200, 400}
    assert (await post(url, b"x", {"Content-Type": "multipart/form-data"}))[0] == 400
