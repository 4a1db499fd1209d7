"""The description that a daemon gives of itself."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from grid.wire.message import encode
from grid.wire.openapi import document
from tests.wire.declared import ROLES, endpoints_of


def described(role: str) -> dict[str, Any]:
    description: dict[str, Any] = json.loads(encode(document(endpoints_of(role), role)))
    return description


@pytest.mark.parametrize("role", ROLES)
def test_the_description_is_valid(role: str) -> None:
    OpenAPIV31SpecValidator(described(role)).validate()


@pytest.mark.parametrize("role", ROLES)
def test_every_endpoint_is_described(role: str) -> None:
    paths = described(role)["paths"]

    for endpoint in endpoints_of(role):
        operation = paths[endpoint.path][endpoint.method.lower()]
        assert operation["summary"] == endpoint.about
        for problem in endpoint.problems:
            assert problem.slug in operation["responses"][str(problem.status)]["description"]


def test_what_is_streamed_is_described_as_bytes() -> None:
    paths = described("node")["paths"]

    upload = paths["/v1/runs/{run}/rounds/{round}/update"]["post"]
    assert list(upload["requestBody"]["content"]) == ["application/octet-stream"]
    assert [each["name"] for each in upload["parameters"]] == ["run", "round", "content", "begin"]


def test_who_must_prove_themselves_is_described() -> None:
    paths = described("node")["paths"]

    assert {"session": []} in paths["/v1/runs"]["get"]["security"]
    assert "401" in paths["/v1/runs"]["get"]["responses"]
    assert "security" not in paths["/identity"]["get"]


def test_query_parameters_are_described() -> None:
    events = described("node")["paths"]["/v1/runs/{run}/events"]["get"]

    after = next(each for each in events["parameters"] if each["name"] == "after")
    assert (after["in"], after["required"], after["schema"]["type"]) == ("query", False, "integer")
