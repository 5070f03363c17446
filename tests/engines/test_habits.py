"""Ordinary habits of training scripts have the outcome that plain DDP has, or are answered by one sentence."""

from typing import Any

import pytest
import torch

from tests.engines import habit_workers, script_workers, stage_workers, terms_workers, test_terms, voters_workers
from tests.forked import spawn


@pytest.fixture(scope="module")
def ranks() -> list[Any]:
    return spawn(everything, 2)


def everything() -> dict[str, Any]:
    kinds = (habit_workers, voters_workers, script_workers, stage_workers, terms_workers)
    return {name: found for kind in kinds for name, found in kind.everything().items()}


def test_several_votes_for_one_step_add_up(ranks: list[Any]) -> None:
    """Bit for bit, behind every kind of DDP, and told once."""
    for rank, own in enumerate(ranks):
        for name, (found, expected, said) in own["several_votes"].items():
            assert torch.equal(found, expected), (rank, name)
            assert len(said) == 1 and said[0].startswith("Several votes for one step"), (rank, name, said)


def test_a_bound_has_the_same_bits_in_every_engine(ranks: list[Any]) -> None:
    for rank, own in enumerate(ranks):
        for name, (found, expected) in own["bounded"].items():
            assert torch.equal(found, expected), (rank, name)


def test_what_nobody_voted_on_does_not_move(ranks: list[Any]) -> None:
    for own in ranks:
        assert own["undecided"] == dict.fromkeys(("exchange", "ddp", "views"), (False, 0.0))


def test_a_step_on_which_nobody_voted_is_none(ranks: list[Any]) -> None:
    """With a scaler it is skipped like an overflow: the scale shrinks."""
    for own in ranks:
        for name, (finite, moved, scale) in own["all_abstain"].items():
            assert finite and moved == 0.0, name
            assert scale == (512.0 if "enabled" in name else 1.0), name


def test_all_ranks_step_after_an_overflow_on_one(ranks: list[Any]) -> None:
    for name in ("named", "unnamed"):
        first, second = (own["overflow_on_one_rank"][name] for own in ranks)
        assert torch.equal(first[0], second[0]), name
        assert first[1] == []
        assert len(second[1]) == (name == "unnamed") and all("scaler=scaler" in text for text in second[1])


def test_ranks_begin_with_the_values_of_the_first(ranks: list[Any]) -> None:
    for given in ("all", "trainable"):
        (first, statistics), (second, others) = (own["began_apart"][given] for own in ranks)
        assert torch.equal(first, second) and torch.equal(statistics, others) and float(others[0]) == 0.0


@pytest.mark.parametrize(
    ("case", "text"),
    [
        (
            "order",
            "Rank 1 was given something else than rank 0: other parameters (names, shapes, types, or their order)",
        ),
        ("order", "parameter 0 is 'b' of shape (3,), torch.float32 on this rank"),
        ("shapes", "parameter 0 is '0' of shape (4, 3), torch.float32 on this rank"),
        ("types", "torch.bfloat16"),
        ("number", "the parameters, of which they have 1, 2."),
        ("wrapped", "parameters of a DistributedDataParallel model, whose own hooks average the gradients"),
        ("compiled", "Attach first, then compile"),
        ("swapped", "got an Algorithm. The arguments are in another order"),
        ("buffers", "The ranks have different buffers"),
    ],
)
def test_what_would_part_the_ranks_is_refused(ranks: list[Any], case: str, text: str) -> None:
    assert text in ranks[1]["refusals"][case]
    assert ranks[0]["refusals"][case], "on all ranks"


def test_what_one_rank_refuses_is_told_to_all_at_once(ranks: list[Any]) -> None:
    """Nobody waits for the timeout of a minute, and no rank goes on alone."""
    others, own = (each["refused_on_one_rank"] for each in ranks)
    for name, (said, _) in own.items():
        heard, seconds = others[name]
        assert said and seconds < 30, name
        assert heard.startswith("RuntimeError: The exchange was not built, on any rank, as rank 1 refused: "), name
        assert said.rstrip(".") in heard, name


def test_what_is_unfrozen_or_added_is_named(ranks: list[Any]) -> None:
    for own in ranks:
        said = own["changed_later"]
        assert all("parameter '0.weight' was frozen when the votes began" in said[k] for k in ("exchange", "ddp"))
        assert "'weight of a Linear' was frozen when the votes began" in said["trainable"]
        assert "was added after the votes had begun" in said["added"]


def test_odd_gradients(ranks: list[Any]) -> None:
    for own in ranks:
        assert torch.equal(own["odd_gradients"]["written"], torch.ones(4, 3))
        assert "is sparse, and sparse gradients are not exchanged" in own["odd_gradients"]["sparse"]
        assert ["The model has BatchNorm" in text for text in own["odd_gradients"]["statistics"]] == [True]


def test_an_optimizer_without_any_decision_takes_an_empty_step(ranks: list[Any]) -> None:
    """Its scaler finds something to look at, the scale stays, and nothing is applied."""
    for own in ranks:
        assert own["one_of_two_optimizers"] == {"exchange": (0.0, 1024.0), "ddp": (0.0, 1024.0)}


def test_a_model_that_votes_can_be_copied(ranks: list[Any]) -> None:
    assert all(own["copies"] == [True, True] for own in ranks)


def test_uneven_batches_are_refused_in_a_sentence(ranks: list[Any]) -> None:
    assert "leave join() out" in ranks[0]["uneven"], "on the rank that has no more batches"
    assert "rank 0" in ranks[1]["uneven"]


def test_each_difference_is_named_with_both_values(ranks: list[Any]) -> None:
    for own in ranks:
        assert own["told"].keys() == test_terms.SAID.keys()
        for name, text in test_terms.SAID.items():
            said = own["told"][name]
            assert said.startswith("ValueError: Rank 1 was given something else than rank 0: "), (name, said)
            assert text in said, (name, said)


def test_what_may_differ_is_let_be(ranks: list[Any]) -> None:
    assert all(own["alike"] == [""] * 4 for own in ranks)


def test_one_rank_may_bound_or_hide_its_gradient_behind_ddp(ranks: list[Any]) -> None:
    first, second = (own["bounded_on_one_rank"] for own in ranks)
    assert all(torch.equal(first[name], second[name]) for name in ("max_norm", "privacy"))


def test_a_step_within_inference_mode_is_an_ordinary_step(ranks: list[Any]) -> None:
    for own in ranks:
        found, expected = own["in_inference_mode"]
        assert torch.equal(found, expected)


def test_constants_among_the_buffers_stay_to_the_bit(ranks: list[Any]) -> None:
    assert all(own["constants"] == [True] * 4 for own in ranks)


def test_votes_that_a_scaler_skipped_are_counted_where_they_were_sent(ranks: list[Any]) -> None:
    """Their bytes belong to votes: mixed precision often begins with skipped steps. `Exchange` sends nothing then."""
    for own in ranks:
        assert own["skipped_votes"]["exchange"] == (0, 0, 0.0)
        steps, skipped, bits = own["skipped_votes"]["ddp"]
        assert (steps, skipped) == (0, 2) and 0 < bits < 1.5


def test_what_exchanges_had_open_is_closed_when_nobody_has_them(ranks: list[Any]) -> None:
    for own in ranks:
        found = own["dropped_exchanges"]
        assert found[-1] == found[-2] == found[0], found


def test_two_votes_on_one_parameter_are_refused(ranks: list[Any]) -> None:
    for own in ranks:
        assert all("is what another vote has decided" in said for said in own["two_votes"])


def test_directions_of_parameters_in_channels_last_are_added_up_where_they_belong(ranks: list[Any]) -> None:
    for own in ranks:
        found, expected = own["channels_last"]
        assert torch.equal(found, expected)


def test_a_state_that_one_rank_alone_has_loaded_is_told_to_all(ranks: list[Any]) -> None:
    """Sizes of ballots depend on the step, and gloo ends a process that receives another size than it expects."""
    for own in ranks:
        for name, said in own["loaded_on_one_rank"].items():
            assert "Rank 1 is at step 0, but rank 0 at step 1. All ranks must exchange equally often, and" in said, name


def test_a_state_that_one_rank_alone_has_loaded_ends_no_process_between_comparisons(ranks: list[Any]) -> None:
    """Nothing is sent before all have loaded one, as gloo ends a process that receives another size than it expects."""
    for own in ranks:
        for name, said in own["loaded_between_comparisons"].items():
            if "(0, 1)" in name:
                assert said == "", name
            elif "signs" in name:  # which have one size, so that nobody waits
                assert "at step 1 of recipe" in said and "at step 3 of recipe" in said, name
            elif "other" in name:
                assert "Rank 1 is at step 1, but rank 0 at step 0. All ranks must exchange" in said, name
            else:
                assert "Rank 0 has loaded a state of step 1, and rank 1 has loaded none within 3 s. load_" in said, name


def test_a_vote_that_another_one_has_followed_says_nothing_more(ranks: list[Any]) -> None:
    """Wrapped and attached anew: the same optimizer, another rate, a new layer, while somebody has the first vote."""
    for rank, own in enumerate(ranks):
        for name, (kept, dropped, said) in own["stages"].items():
            assert said == [], (rank, name)
            assert torch.equal(kept, dropped) and torch.equal(kept, ranks[0]["stages"][name][0]), (rank, name)


def test_what_was_frozen_since_it_was_wrapped_is_left_alone(ranks: list[Any]) -> None:
    for own in (each["frozen_since_wrapped"] for each in ranks):
        for name, (late, early) in own.items():
            assert torch.equal(late, early) and torch.equal(late, ranks[0]["frozen_since_wrapped"][name][0]), name


def test_what_changed_between_wrapping_and_attaching_is_refused(ranks: list[Any]) -> None:
    for own, fabrics in ((each["between_wrapping_and_attaching"], each["fabrics_model"]) for each in ranks):
        assert "The parameter '0.weight' was frozen when the votes began and is not now" in own["thawed"]
        assert "The parameter '0.weight' was frozen, or was not there yet, when Distributed" in own["unfrozen"]
        assert "The parameter '2.weight' was frozen, or was not there yet, when Distributed" in own["added"]
        assert "Give model._forward_module" in fabrics
        assert "exchanges a parameter of shape (2,) that was taken out of the model" in own["replaced"]
