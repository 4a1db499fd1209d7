"""Points that end the process when they are told to, and are nothing otherwise."""

from __future__ import annotations

import pytest

from grid import faults


def test_a_point_strikes_once_and_at_its_own_name() -> None:
    struck: list[str] = []
    point = faults.trap("after-fold:2", lambda: struck.append("!"))

    said = []
    for name in ("after-fold", "before-fit", "after-fold", "after-fold"):
        point(name)
        said.append(len(struck))

    assert said == [0, 0, 1, 1]


def test_without_a_number_the_first_time_counts() -> None:
    struck: list[str] = []

    faults.trap("before-fit", lambda: struck.append("!"))("before-fit")

    assert struck == ["!"]


def test_a_point_that_is_nowhere_is_refused_at_the_start() -> None:
    with pytest.raises(ValueError, match="lunch"):
        faults.trap("lunch")


def test_without_a_setting_points_are_nothing() -> None:
    assert faults._set is faults.nothing


def test_a_fault_strikes_one_of_the_forked_only(monkeypatch: pytest.MonkeyPatch) -> None:
    struck: list[str] = []
    monkeypatch.setattr(faults, "_set", faults.trap("worker-fold", lambda: struck.append("!")))

    faults.disarm()
    faults.point("worker-fold")

    assert struck == []
