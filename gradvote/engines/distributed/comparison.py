"""Ranks whose parameters have parted: found by digests of whole parameters, in one small collective call.

And ranks that have loaded a state which others have not: found there, or by the group's store where it is not time yet.
"""

from collections.abc import Sequence

import torch

from gradvote.engines.common.errors import ParametersDiffer
from gradvote.engines.common.parameter_check import check_every, digests_of
from gradvote.engines.common.parameters import Parameters
from gradvote.engines.distributed.failures import Watch
from gradvote.engines.distributed.transport import Transport
from gradvote.staging import CPU
from gradvote.wire import WireError

EARLY = 4096
"""The first coordinates of each parameter, which are compared often while a run is young."""
CAUSES = (
    "All ranks must change them alike: a value that is set, clipped, tied or loaded on some ranks only makes models "
    "part, and so do other learning rates, optimizers or machines that round otherwise, or a bit that turned in a "
    "memory. Start again from the last checkpoint, or pass check_parameters_every=None where it is meant."
)


class Comparison:
    """Compares the parameters of all ranks before every `every`-th vote since it was built (None: never).

    Before the votes 0, 1, 2, 4, 8, ... the beginnings of the parameters are compared: what a script does on one rank
    only shows there, and soon. The digest is BLAKE2b (8 bytes, no key) of each parameter, 1.7 ns for each byte. Buffers
    and frozen parameters are not looked at. `watch` knows the numbers by which the ranks of the group are told of.

    Raises:
        ValueError: `every` is no number of steps.
    """

    def __init__(self, transport: Transport, parameters: Parameters, every: int | None, watch: Watch) -> None:
        check_every(every)
        self._ranks, self._watch = watch.ranks, watch
        self._transport, self._parameters, self._every, self._num = transport, parameters, every, 0

    def look(self, step: int, came_from: int | None) -> None:
        """All ranks ask before each vote, also where it is not time yet; `came_from`, where one has loaded a state.

        Nothing is sent before that is known: sizes of ballots may depend on the step, and gloo ends a process that
        receives a message of another size than it expects.

        Raises:
            ParametersDiffer: they have parted; all ranks raise it.
            WireError: they are at different steps. Where parameters are compared all ranks raise it, at other votes
                those that have loaded a state, and the others hear of it.
        """
        num, self._num = self._num, self._num + 1
        whole = self._every is not None and num > 0 and num % self._every == 0
        if whole or is_early(num, self._every):
            own = digests_of(self._parameters.tensors, None if whole else EARLY)
            found = self._transport.gather(torch.tensor([*own, step], device=CPU))
            self._check(found[:, -1].tolist())
            said = found[:, :-1]
            if bool((said != said[0]).any()):
                raise ParametersDiffer(self._sentence(said.tolist(), step))
        elif came_from is not None:
            self._check(self._watch.loaded(num, step, came_from, self._transport.timeout))

    def _check(self, steps: Sequence[int]) -> None:
        other = next((i for i, step in enumerate(steps) if step != steps[0]), None)
        if other is not None:
            raise WireError(
                f"Rank {self._ranks[other]} is at step {steps[other]}, but rank {self._ranks[0]} at step {steps[0]}. "
                "All ranks must exchange equally often, and load_state_dict is called on all of them, each with the "
                "file that it has saved itself at the same step."
            )

    def _sentence(self, said: list[list[int]], step: int) -> str:
        names = self._parameters.names
        different = [names[i] for i in range(len(names)) if len({row[i] for row in said}) > 1]
        camps: dict[tuple[int, ...], list[str]] = {}
        for rank, row in enumerate(said):
            camps.setdefault(tuple(row), []).append(str(self._ranks[rank]))
        most, *others = sorted(camps.values(), key=len, reverse=True)
        if 2 * len(most) > len(said):
            who = (
                f"rank {' and rank '.join(', '.join(camp) for camp in sorted(others))} held other parameters than most"
            )
        else:
            sides = " and ".join(f"rank {', '.join(camp)}" for camp in sorted(camps.values()))
            who = f"the parameters differed between {sides}"
        more = f" and {len(different) - 1} more" if len(different) > 1 else ""
        return f"Before step {step} {who}: {different[0]!r}{more}. Nothing was applied in this step. {CAUSES}"


def is_early(num: int, every: int | None) -> bool:
    """Whether the vote `num` (from 0) is one of 0, 1, 2, 4, 8, ... before `every`."""
    return every is not None and num < every and num & (num - 1) == 0
