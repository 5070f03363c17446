"""Ballots that stand for several steps: the recipe says for how many, so that who took others is refused."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from gradvote.codecs.dense import Dense
from gradvote.codecs.error_feedback import ErrorFeedback
from gradvote.codecs.sign import Sign
from gradvote.codecs.wrapper import WrapperCodec
from gradvote.core import Codec, Context, Payload, State


@dataclass(frozen=True)
class AfterSteps(WrapperCodec):
    """The codec inside, for an update that `every` local steps of a worker came to. Bits as of that codec.

    It changes nothing of what is sent. Its `repr` is part of the recipe by which workers know each other and by which
    a checkpoint is known again, in every engine.
    """

    codec: Codec
    every: int = 1
    INNER: ClassVar[None] = None

    def __post_init__(self) -> None:
        if not isinstance(self.every, int) or isinstance(self.every, bool) or self.every < 1:
            raise ValueError(f"A round comes after a whole number of steps, at least 1; got every={self.every!r}.")

    def encode(self, x: Tensor, state: State, ctx: Context) -> tuple[Payload, State]:
        return self.codec.encode(x, state, ctx)


SAMPLES = (AfterSteps(Sign(), 8), AfterSteps(ErrorFeedback(Sign("l1")), 32), AfterSteps(Dense()))
