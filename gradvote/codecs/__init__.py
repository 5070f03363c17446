"""Codecs: vectors to payloads and back.

A map. `dense` sends numbers as they are, `quantized` in 8 bits, `sign` in one, `masked` some of the signs, `top_k` the
largest coordinates. Around another codec (`wrapper`): `chain` puts transforms in front, `error_feedback` remembers what
was not sent and `decaying_feedback` fades, `rounded` keeps states in half the memory, `sized` gives decisions a length,
`after_steps` says how many local steps a ballot stands for. `fast_paths` is the table of shortcuts.
"""

from gradvote.codecs import all_rows as all_rows
from gradvote.codecs import fast_paths as fast_paths
from gradvote.codecs.after_steps import AfterSteps
from gradvote.codecs.chain import Chain, chain
from gradvote.codecs.decaying_feedback import DecayingFeedback
from gradvote.codecs.dense import Dense
from gradvote.codecs.error_feedback import ErrorFeedback
from gradvote.codecs.masked import Masked
from gradvote.codecs.quantized import Quantized
from gradvote.codecs.rounded import Rounded
from gradvote.codecs.sign import Sign
from gradvote.codecs.sized import Sized
from gradvote.codecs.top_k import TopK
from gradvote.codecs.wrapper import WrapperCodec

__all__ = [
    "AfterSteps",
    "Chain",
    "DecayingFeedback",
    "Dense",
    "ErrorFeedback",
    "Masked",
    "Quantized",
    "Rounded",
    "Sign",
    "Sized",
    "TopK",
    "WrapperCodec",
    "all_rows",
    "chain",
    "fast_paths",
]
