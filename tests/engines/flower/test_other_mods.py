"""Flower's own mods and wrappers beside ours: those that work, with what their noise comes to, and those refused."""

from typing import Any

import pytest
import torch

pytest.importorskip("flwr", reason="Flower is not installed: pip install 'gradvote[flower]'")

from flwr.app import ArrayRecord, Message
from flwr.client.mod import secaggplus_mod
from flwr.clientapp.mod import LocalDpMod, adaptiveclipping_mod, fixedclipping_mod, message_size_mod
from flwr.serverapp.strategy import DifferentialPrivacyServerSideFixedClipping

from gradvote import algorithms
from gradvote.engines.flower.strategy import GradVote
from gradvote.flower import client_mod
from gradvote.privacy import Gaussian, epsilon_of
from tests.engines.flower.nodes import LocalGrid, app_of, difference, gradient, gradients, model

ALGORITHM = algorithms.signsgd()


def local_dp() -> LocalDpMod:
    return LocalDpMod(clipping_norm=2.0, sensitivity=1.0, epsilon=8.0, delta=1e-5)


def start(mods: list[Any], update: Any = "difference") -> Any:
    train = difference if update == "difference" else gradients
    grid = LocalGrid([app_of(train, mods) for _ in range(3)])
    strategy = GradVote(ALGORITHM, update=update, fraction_evaluate=0, min_train_nodes=1, min_available_nodes=1)
    return strategy.start(grid, ArrayRecord(model().state_dict()), num_rounds=2, timeout=7)


def test_mods_behind_ours_see_the_messages_of_fedavg(caplog: pytest.LogCaptureFixture) -> None:
    sizes: list[int] = []

    def looks(message: Message, context: Any, call_next: Any) -> Message:
        sizes.append(len(message.content.array_records["arrays"]))
        return call_next(message, context)

    with caplog.at_level("INFO", logger="flwr"):
        result = start([client_mod(ALGORITHM), message_size_mod, local_dp(), looks])
    assert sizes == [4] * 6 and not any(result.abstentions.values()) and result.undecided == []
    sigma = (2 * 11.736069016284437) ** 0.5 / 8 / 2  # Flower's formula: ln(1.25 / 1e-5) = 11.736, over the bound of 2
    assert f"epsilon = {epsilon_of(sigma, 2, 1e-5):.3g} at delta 1e-05" in caplog.text


VOTED = ("2.weight", "2.bias")


def last_layer(net: Any, worker: int, number: int) -> float:
    """A train function that leaves the first layer alone."""
    for place, p in enumerate(net[2].parameters()):
        p.data.sub_(0.1 * gradient(worker, number, p.shape, place))
    return float(worker)


def test_no_noise_of_local_dp_gathers_in_what_is_not_voted_on(caplog: pytest.LogCaptureFixture) -> None:
    """A client had kept it: a frozen layer walked at random, each client's elsewhere, in silence."""
    seen: list[Any] = []

    def looks(message: Message, context: Any, call_next: Any) -> Message:
        seen.append(message.content["arrays"].to_torch_state_dict()["0.weight"])
        return call_next(message, context)

    grid = LocalGrid([app_of(last_layer, [client_mod(ALGORITHM), local_dp(), looks]) for _ in range(3)])
    with caplog.at_level("WARNING", logger="flwr"):
        start_on(grid, VOTED)
    assert len(seen) == 9 and all(torch.equal(own, model()[0].weight) for own in seen)
    assert "LocalDpMod bounds and noises all arrays together, also '0.weight'" in caplog.text


def test_under_an_account_what_nobody_trained_is_told_unless_it_is_not_voted_on(
    tmp_path: Any, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("cryptography")
    for voted, told in ((None, True), (VOTED, False)):
        own = client_mod(ALGORITHM, folder=tmp_path / str(told), privacy=Gaussian(1.0, 1.0))
        caplog.clear()
        with caplog.at_level("WARNING", logger="flwr"):
            start_on(LocalGrid([app_of(last_layer, [own]) for _ in range(3)]), voted)
        assert ("'0.weight' came back as it was sent, yet under privacy= it gets noise" in caplog.text) == told


def start_on(grid: LocalGrid, voted: Any) -> Any:
    strategy = GradVote(ALGORITHM, voted=voted, fraction_evaluate=0)
    return strategy.start(grid, ArrayRecord(model().state_dict()), num_rounds=3, timeout=7)


@pytest.mark.parametrize(
    ("mod", "words"),
    [
        (fixedclipping_mod, "never get: they hear decisions"),
        (adaptiveclipping_mod, "never get: they hear decisions"),
        (secaggplus_mod, "a vote counts ballots one by one"),
    ],
    ids=lambda v: getattr(v, "__name__", ""),
)
def test_mods_that_cannot_work_are_refused_with_the_reason(
    mod: Any, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("WARNING", logger="flwr"):
        result = start([client_mod(ALGORITHM), message_size_mod, mod])
    assert result.undecided == [1, 2] and words in caplog.text and f"{mod.__name__} " in caplog.text


def test_two_mechanisms_or_gradients_with_local_dp(tmp_path: Any, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("cryptography")
    private = client_mod(ALGORITHM, folder=tmp_path, privacy=Gaussian(1.0, 1.0))
    with caplog.at_level("WARNING", logger="flwr"):
        start([private, local_dp()])
        assert "of which the account knows one" in caplog.text
        start([client_mod(ALGORITHM), local_dp()], "gradient")
        assert "with update='gradient' they" in caplog.text


def test_a_wrapper_that_adds_noise_to_the_servers_arrays_is_refused() -> None:
    grid = LocalGrid([app_of(difference, [client_mod(ALGORITHM)]) for _ in range(3)])
    inner = GradVote(ALGORITHM, fraction_evaluate=0)
    wrapped = DifferentialPrivacyServerSideFixedClipping(inner, 1.0, 1.0, 3)
    with pytest.raises(ValueError, match="Clients hear decisions, not arrays"):
        wrapped.start(grid, ArrayRecord(model().state_dict()), num_rounds=2, timeout=7)
