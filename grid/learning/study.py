"""A question on its way, and its answer: one file, as a plan is.

That file, the bundle, is a safetensors file whose metadata holds the question as JSON, and whose tensors are what is
known of the answer, float64: zeros before anybody was asked. Any safetensors library reads it.
"""

from __future__ import annotations

import hashlib
import html
from array import array
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec

from grid.learning.answers import Table, table_of
from grid.learning.layouts import PART
from grid.learning.plan import MAX_BUNDLE, RECIPE, Plan, read_recipe, refuse_code
from grid.learning.questions import Evaluate, Question, checked, known_layout, most_rounds, part_numbers, reads
from grid.learning.strategy import Sum
from grid.learning.tensors import Layout, TensorSpec, header_bytes, read_header, strict_json
from grid.wire.problems import PlanRefused, QuestionRefused, TensorsRefused

QUESTION = "grid-question"
"""The metadata entry that holds the question."""

PLAN = "plan:"
"""Stands before the names of a plan's tensors in a bundle. No tensor of an answer has a colon in its name."""


class Study:
    """A question, checked, and the values of what is known, by name: the data sections of float64 tensors.

    `layout` is what travels: what is known goes down, a node's part (`layouts.PART`) up. With `Evaluate` goes a `plan`.

    Raises:
        QuestionRefused: it cannot be asked, or not of this plan.
    """

    def __init__(
        self, question: Question, values: Mapping[str, bytes | memoryview] | None = None, plan: Plan | None = None
    ) -> None:
        self.question, self.plan = checked(question), plan
        if isinstance(question, Evaluate) != (plan is not None):
            raise QuestionRefused("an evaluation is one of a plan, and nothing else is")
        if isinstance(question, Evaluate) and plan is not None and question.metrics != plan.recipe.metrics:
            raise QuestionRefused("an evaluation tells the metrics of its plan")
        self._known, self.layout = known_layout(question), travelling_layout(question)
        self.values: dict[str, bytes | memoryview] = dict(values or {s.name: bytes(s.size) for s in self._known.specs})
        for spec in self._known.specs:
            if len(self.values.get(spec.name, b"")) != spec.size:
                raise TensorsRefused(f"the values of {spec} are missing or of another length")

    @property
    def answer(self) -> dict[str, list[float]]:
        """What is known, by name."""
        return {spec.name: list(array("d", bytes(self.values[spec.name]))) for spec in self._known.specs}

    @property
    def rounds(self) -> int:
        """In how many rounds it is answered, or cannot be."""
        return most_rounds(self.question)

    @property
    def parameters(self) -> dict[str, Any]:
        """Those of a task that has it answered, as `wire.runs.Task` names them; how parts travel is left open."""
        return {"rounds": self.rounds, "holdout": 0.0, "strategy": {"aggregation": msgspec.to_builtins(Sum())}}

    @property
    def metadata(self) -> dict[str, str]:
        """The question as the bundle's header holds it."""
        return {QUESTION: msgspec.json.encode(self.question, order="deterministic").decode()}

    @classmethod
    def of(cls, plan: Plan, holdout: float = 0.0, seed: int = 0) -> Study:
        """How a plan does, on all examples or on those that such a training held out."""
        return cls(Evaluate(plan.recipe.metrics, holdout, seed), plan=plan)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the bundle, in hex: the study's name."""
        return hashlib.sha256(self.bundle()).hexdigest()

    def bundle(self) -> bytes:
        """The study as one file."""
        return b"".join(self._parts())

    def save(self, path: str | Path) -> Path:
        """Write the bundle to a file."""
        path = Path(path)
        path.write_bytes(self.bundle())
        return path

    def trained(self, data: bytes | memoryview) -> Study:
        """The same study, knowing what the data section `data` of a checkpoint says."""
        known = {slot.spec.name: bytes(data[slot.begin : slot.end]) for slot in self._known.slots}
        return Study(self.question, known, self.plan)

    @classmethod
    def from_bundle(cls, data: bytes | memoryview) -> Study:
        """Read and check a bundle.

        Raises:
            PlanRefused: not a bundle of a question, or a rule of the format is broken.
            QuestionRefused: its question cannot be asked.
            TensorsRefused: the tensors are not what the question makes known.
        """
        layout, metadata, offset = read_header(data, total=len(data))
        question, body = read_question(metadata), memoryview(data)[offset:]
        values = {slot.spec.name: body[slot.begin : slot.end] for slot in layout.slots}
        held = {name.removeprefix(PLAN): value for name, value in values.items() if name.startswith(PLAN)}
        plan = Plan(read_recipe(metadata[RECIPE]), held) if RECIPE in metadata else None
        study = cls(question, {name: value for name, value in values.items() if not name.startswith(PLAN)}, plan)
        layout.require(study._held)
        if bytes(data[:offset]) != study._header:
            raise PlanRefused("this question is not written as an encoder of ours writes it")
        return study

    def table(self) -> Table:
        """The answer for a person: a head and rows."""
        return table_of(self.question, self.answer)

    def rows(self) -> list[tuple[str, str]]:
        """What a person wants to know first: pairs of a word and what it is here."""
        name = msgspec.to_builtins(self.question)["name"]
        told = f"{part_numbers(self.question):,} numbers"
        of = reads(self.question) or ("the examples",)
        answered = [("answer from", f"{self.answer['n'][0]:,.0f} rows")] if self.answered else []
        return [("question", name), ("reads", ", ".join(of)), ("each node adds", told), *answered]

    @property
    def answered(self) -> bool:
        """Whether anybody was asked yet."""
        return self.answer["steps"][0] > 0

    def __repr__(self) -> str:
        return "Study\n" + "\n".join(f"  {word:<14} {value}" for word, value in self.rows())

    def _repr_html_(self) -> str:
        head, rows = self.table() if self.answered else (["", ""], [list(row) for row in self.rows()])
        lines = [f"<th>{html.escape(cell)}</th>" for cell in head]
        body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
        return f"<table><tr>{''.join(lines)}</tr>{body}</table>"

    @property
    def _held(self) -> Layout:
        own = () if self.plan is None else self.plan.held.specs
        return Layout((*self._known.specs, *(TensorSpec(PLAN + spec.name, spec.dtype, spec.shape) for spec in own)))

    @property
    def _header(self) -> bytes:
        return header_bytes(self._held, self.metadata | ({RECIPE: self.plan.words} if self.plan is not None else {}))

    def _parts(self) -> Iterator[bytes | memoryview]:
        yield self._header
        values = {PLAN + name: value for name, value in self.plan.values.items()} if self.plan is not None else {}
        yield from ((self.values | values)[spec.name] for spec in self._held.specs)


def travelling_layout(question: Question) -> Layout:
    """What travels each round of a study: what is known, and a node's part."""
    return Layout((*known_layout(question).specs, TensorSpec(PART, "F64", (part_numbers(question),))))


def read_question(metadata: Mapping[str, str]) -> Question:
    """The question in the header of a bundle. Raises PlanRefused, QuestionRefused."""
    if not {QUESTION} <= metadata.keys() <= {QUESTION, RECIPE}:
        raise PlanRefused(
            f"the metadata of a question's bundle is {QUESTION!r}, with it may be {RECIPE!r}, and no more"
        )
    try:
        words = strict_json(metadata[QUESTION].encode())
    except TensorsRefused as error:
        raise QuestionRefused(f"it cannot be read: {error}") from None
    return read_words(words)


def read_words(words: Any) -> Question:
    """A question from plain data: its `name`, and what that asks for. Raises QuestionRefused."""
    try:
        question: Question = msgspec.convert(words, Question)
    except msgspec.ValidationError as error:
        raise QuestionRefused(f"it cannot be read: {error}") from None
    return checked(question)


def read_bundle(data: bytes | memoryview) -> Plan | Study:
    """What a bundle holds: a plan to train, or a question to answer. Nothing of it runs.

    Raises:
        PlanRefused, QuestionRefused, TensorsRefused: neither, or a rule of its format is broken.
    """
    refuse_code(bytes(data[:8]))
    if len(data) > MAX_BUNDLE:
        raise PlanRefused(f"a bundle of {len(data)} bytes; at most {MAX_BUNDLE} are taken")
    _, metadata, _ = read_header(data, total=len(data))
    return Study.from_bundle(data) if QUESTION in metadata else Plan.from_bundle(data)
