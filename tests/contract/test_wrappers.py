"""A codec around another one forgets no member of `Codec`: found by looking, so that a new member is found, too."""

import inspect
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import Any, get_type_hints

import pytest
import torch
from torch import Tensor

from gradvote import codecs
from gradvote.codecs import Sign, WrapperCodec
from gradvote.core import Codec, Context, Payload, State
from tests.contract.parts import CODECS, classes
from tests.plugins.ef21_plugin.codecs import ef21

MEMBERS = sorted(name for name in dir(Codec) if not name.startswith("_"))
OWN = {"encode"}
"""What each wrapper must say itself."""


@dataclass(frozen=True)
class Around(WrapperCodec):
    """A wrapper that changes nothing."""

    codec: Codec

    def encode(self, x: Tensor, state: State, ctx: Context) -> tuple[Payload, State]:
        return self.codec.encode(x, state, ctx)


@dataclass(frozen=True)
class Forgetful(Codec):
    """A wrapper of the old kind."""

    codec: Codec
    encode = Around.encode
    decode = WrapperCodec.decode
    planes = WrapperCodec.planes


def asked(members: list[str]) -> tuple[Codec, list[str]]:
    """A codec that writes down which of its members are used."""
    seen: list[str] = []

    def method(name: str) -> Any:
        def called(self: object, *args: object, **given: object) -> dict[str, object]:
            seen.append(name)
            return {"from": name}

        return called

    made = {name: method(name) for name in members}
    made = {n: property(m) if isinstance(getattr(Codec, n), property) else m for n, m in made.items()}
    return type("Asked", (Codec,), made)(), seen


def use(codec: Codec, name: str) -> object:
    """Use a member, with something of the right name for each argument."""
    found = getattr(codec, name)
    if not inspect.ismethod(found):
        return found
    state = {"inner": {"held": 1}}
    return found(**dict.fromkeys(inspect.signature(found).parameters, state))


def forgotten(wrapper: type[Any]) -> set[str]:
    """The members of the codec inside that are not used when one's own are."""
    left = set()
    for name in MEMBERS:
        inner, seen = asked(MEMBERS)
        with suppress(AttributeError):
            use(wrapper(inner), name)
        if seen != [name]:
            left.add(name)
    return left


def test_each_member_is_passed_on() -> None:
    assert len(MEMBERS) > 12 and {"reader", "reports", "undelivered", "merge", "mirrored"} <= set(MEMBERS)
    assert forgotten(Around) == set()


def test_a_forgotten_member_is_found() -> None:
    assert forgotten(Forgetful) == set(MEMBERS) - {"encode", "decode", "planes"}


def test_a_wrapper_has_all_members_of_its_own_but_encode() -> None:
    assert set(MEMBERS) - vars(WrapperCodec).keys() == OWN == WrapperCodec.__abstractmethods__


@pytest.mark.parametrize("kind", [*classes(codecs), ef21.Estimate, ef21.Accumulated], ids=lambda k: k.__name__)
def test_what_holds_a_codec_is_a_wrapper(kind: type[Any]) -> None:
    hints = get_type_hints(kind)
    held = [f.name for f in fields(kind) if inspect.isclass(hints[f.name]) and issubclass(hints[f.name], Codec)]
    assert held == (["codec"] if issubclass(kind, WrapperCodec) else [])


@pytest.mark.parametrize("codec", [c for g in CODECS.values() for c in g if isinstance(c, WrapperCodec)], ids=repr)
def test_the_state_inside_is_where_it_says(codec: WrapperCodec) -> None:
    like = torch.zeros(1, 2, 3)
    state, inner = codec.init(like), codec.codec.init(like)
    assert (state if codec.INNER is None else state[codec.INNER]).keys() == inner.keys()


def test_only_who_reads_alike_has_the_reader_inside() -> None:
    class Own(Around):
        def decode(self, payload: Payload, ctx: Context, n: int) -> Tensor:
            return -self.codec.decode(payload, ctx, n)

    class Further(Own):
        pass

    sign = Sign()
    assert Around(Around(sign)).reader is sign
    for wrapper in (Own(sign), Further(sign)):
        assert wrapper.reader is wrapper and Around(wrapper).reader is wrapper
