"""Problems: declared once, and the same on both sides."""

from __future__ import annotations

import re

import pytest

from grid.wire.problems import PROBLEMS, BadRequest, GridError, NotFound, from_problem, to_problem


@pytest.mark.parametrize("kind", PROBLEMS.values())
def test_a_problem_makes_the_journey(kind: type[GridError]) -> None:
    error = from_problem(to_problem(kind("because", retry_after=1.5)), kind.status)

    assert (type(error), error.detail, error.retry_after) == (kind, "because", 1.5)


@pytest.mark.parametrize("kind", PROBLEMS.values())
def test_a_problem_is_declared_well(kind: type[GridError]) -> None:
    assert 400 <= kind.status < 600
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", kind.slug)
    assert kind.title
    assert not kind.title.endswith(".")


def test_a_problem_without_a_detail_says_its_title() -> None:
    assert str(NotFound()) == NotFound.title


def test_an_unknown_slug_is_still_an_error() -> None:
    error = from_problem({"type": "urn:grid:problem:from-the-future", "detail": "new"}, 418)

    assert (type(error), error.detail) == (GridError, "new")


def test_a_slug_belongs_to_one_problem() -> None:
    with pytest.raises(TypeError, match="bad-request"):
        type("Other", (GridError,), {"slug": BadRequest.slug})
