"""`gradvote demo`: the project's story in two scenes, on real handwriting that ships with scikit-learn."""

import os
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter
from rich.console import Console

from gradvote.lab.cli.showing import command, write
from gradvote.lab.files import check_page
from gradvote.lab.report import Scene, load_run
from gradvote.lab.report.console import table
from gradvote.lab.train import Config, RunFolder

INTRO = (
    "Five workers train one network (64-128-10, ReLU) on scikit-learn's handwritten digits. In each step every worker "
    "sends its gradient, or one bit per coordinate of it, and gets one decision back. All bytes were really encoded, "
    "checked and counted."
)
HETEROGENEOUS = (
    "Each worker holds two of the ten digits that no other worker has, and uses all of its samples in each step. The "
    "median of five such gradients, and the vote on their signs, is not their mean: signSGD and medianSGD stall where "
    "the true gradient is far from zero. A little noise before the vote or the median closes that gap."
)
FAULTY = (
    "The digits are spread evenly. The link of worker 0 multiplies what it carries by −1000, and worker 1 returns NaN. "
    "Its ballots abstain, are counted and named. The mean is lost to the one link; the vote and the median go on."
)
FIRST: dict[str, dict[str, Any]] = {
    "sgd": {"lr": 0.5},
    "signsgd": {"lr": 1e-3},
    "noisy-signsgd": {"lr": 1e-3, "options": {"noise_std": 0.01}},
    "mediansgd": {"lr": 0.5},
    "noisy-mediansgd": {"lr": 0.5, "options": {"noise_std": 0.1}},
}
SECOND: dict[str, dict[str, Any]] = {
    "sgd": {"lr": 0.5},
    "signsgd": {"lr": 1e-3},
    "mediansgd": {"lr": 0.5},
}
FAULTS: tuple[dict[str, Any], ...] = (
    {"fault": "rescale", "factor": -1000.0, "place": "uplink", "workers": (0,)},
    {"fault": "nan", "place": "worker", "workers": (1,)},
)


def register(app: App) -> None:
    """Add the command."""
    app.command(demo, name="demo")


def demo(
    *,
    out: Annotated[Path, Parameter(help="Folder of the demo's runs and report.")] = Path("runs/demo"),
    steps: Annotated[int, Parameter(help="Steps of the first scene; the second has a quarter.")] = 1200,
    seed: Annotated[int, Parameter(help="Seed of everything random.")] = 0,
) -> int:
    """Mean SGD learns, votes and medians stall, noise repairs them; one bad link ruins the mean, not the vote."""
    console = Console(highlight=False)
    shared: dict[str, Any] = {"workers": 5, "seed": seed, "mode": "vectorized"}
    first = {k: Config(algorithm=k, steps=steps, partition="by-class", **shared, **v) for k, v in FIRST.items()}
    short = max(1, steps // 4)
    second = {
        k: Config(algorithm=k, steps=short, partition="iid", faults=FAULTS, **shared, **v) for k, v in SECOND.items()
    }
    plan = (
        ("Every worker has other digits", HETEROGENEOUS, _placed(first, out / "heterogeneous")),
        ("One bad link, one broken worker", FAULTY, _placed(second, out / "faulty")),
    )
    check_page(out / "report.html")
    for folder in (folder for _, _, configs in plan for folder in configs):
        RunFolder(folder).check(overwrite=True)
    from gradvote.lab.cli.side_by_side import Crew

    scenes: list[Scene] = []
    with Crew(os.cpu_count() or 1) as crew:
        for _, _, configs in plan:
            crew.submit(configs, command())
        for title, text, configs in plan:
            console.print(f"\n[bold]{title}[/]\n{text}")
            runs = crew.watch(configs, console)
            scenes.append(Scene(title, text, tuple(load_run(run.place.path) for run in runs)))
            console.print(table(scenes[-1].runs))
            if len(runs) < len(configs) or any(run.status == "interrupted" for run in runs):
                console.print("Stopped.")
                return 130
    console.print()
    write(scenes, out / "report.html", "gradvote: the mean, the vote and the median", console, INTRO)
    return 0


def _placed(configs: dict[str, Config], folder: Path) -> dict[Path, Config]:
    return {folder / label: config for label, config in configs.items()}
