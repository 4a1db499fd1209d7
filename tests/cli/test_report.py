from __future__ import annotations

import re
from html.parser import HTMLParser

from grid.cli import charts
from grid.cli.report import Alone, Outcome, page
from grid.client.run import RoundLine

VOID = {"meta"}  # has no end


def line(number: int, accuracy: float | None = None, **failed: str) -> RoundLine:
    metrics = {} if accuracy is None else {"accuracy": accuracy, "loss": 1 - accuracy}
    return RoundLine(number, 2, 800, 0.25, 150_000, failed, metrics)


OUTCOME = Outcome(
    nodes=[Alone("alice", [5, 0, 9, 1, 1, 1, 1, 1, 1, 1], 0.8), Alone("<bob>", [1] * 10, 0.75)],
    federated=0.96,
    pooled=0.975,
    test=400,
    rounds=[line(1, 0.6), line(2, 0.9, carol="it stopped listening"), line(3)],
    skew=0.5,
    seed=7,
    first_round_s=4.25,
    seconds=9.5,
    plan=[("parameters", "9,610")],
    environment=[("Python", "3.11")],
    isolation=[("alice", "Landlock ABI 6, seccomp; policy: require")],
)


class Reader(HTMLParser):
    """Takes a page apart, and holds that every element is ended in its order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.words = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, self.getpos()

    def handle_data(self, data: str) -> None:
        self.words += data


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    reader.close()
    assert reader.open == []
    return reader


def test_a_report_stands_alone() -> None:
    text = page(OUTCOME, now=0.0)

    reader = read(text)

    assert not re.search(r"https?://|url\(|@import", text)
    assert not {"script", "link", "img", "iframe", "object"} & set(reader.tags)
    assert not {"src", "href"} & {name for name, _ in reader.attributes}


def test_a_report_tells_what_came_of_it() -> None:
    words = read(page(OUTCOME, now=0.0)).words

    for told in ("96.0%", "80.0%", "97.5%", "450.0 kB", "4.2 s", "16 of 400 wrong", "1970-01-01", "9,610", "carol"):
        assert told in words, told


def test_names_cannot_become_markup() -> None:
    assert "<bob>" not in page(OUTCOME, now=0.0)
    assert "<bob>" in read(page(OUTCOME, now=0.0)).words


def test_charts_can_be_heard() -> None:
    labels = [value for name, value in read(page(OUTCOME, now=0.0)).attributes if name == "aria-label"]

    assert labels == [
        "Accuracy on the common test set",
        "Accuracy after each round: from 0.600 to 0.900",
        "Loss after each round: from 0.400 to 0.100",
    ]


def test_what_was_not_measured_has_no_curve() -> None:
    bare = Outcome(**{**vars(OUTCOME), "rounds": [line(1)]})

    assert page(bare, now=0.0).count("<svg") == 1


def test_a_program_gets_the_figures() -> None:
    plain = OUTCOME.plainly()

    assert plain["nodes"] == [0.8, 0.75]
    assert (plain["federated"], plain["pooled"], plain["rounds"], plain["bytes"]) == (0.96, 0.975, 3, 450_000)
    assert (plain["first_round_s"], plain["seconds"]) == (4.25, 9.5)


def test_a_curve_stays_in_its_frame() -> None:
    drawn = charts.curve("loss", [5.0, -1.0, 0.5], low=0.0, high=1.0)

    heights = [float(y) for y in re.findall(r'cy="([\d.]+)"', drawn)]
    assert min(heights) == charts.TOP
    assert max(heights) == charts.HEIGHT - charts.BOTTOM


def test_one_round_is_a_curve_too() -> None:
    assert charts.curve("accuracy", [0.5], low=0.0, high=1.0).count("<circle") == 1


def test_axes_end_on_round_numbers() -> None:
    assert [charts.upper([value]) for value in (0.03, 0.5, 0.51, 7.0, 0.0)] == [0.05, 0.5, 1.0, 10.0, 1.0]
    assert [charts.lower([value]) for value in (0.97, 0.31)] == [0.9, 0.3]
