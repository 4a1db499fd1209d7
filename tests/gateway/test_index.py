from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from grid.gateway.index import TagIndex


def index_of(**members: list[str]) -> TagIndex:
    index = TagIndex()
    for node_id, words in members.items():
        index.add(node_id, words)
    return index


def test_all_names_those_who_have_every_tag() -> None:
    index = index_of(alice=["#x", "#y"], bob=["#x"], carol=["#y"])

    assert index.having_all(["#x", "#y"]) == {"alice"}
    assert index.having_all(["#x"]) == {"alice", "bob"}


def test_any_names_those_who_have_one_of_them() -> None:
    index = index_of(alice=["#x"], bob=["#y"], carol=["#z"])

    assert index.having_any(["#x", "#y", "#unheard"]) == {"alice", "bob"}


def test_a_tag_nobody_has_finds_nobody() -> None:
    assert index_of(alice=["#x"]).having_all(["#x", "#unheard"]) == set()


def test_an_empty_query_finds_nobody() -> None:
    index = index_of(alice=["#x"])

    assert index.having_all([]) == index.having_any([]) == set()


def test_a_tag_is_forgotten_with_its_last_holder() -> None:
    index = index_of(alice=["#x"], bob=["#x"])

    index.remove("alice", ["#x"])
    assert index.words() == ["#x"]
    index.remove("bob", ["#x"])
    assert index.words() == []


def test_an_answer_is_the_askers_own() -> None:
    index = index_of(alice=["#x"], bob=["#x"])

    index.having_all(["#x"]).clear()
    index.having_any(["#x"]).clear()

    assert index.having_all(["#x"]) == {"alice", "bob"}


WORDS = st.lists(st.sampled_from(["#a", "#b", "#c"]), max_size=3)
STEPS = st.lists(st.tuples(st.sampled_from(["add", "remove"]), st.sampled_from("pqr"), WORDS))


@given(STEPS, WORDS)
def test_any_order_of_steps_answers_as_a_plain_table_does(
    steps: list[tuple[str, str, list[str]]], query: list[str]
) -> None:
    index, table = TagIndex(), {member: set[str]() for member in "pqr"}
    for verb, member, words in steps:
        getattr(index, verb)(member, words)
        table[member] = table[member] | set(words) if verb == "add" else table[member] - set(words)

    wanted = set(query)
    assert index.having_all(query) == {m for m, has in table.items() if wanted and wanted <= has}
    assert index.having_any(query) == {m for m, has in table.items() if wanted & has}
    assert set(index.words()) == set().union(*table.values())
