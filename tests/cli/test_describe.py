from __future__ import annotations

from grid.cli.describe import describe, plain, some
from grid.wire.node import DatasetInfo


def test_a_description_from_elsewhere_commands_no_terminal() -> None:
    info = DatasetInfo(name="d", description="fine\x1b[2J\r\nerror: gone", tags=("#x\x07",), classes=("\x1b]0;", "b"))

    assert all(line.isprintable() for line in describe(info))


def test_text_keeps_its_letters() -> None:
    assert plain("Größe 患者\tx") == "Größe 患者 x"


def test_of_many_words_the_first_are_shown() -> None:
    assert some(("a", "b")) == "a, b"
    assert some(tuple(map(str, range(15)))) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 and 3 more"
