"""Local steps by fragments: the parameters are cut into parts, whose rounds come in turn."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import nn

from gradvote.engines.common import owners
from gradvote.engines.common.handles import Handle
from gradvote.engines.common.recipe import check_mapping
from gradvote.engines.common.start import Start
from gradvote.engines.common.trained import Newcomers
from gradvote.engines.local_steps import LocalSteps


def fragments_of(model: nn.Module, num: int) -> list[Start]:
    """The model's own parameters in `num` runs of about equal size, in their order.

    Buffers and frozen parameters go with the first: they begin alike, and one that is unfrozen is found.

    Raises:
        ValueError: there are fewer parameters that can be trained than fragments.
    """
    owners.warn_of_statistics(model.modules(), owners.APART, stacklevel=3)
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    if not 1 <= num <= len(named):
        raise ValueError(f"A model of {len(named)} trained parameters has 1 to {len(named)} fragments; got {num}.")
    total, done, parts, kept = sum(p.numel() for _, p in named), 0, [Start() for _ in range(num)], model.state_dict()
    for i, (name, p) in enumerate(named):
        at = max(min(done * num // max(total, 1), num - 1), num - len(named) + i)
        parts[min(at, i)].place(name, p, True, share=True)
        done += p.numel()
    for name, p in model.named_parameters():
        if not p.requires_grad:
            parts[0].place(name, p, True, share=True)
    for name, buffer in model.named_buffers():
        parts[0].place(name, buffer, name in kept, share=True)
    return parts


class Fragments(Handle):
    """What `gradvote.local_steps.attach_fragments` returns: local steps of each fragment, which begin H/P steps apart.

    `parts` are these local steps, each with its engine and its outer optimizer.
    """

    def __init__(self, parts: Sequence[LocalSteps], newcomers: Newcomers) -> None:
        self.parts, self._newcomers = tuple(parts), newcomers

    def step(self) -> bool:
        """Count a step of the optimizer, and vote on the fragment whose round ends with it; whether there was one.

        With a delay: whether the outcome of one has arrived.
        """
        if any(part.left == 1 for part in self.parts):
            self._newcomers.check_model()
        return any([part.step() for part in self.parts])  # noqa: C419  # each of them counts

    def finish(self) -> bool:
        """As `LocalSteps.finish`, of all fragments."""
        return any([part.finish() for part in self.parts])  # noqa: C419  # each of them is asked

    @contextmanager
    def agreed(self) -> Iterator[None]:
        """As `LocalSteps.agreed`, of all fragments."""
        with ExitStack() as stack:
            for part in self.parts:
                stack.enter_context(part.agreed())
            yield

    def _told(self) -> tuple[str, object]:
        return f"{len(self.parts)} parts, of which the first is", self.parts[0]

    def state_dict(self) -> dict[str, Any]:
        """The states of all fragments; save model and inner optimizer beside it."""
        return {"fragments": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue, bit for bit, where `state_dict` was taken.

        Raises:
            ValueError: it was saved for something else; nothing has been changed.
        """
        check_mapping(state)
        saved = state.get("fragments", ())
        if len(saved) != len(self.parts):
            raise ValueError(f"The state to load has {len(saved)} fragments; here there are {len(self.parts)}.")
        for part, own in zip(self.parts, saved, strict=True):
            part.check(own)
        for part, own in zip(self.parts, saved, strict=True):
            part.load_state_dict(own)
