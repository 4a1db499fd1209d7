"""An officer at the command line, and the log that is exported and checked."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from grid.cli import request as command
from grid.crypto.identity import Identity
from grid.protocol.documents import sign_document
from grid.wire import requests as wire

NODE = Identity.from_seed(b"n" * 32)
ASKED = wire.Ask("training", "scans", "a study", training=wire.Training("ab" * 32, 5))
EVIDENCE = wire.Evidence(
    (("plan", "ab" * 32),),
    {"account": "sue"},
    (wire.Cost("all who ask", 3.0, 1.5, 0.5, 2.0), wire.Cost("sue", 1.0, None, None, 1.0)),
    {"rounds": 0.75},
    {"pending": 1},
    {"rounds": 5.0},
)
INFO = wire.RequestInfo(7, "sue", ASKED, "accepted", 0.0, 1.0, 100.0, "cora", "fine", evidence=EVIDENCE)


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the node is told."""
    heard: list[Any] = []
    entry = sign_document(NODE, wire.AUDIT_ENTRY, wire.AuditEntry(1, 5.0, "request-pending", {"request": 7}, ""))

    class Office:
        """As much of a running node as a command needs."""

        async def ask(self, endpoint: Any, message: Any = None, *, query: Any = None, **path: Any) -> Any:
            heard.append((endpoint, message))
            if endpoint is wire.AUDIT_LOG:
                return wire.AuditPage(() if query.after else (entry,))
            return wire.RequestList((INFO,)) if endpoint is wire.REQUESTS else INFO

    @asynccontextmanager
    async def office(data: Path) -> AsyncIterator[Office]:
        yield Office()

    monkeypatch.setattr(command, "open_office", office)
    return heard


def run(*words: str, status: int = 0) -> str:
    group = command.request if words[0] != "audit" else command.audit_log
    result: Result = CliRunner().invoke(group, words[words[0] == "audit" :])
    assert result.exit_code == status, result.output
    return result.output


def test_a_request_is_listed_shown_and_decided(said: list[Any]) -> None:
    assert "sue      training  scans: 5 rounds of abababababab" in run("list", "--data", ".")
    shown = run("show", "7", "--data", ".").splitlines()
    assert "    budget of all who ask: 3, 2 left; this would cost epsilon 1.5, 50% of it" in shown
    assert "    budget of sue: 1, 1 left; this would cost no end" in shown
    assert "    rounds: 5 (more than 75% of those accepted before)" in shown
    assert run("accept", "7", "--days", "1", "--data", ".").startswith("request 7 is accepted until")
    assert run("deny", "7", "--why", "no", "--data", ".") == "request 7 is accepted\n"
    assert [message for _, message in said[2:]] == [wire.Decision(True, "", 86_400.0), wire.Decision(False, "no")]


def test_a_log_is_exported_and_what_is_changed_in_it_is_found(said: list[Any], tmp_path: Path) -> None:
    good, bad = tmp_path / "good.jsonl", tmp_path / "bad.jsonl"
    good.write_text(run("audit", "export", "--data", "."))

    assert run("audit", "verify", str(good), "--key", NODE.id).startswith("1 entries, the last of 1970-01-01")
    line = json.loads(good.read_text())
    bad.write_text(json.dumps(line | {"payload": line["payload"][:-4] + "AAA="}) + "\n")
    assert "entry 1: " in run("audit", "verify", str(bad), status=1)
    bad.write_text("{}\n")
    assert "line 1 is no entry of such a log" in run("audit", "verify", str(bad), status=1)
