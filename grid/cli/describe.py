"""Datasets and nodes in words, safe for a terminal whoever wrote them."""

from __future__ import annotations

from collections.abc import Iterator

from grid.wire.node import Column, DatasetInfo

MANY = 12


def plain(text: str) -> str:
    """Text from elsewhere on one line, without anything that a terminal would obey."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def describe(info: DatasetInfo) -> Iterator[str]:
    """What is told about a dataset, line by line."""
    yield f"{info.name}  {info.examples} examples  {' '.join(map(plain, info.tags))}".rstrip()
    if info.description:
        yield f"    {plain(info.description)}"
    for tensor in info.tensors:
        goal = "  (to be learned)" if tensor.name == info.target else ""
        yield f"    {tensor.name} {tensor.dtype} [{', '.join(map(str, tensor.shape))}]{goal}"
    if info.classes:
        yield f"    classes: {some(info.classes)}"
    if info.columns:
        yield f"    columns: {some(tuple(map(_column, info.columns)))}"


def some(words: tuple[str, ...]) -> str:
    """The first of many words, and how many there are."""
    shown = ", ".join(map(plain, words[:MANY]))
    return shown if len(words) <= MANY else f"{shown} and {len(words) - MANY} more"


def _column(column: Column) -> str:
    return f"{column.name} ({some(column.categories)})" if column.categories else column.name
