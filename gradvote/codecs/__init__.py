"""Codecs: vectors to payloads and back."""

from gradvote.codecs import all_rows as all_rows
from gradvote.codecs import fast_paths as fast_paths
from gradvote.codecs.chain import Chain, chain
from gradvote.codecs.dense import Dense
from gradvote.codecs.error_feedback import ErrorFeedback
from gradvote.codecs.masked import Masked
from gradvote.codecs.sign import Sign
from gradvote.codecs.wrapper import WrapperCodec

__all__ = ["Chain", "Dense", "ErrorFeedback", "Masked", "Sign", "WrapperCodec", "all_rows", "chain", "fast_paths"]
