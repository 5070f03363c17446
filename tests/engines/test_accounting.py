import pytest
import torch

from tests.engines import stateful_workers
from tests.forked import spawn


def test_bytes_abstentions_and_ties_are_counted() -> None:
    results = spawn(stateful_workers.accounting, 4)[0]
    sharded, bits = results["sharded"], 1 + 1 / 64
    for stats in sharded:
        assert stats.bits_per_coordinate == pytest.approx(2 * bits * 3 / 4, rel=0.03)
        assert stats.compression_rate == pytest.approx(32 / bits, rel=0.03)
    assert sum(s.sent_up for s in sharded) == sum(s.received_up for s in sharded)
    assert [sum(s.abstentions[i] for s in sharded) for i in range(4)] == [0, 1, 0, 0]
    assert sum(s.ties for s in sharded) == 0
    central = results["central"]
    assert central[0].sent_down == 3 * central[1].received_down and central[1].sent_down == 0
    assert results["replicated"][2].received_up == pytest.approx(3 * bits * 1_000_000 / 8, rel=0.03)
    assert results["replicated"][2].abstentions == (0, 1, 0, 0)


def test_odd_gradients_and_chunks() -> None:
    for results in spawn(stateful_workers.odd, 2):
        one, tried = results["one"], results["open"]
        assert one["used"] == {1} and {1, 2, 6} == tried["used"] and results["left"] in tried["used"]
        assert torch.equal(one["direction"], tried["direction"]) and stateful_workers.equal(
            one["state"], tried["state"]
        )
        assert torch.equal(results["missing"], -torch.ones(70))
        assert results["half"].dtype == torch.bfloat16
        assert results["half"].tolist() == [1, -1, 1]
        assert torch.equal(results["image"], results["values"].sign())
