"""Law 10: ranks never part unseen. A difference stops all of them with one sentence, before anything is applied."""

from typing import Any

import pytest
import torch
from torch import nn

from gradvote.engines.common.parameter_check import UNCHECKED, ParameterCheck, usual
from gradvote.engines.distributed.comparison import is_early
from tests.engines import parting_workers
from tests.forked import spawn

MOST = "held other parameters than most"


@pytest.fixture(scope="module")
def ranks() -> list[Any]:
    return spawn(parting_workers.everything, 3)


STOPPED = {
    "clips weights": (2, f"rank 1 {MOST}: '0.weight' and 2 more"),
    "loads a checkpoint": (2, f"rank 0 {MOST}: '0.weight' and 2 more"),
    "ties weights": (2, f"rank 2 {MOST}: '4.weight'"),
    "another rate": (4, f"rank 1 {MOST}: '0.weight' and 2 more"),
    "a momentum": (4, f"rank 1 {MOST}: '4.bias'"),
    "every rank has its own": (2, "the parameters differed between rank 0 and rank 1 and rank 2: '0.weight'"),
    "two alike": (2, f"rank 1 {MOST}: '0.weight' and 2 more"),
    "the last coordinate": (3, f"rank 1 {MOST}: '4.weight'. "),
    "a replicated server's memory": (4, f"rank 1 {MOST}: '4.weight'"),
}


@pytest.mark.parametrize("behind_ddp", [False, True], ids=["exchange", "ddp"])
def test_a_difference_stops_all_ranks_with_one_sentence(ranks: list[Any], behind_ddp: bool) -> None:
    """After step 1. Beginnings of parameters are compared before the steps 0, 1, 2, 4, the rest before the third."""
    for name, (step, who) in STOPPED.items():
        if (name, behind_ddp) in ranks[0]["found"]:
            said = [own["found"][name, behind_ddp] for own in ranks]
            assert [at for at, _ in said] == [step] * 3, (name, said)
            said = [(at, text[text.index("Before") :].partition("\n")[0]) for at, text in said]
            assert all(text == said[0][1] for _, text in said) and f"Before step {step} {who}" in said[0][1], said
            assert "Nothing was applied in this step. All ranks must change them alike" in said[0][1]


@pytest.mark.parametrize("name", ["a worker's memory", "a server's memory", "switched off"])
def test_what_parts_nobody_stops_nobody(ranks: list[Any], name: str) -> None:
    """A worker's memory is its own vote; that of a shard's server gives all the same decision."""
    for own in ranks:
        assert own["found"][name, False] == (parting_workers.STEPS, "")
    assert ranks[0]["found"]["switched off", True] == (parting_workers.STEPS, "")


def test_ranks_that_compare_at_other_times_are_not_built(ranks: list[Any]) -> None:
    assert all("check_parameters_every" in own["options"] for own in ranks)


def test_when_it_is_time() -> None:
    assert [num for num in range(40) if is_early(num, 10)] == [0, 1, 2, 4, 8]
    assert not any(is_early(num, None) for num in range(40))


def parameters() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = ((70, 40), (), (0,), (33, 8, 3, 3), (5,))
    found = [torch.randn(shape, generator=generator) for shape in shapes]
    found[3] = found[3].to(memory_format=torch.channels_last)
    return [*found, torch.randn(4000, generator=generator).bfloat16()]


def test_every_bit_of_every_parameter_is_in_a_part() -> None:
    """Of whatever shape, type and memory format; one turned bit changes the digest of one part alone."""
    params = parameters()
    check = ParameterCheck([f"p{i}" for i in range(len(params))], params, 500)
    assert check.num_parts == sum(p.numel() for p in params) // 1024 > 3
    before = [check.digest(step) for step in range(check.num_parts)]
    assert before == [check.digest(step + check.num_parts) for step in range(check.num_parts)]
    for i, p in enumerate(params):
        for place in {0, p.numel() // 2, p.numel() - 1} if p.numel() else ():
            at = p if p.dim() == 0 else p[tuple(int(k) for k in torch.unravel_index(torch.tensor(place), p.shape))]
            whole = {2: torch.int16, 4: torch.int32}[p.itemsize]
            for bit in (0, 8 * p.itemsize - 1):
                mask = -1 << bit if bit else 1
                at.view(whole).bitwise_xor_(mask)
                changed = [step for step, known in enumerate(before) if check.digest(step) != known]
                at.view(whole).bitwise_xor_(mask)
                assert len(changed) == 1 and i in [k for k, _, _ in check._pieces(changed[0])], (i, place, bit)
    assert [check.digest(step) for step in range(check.num_parts)] == before


def test_memory_formats_have_the_same_digests() -> None:
    model, other = (nn.Conv2d(32, 32, 3) for _ in range(2))
    other.load_state_dict(model.state_dict())
    other.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's own has it
    checks = [ParameterCheck(["w", "b"], [*net.parameters()], 500) for net in (model, other)]
    assert all(checks[0].digest(step) == checks[1].digest(step) for step in range(checks[0].num_parts))


def test_nothing_is_looked_at_where_it_is_switched_off() -> None:
    check = ParameterCheck(["w"], [torch.zeros(9)], None)
    assert check.digest(3) == UNCHECKED
    for wrong in (0, -1, True, 2.5, "often"):
        with pytest.raises(ValueError, match="check_parameters_every is the number of steps"):
            ParameterCheck(["w"], [torch.zeros(9)], wrong)  # type: ignore[arg-type]  # that is what is tested


def test_a_majority_is_more_than_half() -> None:
    assert usual({1: b"a", 2: b"a", 3: b"b"}) == b"a"
    assert usual({1: b"a", 2: b"b"}) is None and usual({1: b"a", 2: b"a", 3: b"b", 4: b"c"}) is None
