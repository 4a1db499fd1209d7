"""A strategy as data: what clients do differently, how updates become one, how far the server goes, and when.

Its parts go together freely where that makes sense; `validated` says where it does not. What travels and
what is kept for a strategy is in `layouts`, the arithmetic in `folding` and `client_rules`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from grid.learning.recipe import Part, Recipe, Sgd
from grid.privacy.accounting import epsilon_of
from grid.privacy.rdp import LEAST
from grid.wire.problems import StrategyRefused

Liars = Annotated[int, Meta(ge=0, le=10_000, description="How many updates may be arbitrary")]
Rate = Annotated[float, Meta(gt=0, le=100)]
Share = Annotated[float, Meta(ge=0, lt=1)]
Exponent = Annotated[float, Meta(ge=0, le=10)]
Oldest = Annotated[int, Meta(ge=0, le=100_000, description="Steps; an update that is older is refused")]

# --- what clients do differently -----------------------------------------------------------------


class Plain(Part, frozen=True, tag="plain", tag_field="name"):
    """Train as the plan says. McMahan et al. 2017, arXiv:1602.05629, Algorithm 1, ClientUpdate."""


class Prox(Part, frozen=True, tag="prox", tag_field="name"):
    """A pull of mu/2 ||w - w^t||^2 towards the model that came. Li et al. 2020, arXiv:1812.06127, equation 2.

    `mu` 0.01 is our choice; the paper tries 0.001 to 1.
    """

    mu: Annotated[float, Meta(ge=0, le=1e6)] = 0.01


class Scaffold(Part, frozen=True, tag="scaffold", tag_field="name"):
    """Steps corrected by control variates. Karimireddy et al. 2020, arXiv:1910.06378, Algorithm 1, option II."""


class Nova(Part, frozen=True, tag="nova", tag_field="name"):
    """Updates divided by what their steps amount to. Wang et al. 2020, arXiv:2007.07481, section 4."""


# --- how updates become one ------------------------------------------------------------------------


class Mean(Part, frozen=True, tag="mean", tag_field="name"):
    """The mean, weighted by examples, or with the same weight for everybody."""

    weight: Literal["examples", "uniform"] = "examples"


class QFair(Part, frozen=True, tag="q-fair", tag_field="name"):
    """Who fares worse counts more, by the power `q` of the loss. Li et al. 2020, arXiv:1905.10497, Algorithm 2.

    `lipschitz` is the paper's L, an estimate of one over the clients' learning rate.
    """

    q: Annotated[float, Meta(ge=0, le=16)] = 1.0
    lipschitz: Annotated[float, Meta(gt=0, le=1e9)] = 10.0


class Median(Part, frozen=True, tag="median", tag_field="name"):
    """The median of each number. Yin et al. 2018, arXiv:1803.01498, definition 1."""


class TrimmedMean(Part, frozen=True, tag="trimmed-mean", tag_field="name"):
    """Each number's mean without the share `trim` at either end. Yin et al. 2018, arXiv:1803.01498, definition 2."""

    trim: Annotated[float, Meta(gt=0, lt=0.5)] = 0.2


class Krum(Part, frozen=True, tag="krum", tag_field="name"):
    """The update that is nearest to its n - f - 2 nearest. Blanchard et al. 2017, arXiv:1703.02757, section 4."""

    liars: Liars = 1


class MultiKrum(Part, frozen=True, tag="multi-krum", tag_field="name"):
    """The mean of the `kept` updates with the best Krum scores; 0 keeps n - f - 2. arXiv:1703.02757, section 5.

    The paper leaves m open up to n; n - f - 2 as the most is our choice, so that the liars can all be left out.
    """

    liars: Liars = 1
    kept: Annotated[int, Meta(ge=0, le=100_000)] = 0


class Bulyan(Part, frozen=True, tag="bulyan", tag_field="name"):
    """Of n - 2f updates chosen by Krum, each number's mean of those nearest to the median.

    El Mhamdi et al. 2018, arXiv:1802.07927, section 4.
    """

    liars: Liars = 1


class GeometricMedian(Part, frozen=True, tag="geometric-median", tag_field="name"):
    """The point with the least distance to all updates. Pillutla et al. 2022, arXiv:1912.13445, Algorithm 2.

    `eps` is the paper's smoothing nu. Two choices are ours: we begin at the median of each number, so that a few
    iterations suffice wherever liars are; and everybody weighs the same, where the paper takes examples.
    """

    weight: Literal["examples", "uniform"] = "uniform"
    eps: Annotated[float, Meta(gt=0, le=1)] = 1e-6
    iterations: Annotated[int, Meta(ge=1, le=100)] = 8


class Sum(Part, frozen=True, tag="sum", tag_field="name"):
    """What nodes add to an analysis, added up (`grid.learning.analytics`): no model is learned."""


# --- how far the server goes -------------------------------------------------------------------------


class Average(Part, frozen=True, tag="average", tag_field="name"):
    """Go the way that the updates point, times `lr`; 1 takes their aggregate as it is."""

    lr: Rate = 1.0


class Momentum(Part, frozen=True, tag="momentum", tag_field="name"):
    """v = beta v + delta, w = w + lr v. Hsu et al. 2019, arXiv:1909.06335, section 4.3 (lr 1 there)."""

    lr: Rate = 1.0
    beta: Share = 0.9


class Adagrad(Part, frozen=True, tag="adagrad", tag_field="name"):
    """v = v + delta^2. Reddi et al. 2021, arXiv:2003.00295, Algorithm 2, FedAdagrad.

    In all three, `tau` is the paper's 1e-3; rates differ from task to task there, and 0.1 is our choice.
    """

    lr: Rate = 0.1
    beta1: Share = 0.0
    tau: Annotated[float, Meta(gt=0, le=1)] = 1e-3


class Adam(Part, frozen=True, tag="adam", tag_field="name"):
    """v = beta2 v + (1 - beta2) delta^2, without bias correction. arXiv:2003.00295, Algorithm 2, FedAdam."""

    lr: Rate = 0.1
    beta1: Share = 0.9
    beta2: Share = 0.99
    tau: Annotated[float, Meta(gt=0, le=1)] = 1e-3


class Yogi(Part, frozen=True, tag="yogi", tag_field="name"):
    """v = v - (1 - beta2) delta^2 sign(v - delta^2). arXiv:2003.00295, Algorithm 2, FedYogi."""

    lr: Rate = 0.1
    beta1: Share = 0.9
    beta2: Share = 0.99
    tau: Annotated[float, Meta(gt=0, le=1)] = 1e-3


# --- when ----------------------------------------------------------------------------------------------


class Synchronous(Part, frozen=True, tag="synchronous", tag_field="name"):
    """All updates of a round began with the same model."""


class Buffered(Part, frozen=True, tag="buffered", tag_field="name"):
    """A step for each `size` updates, whatever they began with. Nguyen et al. 2022, arXiv:2106.06639, Algorithm 1.

    An update that is s steps old counts (1 + s)^-staleness; the paper takes 1/2, and buffers of 10. One that is more
    than `oldest` steps old is refused; 100 is our choice.
    """

    size: Annotated[int, Meta(ge=1, le=100_000)] = 10
    staleness: Exponent = 0.5
    oldest: Oldest = 100


class Asynchronous(Part, frozen=True, tag="asynchronous", tag_field="name"):
    """Each update moves the model a share `alpha` of the way at once. Xie et al. 2019, arXiv:1903.03934, Algorithm 1.

    One that is s steps old, the share alpha (1 + s)^-staleness (their polynomial staleness); one that is more than
    `oldest` steps old, none: it is refused.
    """

    alpha: Annotated[float, Meta(gt=0, le=1)] = 0.6
    staleness: Exponent = 0.5
    oldest: Oldest = 100


# --- how models and updates travel ----------------------------------------------------------------------------------


class Exact(Part, frozen=True, tag="exact", tag_field="name"):
    """Parameters travel as they are."""


class BFloat16(Part, frozen=True, tag="bf16", tag_field="name"):
    """float32 parameters travel down as bfloat16: half of the bytes.

    All begin with the rounded model, and the server adds what they learned to its own (`grid.learning.broadcasts`).
    """


class Int8(Part, frozen=True, tag="int8", tag_field="name"):
    """What was learned, a byte for each number and a scale for each 512: a quarter of the bytes of float32.

    What rounding leaves out goes with the next update (`grid.learning.codec`).
    """


class TopK(Part, frozen=True, tag="top-k", tag_field="name"):
    """The `share` of the numbers that moved furthest; the rest waits. Stich et al. 2018, arXiv:1809.07599."""

    share: Annotated[float, Meta(gt=0, le=0.5)] = 0.05


BIT = 0.1
"""What telling how many were within the clip takes of the noise's cost: a tenth."""


class Masked(Part, frozen=True, tag="masked", tag_field="name"):
    """What was learned under masks that cancel in the sum alone (`grid.learning.masked`): nobody sees one update.

    Every number is clipped to [-bound, bound] by its node; a node with more than `most` examples weighs as with so
    many.

    With a `clip` the sum is also noised, by its nodes (DP-FedAvg): what a node learned is scaled down to that L2 norm,
    all weigh the same, nobody says how it did, and each adds its share of Gaussian noise, so that that of `least` nodes
    makes a standard deviation of `noise` times `clip`. McMahan et al. 2018, arXiv:1710.06963, Algorithm 1.

    With a `quantile` the clip is that of the first round, and goes by the factor exp(-rate (b - quantile)) from round
    to round, where b is the share of nodes that were within it, noised as well; both noises together cost what `noise`
    says. Andrew et al. 2021, arXiv:1905.03871, Algorithm 1; how the noise is split is our choice (`BIT`).
    """

    bound: Annotated[float, Meta(gt=0, le=1e6)] = 4.0
    most: Annotated[int, Meta(ge=1, le=2**24)] = 16_384
    clip: Annotated[float, Meta(ge=0, le=1e6)] = 0.0
    noise: Annotated[float, Meta(ge=0, le=1e6)] = 0.0
    least: Annotated[int, Meta(ge=3, le=4096)] = 3
    delta: Annotated[float, Meta(gt=0, lt=1)] = 1e-5
    quantile: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    rate: Annotated[float, Meta(gt=0, le=1)] = 0.2

    def epsilon(self, rounds: int) -> float:
        """What so many rounds cost a node, at `delta`: whether it took part at all is no easier to tell."""
        return epsilon_of(self.delta, self.noise, rounds)

    @property
    def noisy(self) -> bool:
        """Whether the sum is noised."""
        return self.clip > 0

    @property
    def adapts(self) -> bool:
        """Whether the clip follows what nodes learn."""
        return self.quantile > 0

    @property
    def learned_noise(self) -> float:
        """The noise multiplier of what was learned: more than `noise` where the share of those within costs, too."""
        return self.noise / math.sqrt(1 - BIT) if self.adapts else self.noise

    @property
    def share_noise(self) -> float:
        """The standard deviation of the noise on how many were within the clip: a node changes that by one half."""
        return self.noise / (2 * math.sqrt(BIT))

    @property
    def reach(self) -> float:
        """How far out a number may be that was clipped and noised, but for a chance of 1e-15."""
        return self.clip * (1 + 8 * self.learned_noise / math.sqrt(self.least))

    def clipped_to(self, clip: float) -> Masked:
        """The same rule with another clip, and a bound that grew or shrank with it."""
        return msgspec.structs.replace(self, clip=clip, bound=self.bound * clip / self.clip)

    def after(self, clip: float, inside: float) -> float:
        """The clip of the next round, after one in which the share `inside`, noised, was within `clip`.

        It moves by a factor of two at most: of a few nodes, the share is mostly noise.
        """
        return clip * math.exp(min(max(-self.rate * (inside - self.quantile), -math.log(2)), math.log(2)))


ClientRule = Plain | Prox | Scaffold | Nova
Robust = Median | TrimmedMean | Krum | MultiKrum | Bulyan | GeometricMedian
Aggregation = Mean | QFair | Robust | Sum
Server = Average | Momentum | Adagrad | Adam | Yogi
Timing = Synchronous | Buffered | Asynchronous
Broadcast = Exact | BFloat16
Upload = Exact | Int8 | TopK | Masked

BROADCASTS: dict[str, Broadcast] = {"exact": Exact(), "bf16": BFloat16()}
UPLOADS: dict[str, Upload] = {"exact": Exact(), "int8": Int8(), "top-k": TopK(), "masked": Masked()}

ROBUST = (Median, TrimmedMean, Krum, MultiKrum, Bulyan, GeometricMedian)


class Strategy(Part, frozen=True):
    """How rounds learn. The default is FedAvg."""

    client: ClientRule = Plain()
    aggregation: Aggregation = Mean()
    server: Server = Average()
    timing: Timing = Synchronous()
    upload: Upload = Exact()
    broadcast: Broadcast = Exact()

    @property
    def needs_current(self) -> bool:
        """Whether a round has to know the model that it began with; plain means and medians do not."""
        plain = self.server == Average() and self.timing == Synchronous() and self.upload == self.broadcast == Exact()
        return not (plain and isinstance(self.aggregation, (Mean, *ROBUST)) and isinstance(self.client, (Plain, Prox)))

    @property
    def analyses(self) -> bool:
        """Whether it answers a question, and learns no model."""
        return isinstance(self.aggregation, Sum)

    @property
    def masked(self) -> bool:
        """Whether updates are only ever seen summed."""
        return isinstance(self.upload, Masked)

    @property
    def names_base(self) -> bool:
        """Whether an update counts only on top of one model, so that its report has to name that."""
        return self.upload != Exact() or (self.broadcast != Exact() and not self.sends_delta)

    @property
    def sends_delta(self) -> bool:
        """Whether parameters travel up as what was learned on top of the model that came, not as a model."""
        return isinstance(self.timing, Buffered)

    @property
    def holds_updates(self) -> bool:
        """Whether a round looks at all its updates side by side, so that they have to be kept until it ends."""
        return isinstance(self.aggregation, ROBUST)


FEDAVG = Strategy()
ANALYSIS = Strategy(aggregation=Sum())
_UNIFORM = Mean(weight="uniform")

PRESETS: dict[str, Strategy] = {
    "fedavg": FEDAVG,
    "fedavgm": Strategy(server=Momentum()),
    "fedprox": Strategy(client=Prox()),
    "fedadagrad": Strategy(server=Adagrad()),
    "fedadam": Strategy(server=Adam()),
    "fedyogi": Strategy(server=Yogi()),
    "fednova": Strategy(client=Nova()),
    "scaffold": Strategy(client=Scaffold(), aggregation=_UNIFORM),
    "q-fedavg": Strategy(aggregation=QFair()),
    "median": Strategy(aggregation=Median()),
    "trimmed-mean": Strategy(aggregation=TrimmedMean()),
    "krum": Strategy(aggregation=Krum()),
    "multi-krum": Strategy(aggregation=MultiKrum()),
    "bulyan": Strategy(aggregation=Bulyan()),
    "geometric-median": Strategy(aggregation=GeometricMedian()),
    "fedbuff": Strategy(aggregation=_UNIFORM, timing=Buffered()),
    "fedasync": Strategy(client=Prox(), aggregation=_UNIFORM, timing=Asynchronous()),
}


def named(name: str, **settings: Any) -> Strategy:
    """A preset, with other numbers where given: `named("fedadam", lr=0.01)`.

    Raises:
        StrategyRefused: no such preset, it has no such number, or the number is out of bounds.
    """
    if name not in PRESETS:
        raise StrategyRefused(f"no strategy {name!r}; there are {', '.join(PRESETS)}")
    strategy = PRESETS[name]
    for field, value in settings.items():
        parts = [part for part in strategy.__struct_fields__ if hasattr(getattr(strategy, part), field)]
        if len(parts) != 1:
            raise StrategyRefused(f"{name} has no setting {field!r}")
        changed = msgspec.structs.replace(getattr(strategy, parts[0]), **{field: value})
        strategy = msgspec.structs.replace(strategy, **{parts[0]: changed})
    return validated(strategy)


def travelling(strategy: Strategy, upload: str | None = None, broadcast: str | None = None) -> Strategy:
    """The same strategy, its updates (a name of `UPLOADS`) and models (one of `BROADCASTS`) encoded so, where given.

    Raises:
        StrategyRefused: there is no such encoding, or not with this strategy.
    """
    chosen: dict[str, Any] = {}
    for part, name, known in (("upload", upload, UPLOADS), ("broadcast", broadcast, BROADCASTS)):
        if name is not None and name not in known:
            raise StrategyRefused(f"no encoding {name!r}; there are {', '.join(known)}")
        if name is not None:
            chosen[part] = known[name]
    return validated(msgspec.structs.replace(strategy, **chosen))


def noised(strategy: Strategy, clip: float, noise: float, least: int, quantile: float = 0.0) -> Strategy:
    """The same strategy, summed under masks and with noise, its clip fixed or following a quantile: see `Masked`.

    Raises:
        StrategyRefused: not with this strategy, or these numbers.
    """
    upload = strategy.upload if isinstance(strategy.upload, Masked) else Masked()
    upload = msgspec.structs.replace(upload, clip=clip, noise=noise, least=max(least, 3), quantile=quantile)
    upload = msgspec.structs.replace(upload, bound=max(upload.bound, upload.reach))
    return validated(msgspec.structs.replace(strategy, upload=upload))


def fitted(name: str, most: int) -> Strategy:
    """A preset for rounds that count with `most` updates: its buffer, if it has one, holds no more than these.

    Raises:
        StrategyRefused: no such preset.
    """
    strategy = named(name)
    if isinstance(strategy.timing, Buffered) and strategy.timing.size > most:
        return named(name, size=most)
    return strategy


def read_strategy(data: Mapping[str, Any] | str) -> Strategy:
    """A strategy from a task: the name of a preset, or its parts as plain data; `{}` is FedAvg.

    Raises:
        StrategyRefused: it is none, or its parts do not go together.
    """
    if isinstance(data, str):
        return named(data)
    try:
        return validated(msgspec.convert(data, Strategy))
    except msgspec.ValidationError as error:
        raise StrategyRefused(str(error)) from None


def validated(strategy: Strategy) -> Strategy:
    """The same strategy, if its numbers are in bounds and its parts go together.

    Raises:
        StrategyRefused: the detail says why not.
    """
    try:
        msgspec.convert(msgspec.to_builtins(strategy), Strategy)
    except msgspec.ValidationError as error:
        raise StrategyRefused(str(error)) from None
    for why in _quarrels(strategy):
        raise StrategyRefused(why)
    return strategy


def least_updates(strategy: Strategy) -> int:
    """How many updates a round needs at least, for the strategy's promise to hold."""
    match strategy.aggregation:
        case Krum(liars=f):
            return 2 * f + 3
        case MultiKrum(liars=f, kept=kept):
            return max(2 * f + 3, f + 2 + kept)
        case Bulyan(liars=f):
            return 4 * f + 3
        case TrimmedMean(trim=trim):
            return math.ceil(1 / trim - 1e-9)  # fewer, and none is left out
        case _ if isinstance(strategy.upload, Masked):
            return strategy.upload.least if strategy.upload.noisy else 3  # of two, each knows the other's from its own
        case _:
            return strategy.timing.size if isinstance(strategy.timing, Buffered) else 1


def check_recipe(strategy: Strategy, recipe: Recipe) -> None:
    """Refuse a plan whose training the client rule knows nothing about.

    Raises:
        StrategyRefused: the rule is about steps of SGD, and the plan takes others; or the plan is private, and the
            strategy asks for more than its noised steps.
    """
    if isinstance(strategy.client, (Scaffold, Nova)) and not isinstance(recipe.optimizer, Sgd):
        rule = type(strategy.client).__name__.lower()
        raise StrategyRefused(f"{rule} counts steps of sgd; the plan's optimizer is another")
    if recipe.dp is not None and isinstance(strategy.aggregation, QFair):
        raise StrategyRefused("q-fedavg asks each node for its loss, which dp does not noise")


def _quarrels(strategy: Strategy) -> list[str]:
    """Why the parts do not go together: what the one computes, the other would make meaningless."""
    client, aggregation = strategy.client, strategy.aggregation
    own_step = isinstance(client, (Scaffold, Nova))
    rules = [
        (own_step and not isinstance(aggregation, Mean), "scaffold and nova are about means of updates"),
        (
            strategy.timing != Synchronous() and (own_step or not isinstance(aggregation, Mean)),
            "staleness weights go with plain and prox clients and a mean: other rules compare updates of one model",
        ),
        (
            isinstance(strategy.timing, Asynchronous) and strategy.server != Average(),
            "asynchronous mixes each update in by alpha; it has no server optimizer beside it",
        ),
        (
            strategy.timing != Synchronous() and strategy.upload != Exact(),
            "int8 and top-k say what was learned on top of the round's own model; late updates began with another",
        ),
        (
            strategy.masked and (own_step or not isinstance(aggregation, (Mean, Sum))),
            "masked updates are only seen summed, and this rule looks at each one by itself",
        ),
        (
            isinstance(strategy.upload, Masked) and (strategy.upload.clip > 0) != (strategy.upload.noise > 0),
            "noise hides what is clipped: a clip and noise go together",
        ),
        (
            isinstance(strategy.upload, Masked) and 0 < strategy.upload.noise < LEAST,
            f"noise below {LEAST:g} times the clip hides nothing, and no number tells what it costs",
        ),
        (
            isinstance(strategy.upload, Masked) and strategy.upload.reach > strategy.upload.bound,
            "the bound would cut what is clipped and noised, and with it the noise",
        ),
        (
            isinstance(strategy.upload, Masked) and strategy.upload.adapts and not strategy.upload.noisy,
            "a clip that follows a quantile needs a clip to begin with, and noise",
        ),
        (
            strategy.analyses and strategy != Strategy(aggregation=Sum(), upload=strategy.upload),
            "an analysis adds up what nodes say: nothing is trained, and no server optimizer steps",
        ),
        (
            strategy.analyses and not isinstance(strategy.upload, (Exact, Masked)),
            "what is added up has to be exact: it travels as it is, or under masks",
        ),
        (
            strategy.analyses and isinstance(strategy.upload, Masked) and strategy.upload.noisy,
            "noise is reckoned for models that are clipped; an analysis has no clip yet",
        ),
        (
            strategy.masked and isinstance(aggregation, Mean) and aggregation.weight != "examples",
            "under masks an update weighs its examples, which are in the sum as well",
        ),
        (
            isinstance(strategy.timing, Asynchronous) and strategy.broadcast != Exact(),
            "asynchronous mixes in whole models, and rounded ones would take back what is finer than their rounding",
        ),
    ]
    return [why for broken, why in rules if broken]
