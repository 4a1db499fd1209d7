"""A plan on one sheet, for the person who decides whether it may learn from their records.

What can be seen in a plan without running it: its layers, how much it trains and sends, and what looks as if it
were made to carry records home in its update. No sign of that is no proof of innocence; minima, secure sums and
differential privacy are what protects.
"""

from __future__ import annotations

import html
import math
import struct
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from grid.learning.plan import Plan
from grid.learning.recipe import Graph, Input, Limits, Node, Recipe
from grid.learning.tensors import ITEM_BYTES
from grid.learning.validate import refs

GRANTED = Limits()  # what a node grants where its owner says nothing else
ALIKE = 4  # rows; a random matrix has none
LADDER = 8  # steps; eight random numbers stand in order once in 20,160 times
WIDE = 16  # outputs of the first layer for each example in a batch
PER_RECORD = 1000  # parameters; fewer records than that are soon learned by heart
_COLUMNS = 16  # of a row, to tell whether it is another one's multiple
_PRODUCTS = ("aten.linear", "aten.conv", "aten.matmul", "aten.mm", "aten.bmm", "aten.addmm", "aten.einsum")
_CODES = {"F64": "d", "F32": "f", "F16": "e"}
_IMPRINT = "such a layer can imprint single records into its gradient (Fowl et al. 2022, arXiv:2110.13057)"


class Layer(NamedTuple):
    """An operation with parameters of its own."""

    name: str
    operation: str
    shapes: tuple[tuple[int, ...], ...]
    parameters: int


class Sheet(NamedTuple):
    """What a plan does. Sizes in bytes; `per_record` and `steps` are None where the number of records is not known."""

    digest: str
    inputs: tuple[str, ...]
    layers: tuple[Layer, ...]
    operations: dict[str, int]
    parameters: int
    per_record: float | None
    bytes_per_round: int
    loss: str
    optimizer: str
    steps: int | None
    amount: str
    private: str
    warnings: tuple[str, ...]

    def rows(self) -> list[tuple[str, str]]:
        """The sheet as pairs of a word and what it is here."""
        per_record = [] if self.per_record is None else [("per record", f"{self.per_record:,.1f} parameters")]
        layers = [(f"  {layer.name}"[:20], _told(layer)) for layer in self.layers]
        return [
            ("plan", self.digest),
            ("input", ", ".join(self.inputs)),
            ("layers", f"{len(self.layers)} with parameters"),
            *layers,
            ("operations", ", ".join(f"{count} {name}" for name, count in self.operations.items())),
            ("parameters", f"{self.parameters:,}"),
            *per_record,
            ("each round", self.amount),
            ("sent", f"{self.bytes_per_round:,} bytes there, as many back"),
            ("loss", self.loss),
            ("optimizer", self.optimizer),
            *([("private", self.private)] if self.private else []),
            *[("WARNING", text) for text in self.warnings],
        ]

    def __repr__(self) -> str:
        return "\n".join(f"{word:<21}{value}" for word, value in self.rows())

    def _repr_html_(self) -> str:
        cells = (f"<tr><th>{html.escape(word)}</th><td>{html.escape(value)}</td></tr>" for word, value in self.rows())
        return f"<table>{''.join(cells)}</table>"


def sheet(plan: Plan, examples: int | None = None, rounds: int | None = None) -> Sheet:
    """The sheet of a plan that would train on so many records of a node for so many rounds, if that is known."""
    recipe = plan.recipe
    steps, amount = _amount(recipe, examples)
    return Sheet(
        digest=plan.digest,
        inputs=tuple(f"{entry.name} {list(entry.shape)} {entry.dtype}" for entry in recipe.model.named("input")),
        layers=tuple(_layers(recipe.model)),
        operations=dict(Counter(_short(node) for node in recipe.model.nodes).most_common()),
        parameters=plan.parameters,
        per_record=plan.parameters / examples if examples else None,
        bytes_per_round=plan.layout.size,
        loss=_loss(recipe),
        optimizer=_told_optimizer(recipe),
        steps=steps,
        amount=amount,
        private=_private(recipe, (rounds,) if rounds else (1, 10, 100)),
        warnings=(*_few(recipe, examples, steps), *_much(plan, examples), *_imprints(plan)),
    )


def _layers(graph: Graph) -> Iterator[Layer]:
    seen: set[int] = set()
    for node in graph.nodes:
        read = [ref for argument in node.args for ref in refs(argument) if _is_param(graph, ref)]
        entries = [graph.inputs[ref] for ref in read]
        if entries:
            fresh = sum(_count(graph.inputs[ref]) for ref in set(read) - seen)  # tied ones count once
            seen |= set(read)
            name = entries[0].name.rpartition(".")[0] or entries[0].name
            yield Layer(name, _short(node), tuple(_shape(entry) for entry in entries), fresh)


def _is_param(graph: Graph, ref: int) -> bool:
    return ref < len(graph.inputs) and graph.inputs[ref].kind == "param"


def _shape(entry: Input) -> tuple[int, ...]:
    return tuple(size for size in entry.shape if isinstance(size, int))


def _count(entry: Input) -> int:
    return math.prod(_shape(entry))


def _short(node: Node) -> str:
    """`aten.conv2d.default` is conv2d to a reader, `int.add` stays as it is."""
    return node.op.split(".")[1] if node.op.startswith("aten.") else node.op


def _told(layer: Layer) -> str:
    return (
        f"{layer.operation} {' '.join(str(list(shape)) for shape in layer.shapes[:4])}, {layer.parameters:,} parameters"
    )


def _loss(recipe: Recipe) -> str:
    if isinstance(recipe.loss, str):
        return recipe.loss
    return f"its own: {', '.join(_short(node) for node in recipe.loss.nodes)}"


def _told_optimizer(recipe: Recipe) -> str:
    rule = recipe.optimizer
    numbers = ", ".join(f"{field} {getattr(rule, field):g}" for field in rule.__struct_fields__)
    clipped = f", gradients clipped at {recipe.clip:g}" if recipe.clip else ""
    return f"{type(rule).__name__.lower()}: {numbers}{clipped}"


def _private(recipe: Recipe, rounds: tuple[int, ...]) -> str:
    """What hides single records, and what it costs them after so many rounds."""
    if (dp := recipe.dp) is None:
        return ""
    costs = [f"{dp.epsilon(number * recipe.private_steps):.3g} after {number}" for number in rounds]
    return (
        f"records clipped at {dp.clip:g}, noise of {dp.noise:.4g} times that; "
        f"epsilon {', '.join(costs)} rounds at delta {dp.delta:g}"
    )


def _amount(recipe: Recipe, examples: int | None) -> tuple[int | None, str]:
    if recipe.dp is not None:
        return recipe.private_steps, f"{recipe.private_steps} steps, each of a random {recipe.dp.rate:g} of the records"
    if recipe.steps:
        return recipe.steps, f"{recipe.steps} steps of {recipe.batch} examples"
    told = f"{recipe.epochs} times through the data in batches of {recipe.batch}"
    if not examples:
        return None, told
    steps = recipe.epochs * max(1, math.ceil(examples / recipe.batch))
    return steps, f"{told}: {steps} steps"


def _few(recipe: Recipe, examples: int | None, steps: int | None) -> Iterator[str]:
    """Few examples in a gradient can be read back from it."""
    if recipe.batch < GRANTED.minimum_batch:
        yield f"batches of {recipe.batch}: fewer than {GRANTED.minimum_batch} examples can be read from a gradient"
    least = max(recipe.minimum_examples, GRANTED.minimum_examples)
    if recipe.minimum_examples < GRANTED.minimum_examples:
        yield f"it would train on {recipe.minimum_examples} examples; {GRANTED.minimum_examples} are the usual minimum"
    if examples is not None and examples < least:
        yield f"{examples} records are here; at least {least} are asked for"
    if steps == 1:
        yield "one step in a round: its update is the gradient of a single batch"


def _much(plan: Plan, examples: int | None) -> Iterator[str]:
    """Large against the data: room to learn records by heart."""
    wide, batch = _first_width(plan.recipe.model), plan.recipe.batch
    if plan.recipe.dp is not None:
        return  # noise for each record is what these warnings would ask for
    if wide > WIDE * batch:
        yield f"the first layer has {wide} outputs for batches of {batch}: {_IMPRINT}"
    if examples and plan.parameters > PER_RECORD * examples:
        yield (
            f"{plan.parameters / examples:,.0f} parameters for each record: enough to learn records by heart; "
            "ask for secure aggregation or differential privacy"
        )


def _first_width(graph: Graph) -> int:
    """Outputs of the first linear layer, 0 where no layer is linear."""
    for node in graph.nodes:
        if node.op == "aten.linear.default":
            entries = [graph.inputs[ref] for ref in refs(node.args[1]) if ref < len(graph.inputs)]
            return _shape(entries[0])[0] if entries and entries[0].shape else 0
    return 0


def _imprints(plan: Plan) -> Iterator[str]:
    for entry in _weights(plan.recipe.model):
        shape, data = _shape(entry), plan.values[entry.name]
        if len(shape) > 1 and (alike := _rows_alike(entry, shape, data)) >= ALIKE:
            yield f"{entry.name}: {alike} rows of {shape[0]} are multiples of another: {_IMPRINT}"
        if len(shape) == 1 and shape[0] >= LADDER and _ladder(_numbers(entry.dtype, data)):
            yield f"{entry.name}: its {shape[0]} numbers are a ladder, each above the one before: {_IMPRINT}"


def _weights(graph: Graph) -> Iterator[Input]:
    """Parameters, and constants that are multiplied with; a mask may repeat its rows."""
    multiplied = {
        ref for node in graph.nodes if node.op.startswith(_PRODUCTS) for part in node.args for ref in refs(part)
    }
    for number, entry in enumerate(graph.inputs):
        if entry.kind == "param" or (entry.kind == "const" and number in multiplied):
            yield entry


def _rows_alike(entry: Input, shape: tuple[int, ...], data: bytes | memoryview) -> int:
    """How many rows are multiples of the most frequent one, by their first numbers; rows of zeros are none."""
    wide = math.prod(shape[1:])
    if wide < ALIKE:
        return 0
    size, taken = ITEM_BYTES[entry.dtype], min(wide, _COLUMNS)
    starts = range(0, shape[0] * wide * size, wide * size)
    found = Counter(
        direction
        for start in starts
        if (direction := _direction(_numbers(entry.dtype, data[start : start + taken * size])))
    )
    return max(found.values(), default=0)


def _direction(row: Sequence[float]) -> tuple[float, ...]:
    """The row, its largest number being 1; empty where all are 0."""
    largest = max(row, key=abs)
    if not largest or not math.isfinite(largest):
        return ()
    return tuple(round(number / largest, 3) for number in row)


def _numbers(dtype: str, data: bytes | memoryview) -> tuple[float, ...]:
    if dtype == "BF16":  # the upper half of a float32
        data, dtype = b"".join(b"\0\0" + bytes(data[at : at + 2]) for at in range(0, len(data), 2)), "F32"
    if dtype not in _CODES:
        return ()
    return struct.unpack(f"<{len(data) // ITEM_BYTES[dtype]}{_CODES[dtype]}", data)


def _ladder(numbers: Sequence[float]) -> bool:
    pairs = list(pairwise(numbers))
    return bool(pairs) and (all(a < b for a, b in pairs) or all(a > b for a, b in pairs))
