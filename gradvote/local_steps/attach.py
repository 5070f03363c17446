"""Local steps of a whole model, or of its fragments in turn: `gradvote.local_steps.attach`, `attach_fragments`."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from torch import nn
from torch.optim import Optimizer

from gradvote.codecs.after_steps import AfterSteps
from gradvote.core import Algorithm
from gradvote.engines.common.arguments import check_algorithm, check_model, check_optimizers, check_whole
from gradvote.engines.common.misfits import check_constants, warn_of_inner
from gradvote.engines.common.parameters import check_modules
from gradvote.engines.common.start import given_back, outer_on
from gradvote.engines.common.torch_modes import ordinary_tensors
from gradvote.engines.common.trained import Newcomers
from gradvote.engines.common.ways import MIX
from gradvote.engines.fragments import Fragments, fragments_of
from gradvote.engines.local_steps import AGAIN, WHERE, LocalSteps, Rounds
from gradvote.engines.overlap import Delay
from gradvote.errors import unknown
from gradvote.local_steps.by_engine import ENGINES, STAYING, Delayed, exchange_of, start_for
from gradvote.staging import device_of

Engine = Callable[[nn.Module, Optimizer, Algorithm], Rounds]


def attach(
    model: nn.Module,
    optimizer: Optimizer | Sequence[Optimizer] | None,
    algorithm: Algorithm,
    *,
    every: int,
    outer: Optimizer | Callable[[list[nn.Parameter]], Optimizer],
    engine: str | Engine = "distributed",
    delay: int = 0,
    mix: float = MIX,
    **options: Any,
) -> LocalSteps:
    """Let workers take `every` steps of their own, and then vote on how far those led.

        outer = torch.optim.SGD(model.parameters(), lr=0.7, momentum=0.9, nesterov=True)
        local = gradvote.local_steps.attach(model, optimizer, gradvote.algorithms.diloco(), every=32, outer=outer)
        for x, y in batches:
            optimizer.zero_grad()
            loss(model(x), y).backward()
            optimizer.step()
            local.step()  # after each step; every 32nd time it is a round

    The pseudo-gradient start − now goes through the engine as a gradient does, and `outer`, an optimizer on the model's
    parameters or a function that makes one of parameters, steps from the start with the direction that all agreed on
    (Douillard et al. 2023, "DiLoCo", Algorithm 1). The inner `optimizer`, one or several, stays this worker's own, with
    its states: nothing of it is exchanged. None: there is none, `every` is 1, and the gradient itself is voted on.

    `engine` is "distributed" (`gradvote.distributed.Exchange`: all workers stay), "elastic" (`gradvote.elastic.attach`:
    they come and go; use `with local:`), "torchft" (`gradvote.torchft.attach`, with manager=), "fsdp" (replicas of a
    model that FSDP2 shards, with group= as in `gradvote.fsdp.attach`: each is a worker), or a function of (model, outer
    optimizer, algorithm) that gives an object with `step`, `state_dict` and `load_state_dict`. All other options are
    that engine's; a worker that joins, heals or missed a round begins at the agreed parameters.

    Raises:
        TypeError: something else than expected was given.
        ValueError: `every` is below 1, the outer optimizer has other parameters, or what the engine refuses: workers
            that differ in `every` among them.
    """
    own = {"every": every, "outer": outer, "engine": engine, "delay": delay, "mix": mix, **options}
    return _attached(model, optimizer, algorithm, **own)


@ordinary_tensors()
def _attached(
    model: nn.Module,
    optimizer: Optimizer | Sequence[Optimizer] | None,
    algorithm: Algorithm,
    *,
    every: int,
    outer: Optimizer | Callable[[list[nn.Parameter]], Optimizer],
    engine: str | Engine = "distributed",
    fragment: tuple[int, int] = (0, 1),
    inside: nn.Module | None = None,
    delay: int = 0,
    mix: float = MIX,
    **options: Any,
) -> LocalSteps:
    _check_delay(delay, mix, every, engine)
    check_model(model, WHERE)
    check_algorithm(algorithm, WHERE)
    optimizers, whole = check_optimizers(optimizer, WHERE), model if inside is None else inside
    if not optimizers:  # a way is dense, also where an inner optimizer steps on sparse gradients
        check_modules(whole)
    check_constants([whole], algorithm, [p for p in model.parameters() if p.requires_grad])
    warn_of_inner(optimizers, stacklevel=4)
    algorithm = replace(algorithm, up=AfterSteps(algorithm.up, every))
    if any(outer is own for own in optimizers):
        raise ValueError(
            "The inner and the outer optimizer are one object; give two: the inner one steps H times, the outer one "
            "once a round, for instance outer=torch.optim.SGD(model.parameters(), lr=0.7)."
        )
    _check_unit(optimizers, options.get("privacy"))
    if options.get("scaler") is not None and (optimizers or engine == "distributed"):
        raise ValueError(
            "A scaler belongs to the steps that its gradients are for, and what local steps vote on, start − now, is "
            "not scaled. Leave scaler= out, and keep scaler.step(optimizer) and scaler.update() in the loop."
        )
    if not optimizers and every != 1:
        raise ValueError(f"Without an inner optimizer the gradient itself is voted on, and every is 1; got {every}.")
    if isinstance(engine, str) and engine not in ENGINES:
        raise unknown("engine", engine, ENGINES)
    if not isinstance(engine, str) and not callable(engine):
        raise TypeError(f"engine is a name ({', '.join(ENGINES)}) or a function that makes rounds; got {engine!r}.")
    if engine == "torchft" and "manager" not in options:
        raise TypeError("engine='torchft' needs torchft's manager: attach(..., engine='torchft', manager=manager).")
    if engine == "fsdp" and "group" not in options:
        raise TypeError("engine='fsdp' needs the ranks across replicas: attach(..., group=mesh['replicate']).")
    start, (k, num) = start_for(engine, model, inside), fragment
    if engine in STAYING:
        inner = "given" if optimizers else "None"
        options["alike"] = {"every": every, "fragments": num, "delay": delay, "mix": mix, "inner optimizer": inner}
    with given_back(outer):
        stepping, ahead = outer_on(outer, model, start), k * every // num
        if delay:
            delayed = Delayed(exchange_of(str(engine), True), start, stepping, algorithm, **options)
            late = Delay(delay, mix, delayed, stepping, device_of([*start.parameters()]))
            return LocalSteps(model, start, optimizers, stepping, delayed, every, ahead, late)
        make = ENGINES[engine] if isinstance(engine, str) else engine
        rounds = make(start, stepping, algorithm, **options)
        return LocalSteps(model, start, optimizers, stepping, rounds, every, ahead)


def _check_delay(delay: int, mix: float, every: int, engine: str | Engine) -> None:
    check_whole("every", every, 1, "the number of steps to a round")
    check_whole("delay", delay, 0, "the number of steps after which a round is back")
    if isinstance(mix, bool) or not isinstance(mix, int | float):
        raise TypeError(f"mix is the share that a worker keeps of its own parameters, a number; got {mix!r}.")
    if delay and engine not in STAYING:
        raise ValueError(
            f"A delay needs workers that stay, engine='distributed' or 'fsdp'; got {engine!r}. Where workers come and "
            "go, one that joins takes over the state between two rounds, and with a delay there is always a round "
            "under way."
        )
    if delay and delay >= every:
        raise ValueError(f"A round is back before the next one is sent: 0 <= delay < every={every}; got delay={delay}.")
    if not 0 <= mix < 1:
        raise ValueError(f"mix is the share that a worker keeps of its own parameters, 0 <= mix < 1; got {mix}.")
    if mix != MIX and not delay:
        raise ValueError(
            f"mix={mix} is what a worker keeps of its own where a delayed round arrives, but delay is 0: the model "
            "goes on from what was agreed on. Give a delay, or leave mix out."
        )


def attach_fragments(
    model: nn.Module,
    optimizer: Optimizer | Sequence[Optimizer],
    algorithm: Algorithm,
    *,
    every: int,
    fragments: int,
    outer: Callable[[list[nn.Parameter]], Optimizer],
    engine: str = "distributed",
    seed: int = 0,
    delay: int = 0,
    **options: Any,
) -> Fragments:
    """`attach`, with the parameters in P `fragments` whose rounds come in turn, H/P steps apart.

        local = gradvote.local_steps.attach_fragments(model, optimizer, algorithm, every=32, fragments=4, outer=outer)

    Each fragment has a round after every H steps of its own; the peak of what travels at once is a P-th (Douillard et
    al. 2025, "Streaming DiLoCo", arXiv 2501.18512, section 2.2; here fragments are runs of consecutive parameters).
    With a `delay`, as in `attach`, a fragment's round is back before that of the next one is sent. Each has its own
    `gradvote.distributed.Exchange`, whose options go through, and an outer optimizer that `outer` makes; all workers
    stay to the end. `max_norm` bounds the way of each fragment by itself. With `engine="fsdp"` and `group` they are
    replicas of a model that FSDP2 shards, as in `attach`.

    Raises:
        TypeError: `outer` is not a function that makes an optimizer.
        ValueError: as `attach`; fewer parameters than fragments, or more fragments than steps to a round.
    """
    check_model(model, WHERE)
    if options.get("privacy") is not None:
        raise ValueError(
            "Each fragment would keep an account of its own, but a client's data cost the sum of them all. Give "
            "privacy= to gradvote.local_steps.attach, without fragments."
        )
    if engine not in STAYING:
        raise ValueError(
            f"Each fragment has an exchange of its own, of workers that stay: engine='distributed' or 'fsdp'; got "
            f"engine={engine!r}. Use one of these, or gradvote.local_steps.attach, without fragments."
        )
    check_whole("every", every, 1, "the number of steps to a round")
    check_whole("delay", delay, 0, "the number of steps after which a round is back")
    check_whole("fragments", fragments, 1, "the number of parts that vote in turn")
    if fragments > every:
        raise ValueError(f"Fragments take turns within the {every} steps of a round; got {fragments} of them.")
    if delay and delay >= every // fragments:
        raise ValueError(
            f"A fragment's round is back before the next one is sent, {every // fragments} steps later; got "
            f"delay={delay}. Use a shorter delay, or fewer fragments."
        )
    if isinstance(outer, Optimizer):
        raise TypeError(
            "Each fragment has an outer optimizer of its own: give a function, outer=lambda params: SGD(...)."
        )
    parts = []
    for k, part in enumerate(fragments_of(model, fragments)):
        own = {
            "every": every,
            "outer": outer,
            "engine": engine,
            "seed": seed * fragments + k,
            "delay": delay,
            **options,
        }
        parts.append(_attached(part, optimizer, algorithm, fragment=(k, fragments), inside=model, **own))
    return Fragments(parts, Newcomers(model.modules(), AGAIN))


def _check_unit(optimizers: Sequence[Optimizer], privacy: Any) -> None:
    """One example moves a model in every local step, and an optimizer makes of it what it likes."""
    if optimizers and getattr(privacy, "unit", "client") == "example":
        raise ValueError(
            "After local steps nobody knows how much of start − now one example has made, so unit='example' cannot be "
            "kept. Use unit='client'; or optimizer=None, every=1, with gradients of gradvote.privacy.clipped_sum."
        )
