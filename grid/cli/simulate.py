"""`grid simulate`: what a policy would cost, before anybody waits for it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import click
import msgspec
from msgspec import Meta

from grid.cli.config import config_option
from grid.client.tables import size, table
from grid.simulation.figures import Figures, quantiles, ratios
from grid.simulation.scenario import SCENARIOS, Scenario

Played = tuple[Scenario, Figures, float]
LOSS = 0.38


def scenario_options(command: Any) -> Any:
    """A flag for each figure of a scenario, in its own words."""
    for name, hint in reversed(get_type_hints(Scenario, include_extras=True).items()):
        kind, meta = get_args(hint)
        assert isinstance(meta, Meta)
        words = get_args(kind) if get_origin(kind) is Literal else ()
        described = f"{str(meta.description).capitalize()}."
        flag = click.option(f"--{name.replace('_', '-')}", type=click.Choice(words) if words else kind, help=described)
        command = command if name == "name" else flag(command)
    return command


@click.command()
@click.argument("name", metavar="[SCENARIO]", type=click.Choice(list(SCENARIOS)), default="bonawitz")
@config_option
@scenario_options
@click.option("--fit", is_flag=True, help="Learn something: a small logistic regression at every node.")
@click.option("--loss", type=click.FloatRange(min=0), default=LOSS, show_default=True, help="With --fit: learn until.")
@click.option("--real", type=click.IntRange(1, 100_000), help="So many devices, over HTTP, against a node of its own.")
@click.option("--active", type=click.IntRange(1, 100_000), help="With --real: let into a round; a tenth, unless given.")
@click.option(
    "--rate", type=click.FloatRange(1), default=500.0, show_default=True, help="With --real: check-ins a second."
)
@click.option(
    "--numbers", type=click.IntRange(1), default=627_210, show_default=True, help="With --real: of the model."
)
@click.option("--json", "target", type=click.Path(dir_okay=False, path_type=Path), help="Write all figures there too.")
def simulate(
    name: str,
    fit: bool,
    loss: float,
    real: int | None,
    active: int | None,
    rate: float,
    numbers: int,
    target: Path | None,
    **changed: Any,
) -> None:
    """Play rounds in memory by the rules of real ones, to size a policy; or, with --real, one that is real.

    SCENARIO is bonawitz (phones, more drawn than wanted), papaya (synchronous against buffered), hospitals (ten that
    are sometimes away) or plain. Flags, or a TOML file with the same words, change its figures.
    """
    if real is not None:
        _play_real(real, min(real, active or max(1, real // 10)), rate, numbers, target)
        return
    changes = {key: value for key, value in changed.items() if value is not None}
    played = [
        _play(msgspec.structs.replace(scenario, **changes), loss if fit else None) for scenario in SCENARIOS[name]
    ]
    click.echo(table(["", *(scenario.name for scenario, _, _ in played)], _rows(played)))
    if target is not None:
        target.write_text(json.dumps([_plain(*each) for each in played], indent=1))


def _play(scenario: Scenario, loss: float | None) -> Played:
    """The scenario, what came of it, and the processor seconds that took."""
    try:
        from grid.simulation.course import simulate as play
        from grid.simulation.fits import Fits, Task
    except ImportError as error:
        raise click.ClickException(f"{error}; to simulate, install grid-daemon[node]") from None
    began = time.process_time()
    figures = play(scenario, None if loss is None else Fits(Task(loss=loss)))
    return scenario, figures, time.process_time() - began


def _play_real(devices: int, active: int, rate: float, numbers: int, target: Path | None) -> None:
    """A round of a crowd with a node that is started for it."""
    try:
        from grid.cli.real_fleet import Crowd
        from grid.cli.real_fleet import play as play_real
    except ImportError as error:
        raise click.ClickException(f"{error}; for devices, install grid-daemon[node]") from None
    seen = play_real(Crowd(devices, active, rate, numbers))
    figures = {
        "devices registered": f"{devices:,}, {devices / seen.registering:,.0f} a second",
        "check-ins": f"{len(seen.check_ins):,}, {rate:,.0f} a second asked for",
        "a check-in: p50, p99": f"{seen.quantile(0.5) * 1000:.0f} ms, {seen.quantile(0.99) * 1000:.0f} ms",
        "handed in": f"{seen.handed_in:,} of {active:,}, {size(4 * numbers)} each",
        "told to come later": ", ".join(f"{count:,} {reason}" for reason, count in sorted(seen.later.items()))
        or "none",
        "the round": span(seen.round),
        "the node's memory at its most": size(seen.memory),
        "the sum": "exact" if seen.exact else "wrong",
    }
    click.echo(table(["", "real"], figures.items()))
    if target is not None:
        target.write_text(json.dumps({**msgspec.to_builtins(seen), "devices": devices, "active": active}, indent=1))


def _plain(scenario: Scenario, figures: Figures, seconds: float) -> dict[str, Any]:
    return {"scenario": msgspec.to_builtins(scenario), "figures": figures.plain(), "processor_seconds": seconds}


# --- what is shown --------------------------------------------------------------------------------

LINES: dict[str, Callable[[Scenario, Figures], str]] = {
    "mode": lambda s, f: s.mode,
    "population, joined": lambda s, f: f"{s.population:,}, {f.joined:,}",
    "goal, drawn": lambda s, f: f"{s.goal:,}, {s.drawn:,} ({s.over_selection:.2f} x)",
    "rounds complete, invalid": lambda s, f: f"{f.completed:,}, {f.invalid:,}",
    "nodes drawn": lambda s, f: f"{f.drawn:,}",
    "updates counted": lambda s, f: f"{f.counted:,}",
    "at the close of a round": lambda s, f: _between(f.counted_at_close),
    "weighed by staleness": lambda s, f: f"{f.worth:,.0f}",
    "late, stopped, too slow": lambda s, f: f"{f.late:,}, {f.stopped:,}, {f.slow:,}",
    "lost, rejected, under way": lambda s, f: f"{f.lost:,}, {f.rejected:,}, {f.under_way:,}",
    "simulated time": lambda s, f: span(f.seconds),
    "a round: p50, p90, p99, most": lambda s, f: ", ".join(map(span, quantiles(f.round_seconds).values())),
    "moved (wasted)": lambda s, f: f"{size(f.moved)} ({size(f.bytes_wasted)})",
    "training (wasted)": lambda s, f: f"{span(f.work + f.work_wasted)} ({span(f.work_wasted)})",
}


def _rows(played: list[Played]) -> Iterator[list[str]]:
    for title, cell in LINES.items():
        yield [title, *(cell(scenario, figures) for scenario, figures, _ in played)]
    first = played[0][1]
    if first.losses:
        yield ["loss, fits a second", *(f"{f.losses[-1]:.4f}, {f.counted / s:,.0f}" for _, f, s in played if f.losses)]
    compared = [ratios(first, figures) for _, figures, _ in played]
    for what in compared[0] if len(played) > 1 else ():
        yield [what, *(f"{found[what]:.3g} x less" if what in found else "-" for found in compared)]
    yield ["machine events", *(f"{f.machine_events:,} ({f.machine_events / s:,.0f} a second)" for _, f, s in played)]


def _between(values: list[int]) -> str:
    return f"{min(values):,} to {max(values):,}" if values else "-"


def span(seconds: float) -> str:
    """A time for a person: `95 s`, `12.5 min`, `3.2 h`, `11 d`."""
    for unit, length, most in (("s", 1.0, 120.0), ("min", 60.0, 7200.0), ("h", 3600.0, 172_800.0)):
        if seconds < most:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds / 86_400:,.0f} d"
