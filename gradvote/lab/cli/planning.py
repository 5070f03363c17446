"""`gradvote plan`: what an exchange will cost, and whether compression pays."""

import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter
from rich.console import Console
from rich.table import Table

from gradvote import algorithms as catalogue
from gradvote.arguments import parse_spec
from gradvote.lab import quantities
from gradvote.lab.cli.options import check_known

if TYPE_CHECKING:
    from gradvote.core import Algorithm
    from gradvote.lab.memory import Memory
    from gradvote.lab.plan import Plan, Prediction

Sizes = Mapping[tuple[str, str], "Memory"]
"""What is needed, by algorithm and placement."""
TITLE = "GB of memory beside parameters and gradients, kept / peak"
ELASTIC = "The same for a member of an elastic run"


def register(app: App) -> None:
    """Add the command."""
    app.command(plan, name="plan")


def plan(
    algorithms: Annotated[
        tuple[str, ...],
        Parameter(
            help="Which to compare: NAME, or NAME:key=value,... By default signsgd, dropsignsgd, dist-ef-sgdm and "
            "ef-signsgd.",
            negative=(),
            show_default=False,
        ),
    ] = (),
    /,
    *,
    params: Annotated[str, Parameter(help="Parameters of the model, for instance 25.6M.")],
    workers: Annotated[int, Parameter(help="Number of workers M.")],
    bandwidth: Annotated[
        str, Parameter(help="Each worker's link, in each direction, for instance 100Mbit or 12.5MB/s.")
    ],
    latency: Annotated[str, Parameter(help="One-way latency, for instance 20ms.")] = "0ms",
    compute: Annotated[str, Parameter(help="Forward and backward pass of a step, for instance 0.3s.")] = "0s",
    local_steps: Annotated[int, Parameter(help="Steps of each worker's own to a round of an algorithm.")] = 1,
    fragments: Annotated[int, Parameter(help="With --local-steps: parts that have their rounds in turn.")] = 1,
    delay: Annotated[int, Parameter(help="With --local-steps: steps during which a round travels.")] = 0,
    state_dtype: Annotated[str, Parameter(help="Type of momenta and memories: float32, bfloat16.")] = "float32",
    shards: Annotated[int, Parameter(help="Ranks over which each worker shards the model; they share its link.")] = 1,
) -> None:
    """Predict the time of a step for each algorithm and placement, say whether compression pays, and recommend a way.

    The work of packing, voting and unpacking is measured here; bytes are those of one rank, and with what it needs in
    memory beside parameters and gradients they follow from the formats.
    """
    rate, delay_of_link = quantities.bandwidth(bandwidth), quantities.seconds(latency)
    d, seconds = quantities.count(params), quantities.seconds(compute)
    specs = {spec: parse_spec(spec) for spec in algorithms}
    for name, own in specs.values():
        check_known(name, own, catalogue.option_names(name))
    from gradvote.lab.advice import Way, advise, sentence
    from gradvote.lab.plan import DEFAULT, Link, Plan, check_plan, measure, predict
    from gradvote.rounding import with_state_dtype

    link = Link(rate, delay_of_link)
    check_plan(d, workers, link, seconds, local_steps, shards, fragments, delay)
    specs = specs or {name: (name, {}) for name in DEFAULT}
    made = {spec: with_state_dtype(_created(*own), state_dtype) for spec, own in specs.items()}

    console = Console(highlight=False)
    with console.status("Measuring the work of each algorithm here"):
        work = {name: measure(algorithm) for name, algorithm in made.items()}

    def plan_of(way: Way) -> Plan:
        return predict(
            d, workers, link, seconds, made, work=work, every=way.every, shards=shards,
            fragments=way.fragments, delay=way.delay,
        )  # fmt: skip

    found = plan_of(Way(local_steps, fragments, delay))
    console.print(  # what was read: who forgets a unit sees it here
        f"{d:,} parameters, {workers} workers, {quantities.rate(rate)} each way, latency {_seconds(delay_of_link)}"
    )
    console.print(_table(found))
    console.print(_sizes(TITLE, {(p.name, p.placement): p.memory for p in found.predictions if p.memory.peak}))
    members = _of_members(made, d, workers) if shards == 1 else {}  # such a run takes no sharded models
    if members:
        console.print(_sizes(ELASTIC, members))
    console.print(_verdict(found))
    console.print(sentence(advise(plan_of, seconds), seconds, shards, _seconds))


def _created(name: str, own: Mapping[str, Any]) -> "Algorithm":
    """An algorithm as it was written; what a step of it costs does not depend on its rate."""
    return catalogue.create(name, **{key: value for key, value in own.items() if key != "lr"})


def _table(found: "Plan") -> Table:
    table = Table(box=None, header_style="bold", padding=(0, 1))
    for title in ("Algorithm", "Placement"):
        table.add_column(title, no_wrap=True)
    for title in ("MB sent", "wire", "work", "exchange", "step"):
        table.add_column(title, justify="right")
    for p in found.predictions:
        figures = (f"{p.bytes_sent / 1e6:.3g}", *(_seconds(s) for s in (p.wire, p.work, p.exchange, p.step)))
        table.add_row(p.name, p.placement, *figures, style="bold green" if p is found.best else None)
    return table


def _of_members(made: Mapping[str, "Algorithm"], params: int, workers: int) -> Sizes:
    """What a member of an elastic run needs, of those that such a run can have."""
    from gradvote.engines.common.arguments import check_members, check_rule
    from gradvote.lab.memory import elastic_memory
    from gradvote.lab.plan import bits_of

    found: dict[tuple[str, str], Memory] = {}
    for name, algorithm in made.items():
        for place in ("replicated", "sharded"):
            with contextlib.suppress(ValueError):  # such a run refuses it
                check_members(algorithm)
                check_rule(algorithm, place)
                found[name, place] = elastic_memory(algorithm, params, workers, bits_of(algorithm), placement=place)
    return found


def _sizes(title: str, sizes: Sizes) -> Table:
    table = Table(box=None, header_style="bold", padding=(0, 1), title=title, title_justify="left")
    table.add_column("Algorithm", no_wrap=True)
    places = sorted({place for _, place in sizes})
    for place in places:
        table.add_column(place, justify="right")
    for name in dict.fromkeys(name for name, _ in sizes):
        own = (sizes.get((name, place)) for place in places)
        table.add_row(name, *("" if m is None else f"{m.kept / 1e9:.3g} / {m.peak / 1e9:.3g}" for m in own))
    return table


def _verdict(found: "Plan") -> str:
    from gradvote.lab.plan import ALL_REDUCE

    best, plain = found.best, _plain(found)
    if not found.pays:
        said = f"Compression does not pay here: {plain.name} needs {_seconds(plain.step)}, the fastest vote"
        return f"{said} {_seconds(min(p.step for p in found.predictions if p.placement != ALL_REDUCE))}."
    return (
        f"{best.name} ({best.placement}) needs {_seconds(best.step)}, {plain.step / best.step:.1f} times less than "
        f"{plain.name} with {_seconds(plain.step)}."
    )


def _plain(found: "Plan") -> "Prediction":
    from gradvote.lab.plan import ALL_REDUCE

    return min((p for p in found.predictions if p.placement == ALL_REDUCE), key=lambda p: p.step)


def _seconds(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds >= 1 else f"{seconds * 1e3:.3g} ms"
