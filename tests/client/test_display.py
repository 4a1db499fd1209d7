"""What people see of strangers' words: all of them, and none obeyed."""

from __future__ import annotations

import io
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from grid.client.calls import Calls
from grid.client.datasets import AsyncDataset
from grid.client.display import DatasetTable, Nodes, Progress, Rounds, Runs, round_line
from grid.client.grid import Node
from grid.client.run import History, RoundLine
from grid.client.tables import html_table, size, sparkline, table
from grid.wire.node import DatasetInfo, TensorInfo
from grid.wire.runs import Event, RunInfo

ANN = Node("ann", "http://ann.example", ("#mri", "#2024"), True, "online", "k" * 43)
EVE = Node("eve", "http://eve.example", ("<script>alert(1)</script>", "\x1b[2Jgone"), False, "online")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def closed(number: int, **changes: Any) -> Event:
    usual = {"round": number, "accepted": 2, "examples": 40, "seconds": 0.25, "bytes": {"up": 1000, "down": 500}}
    return Event(number, "round-closed", 0.0, {**usual, "failed": {}, "rejected": {}, **changes})


def evaluated(number: int, **metrics: float) -> Event:
    return Event(number, "evaluated", 0.0, {"round": number, "metrics": metrics})


def shown(events: list[Event], out: io.StringIO, rounds: int = 3) -> str:
    progress, history = Progress(rounds, out), History()
    for event in events:
        history.hear(event)
        progress(event, history)
    return out.getvalue()


def test_nodes_are_a_table_in_a_terminal() -> None:
    first, second = repr(Nodes([ANN])).splitlines()

    assert first.split() == ["node", "address", "state", "tags", "verified"]
    assert second.split() == ["ann", "http://ann.example", "online", "#mri", "#2024", "yes"]
    assert first.index("state") == second.index("online")
    assert repr(Nodes()) == "no nodes found"


def test_tags_of_strangers_are_shown_and_not_obeyed() -> None:
    assert "<script>" not in Nodes([EVE])._repr_html_()
    assert "&lt;script&gt;" in Nodes([EVE])._repr_html_()
    assert "\x1b" not in repr(Nodes([EVE]))
    assert "\N{REPLACEMENT CHARACTER}[2Jgone" in repr(Nodes([EVE]))


def test_datasets_are_described_with_their_tensors() -> None:
    info = DatasetInfo("scans", "<b>bold</b>", ("#mri",), 12, (TensorInfo("features", "float32", (12, 3)),))
    datasets = DatasetTable({"ann": (AsyncDataset(Calls(None), "ann", "http://ann.example", None, info),)})  # type: ignore[arg-type]

    assert "features float32[12, 3]" in repr(datasets)
    assert "&lt;b&gt;bold&lt;/b&gt;" in datasets._repr_html_()
    assert repr(DatasetTable()) == "no datasets found"


@given(st.lists(st.lists(st.text(max_size=12), min_size=2, max_size=2), max_size=4))
def test_whatever_the_cells_hold_a_table_has_a_line_for_each_row(rows: list[list[str]]) -> None:
    assert len(table(["a", "b"], rows).split("\n")) == len(rows) + 1
    assert html_table(["a", "b"], rows).count("<td>") == 2 * len(rows)
    assert html_table(["a", "b"], rows).count("<") == 2 * (2 * len(rows) + len(rows) + 2 + 1 + 3)


def test_sizes_are_for_people() -> None:
    assert [size(n) for n in (0, 999, 1000, 1_234_567, 5e9, 7e15)] == [
        "0 B",
        "999 B",
        "1.0 kB",
        "1.2 MB",
        "5.0 GB",
        "7000.0 TB",
    ]


def test_a_round_is_one_line() -> None:
    line = RoundLine(2, 3, 120, 1.5, 2_000_000, {"bob": "gone", "ann": "late"}, {"loss": 0.25, "accuracy": 0.9})

    assert round_line(line, 10) == (
        "round  2/10  accuracy 0.9000  loss 0.2500  3 nodes  120 examples  2.0 MB  1.50 s  without ann, bob"
    )


def test_a_noised_round_says_what_it_cost_and_not_how_many_examples_nobody_told_of() -> None:
    line = RoundLine(2, 3, 0, 1.5, 2_000_000, epsilon=1.2345)

    assert "3 nodes  epsilon 1.23  2.0 MB" in round_line(line, 10)
    assert "  –  " in repr(Rounds([line]))


def test_each_round_is_shown_once_when_its_result_is_known() -> None:
    events = [
        closed(1),
        evaluated(0, loss=9.0),
        evaluated(1, loss=0.5),
        closed(2, failed={"bob": "it stopped listening"}),
        Event(9, "run-ended", 0.0, {"state": "success", "reason": ""}),
    ]

    lines = shown(events, io.StringIO()).splitlines()

    assert [line.split("  ")[0] for line in lines] == ["round 1/3", "round 2/3", "success"]
    assert "loss 0.5000" in lines[0]
    assert lines[1].endswith("without bob")


def test_a_node_that_drops_out_is_named_with_its_reason() -> None:
    said = Event(
        1, "participant", 0.0, {"node": "bob", "state": "failed", "reason": "no memory\x1b]0;owned\x07\nround 9/9"}
    )

    assert shown([said], io.StringIO()) == "bob: no memory\ufffd]0;owned\ufffd\ufffdround 9/9\n"


def test_a_bar_moves_on_a_terminal_and_nowhere_else() -> None:
    events = [closed(1), Event(2, "round-opened", 0.0, {"round": 2})]

    assert "████████░░░░░░░░░░░░░░░░ 1/3 round-opened" in shown(events, Terminal())
    assert shown(events, io.StringIO()) == ""


def test_a_history_is_a_table_with_the_best_round_marked_and_a_curve_for_each_metric() -> None:
    lines = [
        RoundLine(1, 2, 20, 0.5, 800, {}, {"loss": 1.0}, {"ann": {"loss": 0.5}, "bob": {"loss": 1.5}}),
        RoundLine(2, 1, 10, 0.5, 400, {"bob": "gone"}, {"loss": 0.5}, {"ann": {"loss": 0.5}}),
        RoundLine(3, 2, 20, 0.5, 800),
    ]
    told = repr(Rounds(lines, best=2)).splitlines()

    assert told[0].split() == [
        "round",
        "loss",
        "ann",
        "loss",
        "bob",
        "loss",
        "nodes",
        "examples",
        "moved",
        "seconds",
        "without",
    ]
    assert told[1].split()[:4] == ["1", "1.0000", "0.5000", "1.5000"]
    assert told[2].split()[:5] == ["2", "*", "0.5000", "0.5000", "–"]
    assert told[3].split()[:4] == ["3", "–", "–", "–"]
    assert told[4] == "loss  █▁  1.0000 to 0.5000"
    assert "<td>2 *</td>" in Rounds(lines, best=2)._repr_html_()
    assert repr(Rounds(())) == "no rounds"


def test_in_a_terminal_only_some_nodes_have_columns_and_a_page_has_all() -> None:
    line = RoundLine(1, 9, 90, 0.5, 800, {}, {"loss": 1.0}, {f"node{n}": {"loss": 1.0} for n in range(9)})
    rounds = Rounds([line])

    assert "node7 loss" in repr(rounds)
    assert "node8 loss" not in repr(rounds)
    assert "node8 loss" in rounds._repr_html_()


def test_runs_are_a_table() -> None:
    told = repr(Runs([RunInfo("0" * 32, "success", 3, 9, 0.0, "enough")]))

    assert told.splitlines()[1].split() == ["0" * 32, "success", "3/9", "1970-01-01", "00:00", "UTC", "enough"]
    assert repr(Runs()) == "no runs"


def test_a_curve_in_letters_goes_from_the_least_to_the_largest() -> None:
    assert sparkline([0.0, 7.0, 3.5]) == "▁█▅"
    assert sparkline([2.0, 2.0]) == "▁▁"
    assert sparkline([]) == ""
    long = sparkline([float(n) for n in range(1000)], width=10)
    assert (len(long), long[0], long[-1]) == (10, "▁", "█")
