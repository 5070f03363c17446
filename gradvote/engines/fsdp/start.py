"""The start of a round of local steps where ranks have shards of the model: what is here of it, as plain tensors."""

from collections.abc import Mapping
from copy import deepcopy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from gradvote.engines.common.optimizers import load_exactly
from gradvote.engines.common.parameters import Parameters
from gradvote.engines.common.payloads import check_alike
from gradvote.engines.common.start import START, Pair, Start
from gradvote.engines.fsdp.local import like, local_of, local_parameter, parameters_of

WHERE = "attach(model, optimizer, algorithm, engine='fsdp')"


class ShardedStart(Start):
    """The parts of a sharded model that are on this rank, and what stands for the model's own parameters.

    `wholes` are the trained parameters by name, `known` the same as an optimizer has them. Where `fragment` is given,
    which has some of the parameters under their names, it is the start of that.
    """

    whole = False

    def __init__(self, model: nn.Module, fragment: nn.Module | None = None) -> None:
        super().__init__()
        found, self.known, local = parameters_of(model, WHERE, fragment)
        self.wholes = dict(zip(local.names, found, strict=True))
        self._modules_of = [module for module in model.modules() if isinstance(module, FSDPModule)]
        self._now = partial(model.named_parameters)  # not the model itself, which would be a part of this one
        model = fragment or model
        self._sharded = {name: p for name, p in model.named_parameters() if isinstance(p, DTensor)}
        self._parts = {name: _own(p) for name, p in model.named_parameters()}
        kept = model.state_dict().keys()
        for name, own in self._parts.items():
            copy = nn.Parameter(own.detach().clone().as_subclass(Tensor), requires_grad=name in self.wholes)
            self.place(name, copy, True, share=True)
        for name, buffer in model.named_buffers():
            self.place(name, buffer, name in kept)

    def pairs(self, model: nn.Module) -> list[Pair]:
        there = dict(self.named_parameters())
        return [Pair(name, self._parts[name], there[name], p) for name, p in model.named_parameters()]

    def trained(self, model: nn.Module, where: str) -> Parameters:
        return self.known

    def settle(self) -> None:
        """Whole parameters that a forward pass has left are let go.

        Raises:
            ValueError: the shards are other tensors than at the start.
        """
        for module in self._modules_of:
            module.reshard()
        now = dict(self._now())
        for name, whole in self._sharded.items():
            if now.get(name) is not whole or local_of(whole).data_ptr() != self._parts[name].data_ptr():
                raise ValueError(
                    f"The shard of {name!r} is another tensor than when the local steps were attached (the model was "
                    "moved, converted, or a state was loaded with assign=True). Do that first, then attach."
                )

    def saved(self, outer: Optimizer) -> dict[str, Any]:
        """As DTensors, sharded like the parameters: torch.distributed.checkpoint moves them to other shards."""
        values = super().saved(outer)
        start = {n: like(self._sharded[n], v) if n in self._sharded else v for n, v in values["start"].items()}
        groups = values["outer"]["param_groups"]
        states = {self._name(p): state for p, state in (outer.state or _begun(outer)).items()}
        own = {n: {key: self._whole(n, value) for key, value in state.items()} for n, state in states.items()}
        return {"start": start, "outer": {"param_groups": groups, "state": own}}

    def check(self, saved: Mapping[str, Any]) -> None:
        check_alike(_parts_of(saved["start"]), dict(self.state_dict()), START)
        held = {name: _parts_of(state) for name, state in saved["outer"]["state"].items()}
        for name, state in held.items():
            for value in state.values():
                if isinstance(value, Tensor) and value.dim() and value.shape != self._parts[name].shape:
                    raise ValueError(
                        f"The outer optimizer's state of {name!r} has the shape {tuple(value.shape)} on this rank; its "
                        f"shard here has {tuple(self._parts[name].shape)}. Load it with torch.distributed.checkpoint."
                    )

    def load(self, saved: Mapping[str, Any], outer: Optimizer) -> None:
        self.load_state_dict(_parts_of(saved["start"]))
        places = {self._name(p): i for i, p in enumerate(p for group in outer.param_groups for p in group["params"])}
        state = {places[name]: _parts_of(own) for name, own in saved["outer"]["state"].items()}
        load_exactly(outer, deepcopy({"param_groups": saved["outer"]["param_groups"], "state": state}))

    def _name(self, p: Tensor) -> str:
        return next(name for name, own in self.named_parameters() if own is p)

    def _whole(self, name: str, value: Any) -> Any:
        """What an optimizer has for each coordinate of a shard goes with the coordinates."""
        if isinstance(value, Tensor) and value.dim() and value.shape == self._parts[name].shape:
            return like(self.wholes[name], value.detach().clone())
        return deepcopy(value)


def _own(p: Tensor) -> Tensor:
    """What is here of a parameter; those that are not sharded, and so not trained, are everywhere."""
    return local_parameter(p) if isinstance(p, DTensor) else p


def _parts_of(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: local_of(value) if isinstance(value, DTensor) else value for key, value in values.items()}


def _begun(outer: Optimizer) -> dict[Tensor, dict[str, Any]]:
    """What an optimizer will keep, empty: without it a checkpoint of another run would find no place for its states.

    As torch does it, by a step that moves nothing; of a copy.
    """
    copy = deepcopy(outer)
    params = [[p for group in each.param_groups for p in group["params"]] for each in (outer, copy)]
    for group in copy.param_groups:
        group["lr"] = torch.zeros_like(group["lr"]) if isinstance(group["lr"], Tensor) else 0.0
    for p in params[1]:
        p.grad = torch.zeros_like(p)
    copy.step()
    return {p: _emptied(copy.state[twin]) for p, twin in zip(*params, strict=True)}


def _emptied(state: Mapping[str, Any]) -> dict[str, Any]:
    return {key: torch.zeros_like(value) if isinstance(value, Tensor) else value for key, value in state.items()}
