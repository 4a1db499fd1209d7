"""Endpoints: declared once."""

from __future__ import annotations

from typing import Any

import pytest

from grid.wire.directory import MEMBER
from grid.wire.endpoint import Endpoint
from grid.wire.problems import GridError
from grid.wire.runs import UPDATE
from tests.wire.declared import ENDPOINTS, ROLES, endpoints_of


@pytest.mark.parametrize("role", ROLES)
def test_a_daemon_answers_each_call_once(role: str) -> None:
    calls = [(each.method, each.path) for each in endpoints_of(role)]

    assert len(calls) == len(set(calls))


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda each: f"{each.method} {each.path}")
def test_an_endpoint_is_declared_well(endpoint: Endpoint[Any, Any]) -> None:
    assert endpoint.method in {"GET", "POST", "PUT", "DELETE"}
    assert endpoint.path.startswith("/")
    assert endpoint.about
    assert endpoint.who in {"anyone", "signed", "owner"}
    assert 0 < endpoint.deadline <= 120
    assert all(issubclass(each, GridError) for each in endpoint.problems)
    assert endpoint.method != "GET" or endpoint.takes is type(None)


def test_a_parameter_cannot_leave_its_place() -> None:
    assert MEMBER.target(node_id="../../x?y#z") == "/v1/members/..%2F..%2Fx%3Fy%23z"


def test_parameters_are_named_in_order() -> None:
    assert UPDATE.parameters == ("run", "round")
    assert UPDATE.streams_in
    assert not UPDATE.streams_out
