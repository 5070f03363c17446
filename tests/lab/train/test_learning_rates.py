"""The rate of each step of a run, and what it does to error memories."""

import math

import pytest

from tests.lab.train.small import records, trained


class TestSchedules:
    """The rate of each step, and what it does to error memories."""

    def test_rates(self, tmp_path):
        found = {
            name: [record["lr"] for record in records(trained(tmp_path / name, steps=7, eval_every=1, schedule=name))]
            for name in ("constant", "step", "cosine")
        }
        assert found["constant"] == [0.01] * 8
        assert found["step"] == pytest.approx([0.01] + [0.005] * 2 + [0.001] * 2 + [0.0005] * 3)
        assert found["cosine"] == pytest.approx([0.01 * (1 + math.cos(math.pi * step / 7)) / 2 for step in range(8)])

    @pytest.mark.parametrize("steps", [1, 2, 3])
    def test_a_very_short_run_begins_with_the_whole_rate(self, steps, tmp_path):
        assert records(trained(tmp_path, steps=steps, schedule="step"))[0]["lr"] == 0.01

    @pytest.mark.parametrize("algorithm", ["ef-signsgd", "dist-ef-sgdm", "flexcompress"])
    def test_memories_are_rescaled_when_the_rate_changes(self, algorithm, tmp_path):
        """sent + memory == input in units of the model: a smaller rate makes the same memory larger in gradients."""
        run = trained(tmp_path, algorithm=algorithm, steps=14, schedule="step", eval_every=1)
        before, after = (run.observer.simulation.workers, 0.0005)
        assert all(bool((rate == after).all()) for rate in _rates(before))
        constant = trained(tmp_path / "constant", algorithm=algorithm, steps=14, eval_every=1)
        norms = [[record["memory_norm"] for record in records(r)] for r in (run, constant)]
        assert norms[0][:3] == norms[1][:3]  # steps 0 and 1 have the whole rate
        assert norms[0][3] > 1.2 * norms[1][3]


def _rates(states):
    found = []
    for state in states:
        for key, value in state.items():
            if isinstance(value, dict):
                found += _rates([value])
            elif key == "lr":
                found.append(value)
    return found
