"""Merkle trees: the known answers of Certificate Transparency, and proofs that hold for what is so and nothing else."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as some

from grid.crypto.errors import BadSignature
from grid.crypto.merkle import EMPTY, Frontier, Tree, check_consistency, check_inclusion, leaf_hash

# The eight entries that Certificate Transparency's own test suites use, and the roots after each.
ENTRIES = [
    bytes.fromhex(text)
    for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
ROOTS = (
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
)


def reference(leaves: list[bytes]) -> bytes:
    """MTH of RFC 9162, 2.1.1, as it is written there, from the entries themselves."""
    if len(leaves) <= 1:
        return hashlib.sha256(b"\0" + leaves[0] if leaves else b"").digest()
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return hashlib.sha256(b"\1" + reference(leaves[:k]) + reference(leaves[k:])).digest()


def tree_of(count: int) -> tuple[list[bytes], Tree]:
    entries = [b"entry %d" % number for number in range(count)]
    return entries, Tree(map(leaf_hash, entries))


def test_the_known_roots_of_certificate_transparency() -> None:
    tree = Tree()
    assert tree.root() == EMPTY
    for entry, root in zip(ENTRIES, ROOTS, strict=True):
        tree.append(leaf_hash(entry))
        assert tree.root().hex() == root


def test_known_proofs_of_certificate_transparency() -> None:
    tree = Tree(map(leaf_hash, ENTRIES))

    assert [step.hex() for step in tree.inclusion(0, 8)] == [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ]
    assert [step.hex() for step in tree.consistency(6, 8)] == [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ]


@given(some.integers(1, 70), some.data())
def test_every_entry_is_proved_and_no_other_in_its_place(count: int, data: some.DataObject) -> None:
    entries, tree = tree_of(count)
    size = data.draw(some.integers(1, count))
    index = data.draw(some.integers(0, size - 1))
    path, root = tree.inclusion(index, size), tree.root(size)

    assert root == reference(entries[:size])
    check_inclusion(leaf_hash(entries[index]), index, size, path, root)
    for wrong in (
        (leaf_hash(b"another"), index, size, path, root),
        (leaf_hash(entries[index]), index, size, (*path, root), root),
        (leaf_hash(entries[index]), index, size, path, leaf_hash(b"another")),
        (leaf_hash(entries[index]), size, size, path, root),
        *([(leaf_hash(entries[index]), index, size, path[:-1], root)] if path else []),
    ):
        with pytest.raises(BadSignature):
            check_inclusion(*wrong)


@given(some.integers(1, 70), some.data())
def test_a_log_that_goes_on_is_proved_and_one_whose_past_differs_is_not(count: int, data: some.DataObject) -> None:
    entries, tree = tree_of(count)
    first = data.draw(some.integers(1, count))
    changed = data.draw(some.integers(0, first - 1))
    path, old, root = tree.consistency(first, count), tree.root(first), tree.root()
    check_consistency(first, old, count, root, path)

    other = Tree(leaf_hash(b"rewritten" if at == changed else entry) for at, entry in enumerate(entries))
    with pytest.raises(BadSignature):
        check_consistency(first, old, count, other.root(), other.consistency(first, count))
    with pytest.raises(BadSignature):
        check_consistency(first, old, count, other.root(), path)
    with pytest.raises(BadSignature):
        check_consistency(first, old, count, root, (*path, root))


def test_a_log_does_not_shrink_and_proves_nothing_it_has_not() -> None:
    _, tree = tree_of(5)

    with pytest.raises(BadSignature):
        check_consistency(5, tree.root(), 4, tree.root(4), ())
    with pytest.raises(BadSignature):
        check_consistency(3, tree.root(3), 5, tree.root(), ())
    with pytest.raises(BadSignature):
        check_consistency(0, tree.root(), 5, tree.root(), ())
    check_consistency(0, EMPTY, 5, tree.root(), ())
    for wrong in (lambda: tree.root(6), lambda: tree.inclusion(5, 5), lambda: tree.consistency(0, 5)):
        with pytest.raises(ValueError, match=r"entries|entry"):
            wrong()


@given(some.lists(some.binary(max_size=8), max_size=40), some.integers(0, 40))
def test_whoever_follows_a_log_comes_to_its_root_wherever_he_began(entries: list[bytes], at: int) -> None:
    frontier = Frontier().after(entries[:at])
    again = Frontier(frontier.size, frontier.peaks)  # as it was kept on disk

    assert again.root() == Tree(map(leaf_hash, entries[:at])).root()
    assert again.after(entries[at:]).root() == Tree(map(leaf_hash, entries)).root() == reference(entries)


def test_a_frontier_that_was_damaged_is_refused() -> None:
    for size, peaks in ((1, ()), (0, (EMPTY,)), (1, (b"short",))):
        with pytest.raises(ValueError, match="peaks"):
            Frontier(size, peaks)
