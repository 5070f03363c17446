"""A run: what it leaves behind, what it measures, and what it refuses before any work."""

import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from gradvote.lab.data import Data
from gradvote.lab.train import Config, ready, start, train
from tests.lab.train import small
from tests.lab.train.small import about, config, finished, parameters, records, samples, trained

FACTORY = small.FACTORY
SGD = {"algorithm": "sgd", "lr": 0.5}


def named(factory):
    return FACTORY.replace("tiny", factory)


def drawn(place, fault="invert", **options):
    return ({"fault": fault, "place": place, **options},)


class TestRecords:
    """One line per evaluated step, with the figures of the parameters before it."""

    def test_steps_and_keys(self, tmp_path):
        run = trained(tmp_path, steps=10, eval_every=4)
        assert [record["step"] for record in records(run)] == [0, 4, 8, 10]
        first, last = records(run)[0], records(run)[-1]
        assert (
            first.keys()
            == last.keys()
            >= {
                *("loss", "train_accuracy", "test_accuracy", "grad_norm", "median_mean_gap", "bytes_up", "bytes_down"),
                *("bits_up", "bits_down", "abstentions", "ties", "drift", "memory_norm", "drain", "lr"),
            }
        )
        assert (first["bits_up"], first["bytes_up"], first["ties"]) == (None, 0, None)

    def test_sgd_does_what_sgd_does(self, tmp_path):
        """Full batches of disjoint parts, weighted by their size: plain gradient descent on all samples."""
        run = trained(tmp_path, **SGD, weights="samples", partition="unequal")
        model, d = ready(config(), tmp_path / "x", samples=samples()).models[0], samples()
        for record in records(run)[:-1]:
            loss = cross_entropy(model(d.train_x), d.train_y)
            gradient = torch.cat([g.flatten() for g in torch.autograd.grad(loss, [*model.parameters()])])
            assert record["loss"] == pytest.approx(loss.item(), rel=1e-5)
            assert record["grad_norm"] == pytest.approx(float(gradient.norm()), rel=1e-4)
            right = (model(d.test_x).argmax(-1) == d.test_y).double().mean()
            assert record["test_accuracy"] == pytest.approx(float(right))
            optimizer = torch.optim.SGD(model.parameters(), 0.5)
            for _ in range(3):
                optimizer.zero_grad()
                cross_entropy(model(d.train_x), d.train_y).backward()
                optimizer.step()
        by_hand = torch.cat([p.detach().double().flatten() for p in model.parameters()])
        torch.testing.assert_close(parameters(run), by_hand, rtol=1e-4, atol=1e-6)

    def test_it_learns(self, tmp_path):
        run = trained(tmp_path, steps=150, eval_every=50, **SGD)
        assert records(run)[-1]["test_accuracy"] > 0.6 and records(run)[-1]["loss"] < 0.7

    def test_bytes(self, tmp_path):
        record = records(trained(tmp_path, steps=4, workers=3))[-1]
        words = -(-64 * 8 // 64) + 1 + 2 + 1  # 512 weights, 8 biases, 80 weights, 10 biases
        words += 4  # flags of units of zeros: one word each
        assert record["bytes_up"] == record["bytes_down"] == 4 * 3 * (40 + 8 * words + 1)
        assert record["bits_up"] == pytest.approx(8 * (41 + 8 * words) / 610)

    def test_recipe(self, tmp_path):
        run = trained(tmp_path / "mine", workers=3, partition="iid", faults=drawn("worker", "nan", workers=(1,)))
        found = about(run)
        assert found["name"] == "mine" and found["status"] == "finished" and found["num_parameters"] == 610
        assert found["algorithm"].startswith("Algorithm(up=Sign(") and "Nan()" in found["faults"]
        assert found["abstentions_by_worker"] == [0, 12 * 4, 0]
        assert torch.tensor(found["class_histogram"]).sum(0).tolist() == [12] * 10
        assert Config(**{**found["config"], "faults": tuple(found["config"]["faults"])}).steps == 12

    def test_ties(self, tmp_path):
        """Two workers with data of their own disagree about many coordinates."""
        found = [record["ties"] for record in records(trained(tmp_path / "two", workers=2, eval_every=1))]
        assert found[0] is None and all(0 < ties < 610 for ties in found[1:])
        odd = records(trained(tmp_path / "three", workers=3, options={"zero": "positive"}))
        assert odd[-1]["ties"] == 0
        assert records(trained(tmp_path / "sgd", algorithm="sgd"))[-1]["ties"] is None


@pytest.mark.parametrize("factory", ["tiny", "with_dropout", "with_batch_norm"])
@pytest.mark.parametrize("batch_size", [None, 5])
def test_looking_does_not_disturb(factory, batch_size, tmp_path):
    runs = [
        trained(tmp_path / str(every), model=named(factory), batch_size=batch_size, eval_every=every)
        for every in (1, 5, 100)
    ]
    for run in runs[1:]:
        assert torch.equal(parameters(run), parameters(runs[0]))
        assert str(records(run)[-1]) == str(records(runs[0])[-1])


def test_the_programs_own_randomness_is_left_alone(tmp_path):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    trained(tmp_path, model=named("with_dropout"), algorithm="noisy-signsgd", batch_size=5)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_seed_is_all_that_is_random(tmp_path):
    options = {"algorithm": "noisy-dropsignsgd", "batch_size": 5, "faults": drawn("uplink", "random", redraw=True)}
    one, same, other = (trained(tmp_path / str(i), seed=seed, **options) for i, seed in enumerate((3, 3, 4)))
    assert torch.equal(parameters(one), parameters(same)) and records(one) == records(same)
    assert not torch.equal(parameters(one), parameters(other))


class TestFaults:
    """What a run reports of them."""

    @pytest.mark.parametrize(
        ("place", "drifts"), [("worker", False), ("uplink", False), ("downlink", True), ("both", True)]
    )
    def test_models_drift_apart_only_with_faults_on_the_way_down(self, place, drifts, tmp_path):
        found = [record["drift"] for record in records(trained(tmp_path, faults=drawn(place), eval_every=1))]
        assert found[0] == 0 and (found[1] > 0) == drifts and (found[-1] > found[1] or not drifts)

    def test_a_lost_decision_keeps_that_workers_model(self, tmp_path):
        run = trained(tmp_path, faults=drawn("downlink", "drop", workers=(2,)))
        fresh = ready(config(), tmp_path / "x", samples=samples()).models[0].state_dict()
        for i, model in enumerate(run.models):
            same = all(torch.equal(value, fresh[key]) for key, value in model.state_dict().items())
            assert same == (i == 2)

    def test_a_diverging_run_says_so_and_is_usable(self, tmp_path):
        run = trained(tmp_path, algorithm="sgd", lr=1e3, faults=drawn("uplink", "rescale", factor=-1e37, workers=(0,)))
        assert run.status == about(run)["status"] == "diverged"
        assert about(run)["message"].startswith("the loss became ") and about(run)["message"].endswith(
            f"step {run.step}"
        )
        assert not math.isfinite(float(records(run)[-1]["loss"])) and run.step < 12


class TestUsersOwn:
    """Models and data that are not ours."""

    def test_a_factory(self, tmp_path):
        assert parameters(trained(tmp_path, model=FACTORY)).numel() == 610

    def test_batch_norm_statistics_move(self, tmp_path):
        run = trained(tmp_path, model=named("with_batch_norm"), **SGD)
        assert int(run.models[0][2].num_batches_tracked) == 12 * 5 and bool(run.models[0][2].running_mean.any())

    def test_data(self, tmp_path):
        x, y = torch.randn(30, 4), torch.arange(30) % 3
        own = Data("own", x, y, x, y, 3, ("a", "b", "c"))
        run = start(config(model="mlp", workers=3), tmp_path, samples=own)
        assert finished(run).status == "finished" and about(run)["class_names"] == ["a", "b", "c"]


def test_redundancy_gives_each_class_to_several_workers(tmp_path):
    run = trained(tmp_path, partition_options={"redundancy": 2})
    held = torch.tensor(about(run)["class_histogram"]) > 0
    assert held.sum(0).tolist() == [2] * 10 and held.sum(1).tolist() == [4] * 5


def test_weights_decide_what_the_objective_is(tmp_path):
    options = {"algorithm": "sgd", "partition": "unequal", "partition_options": {"ratio": 9.0}, "workers": 2}
    equal, by_size = (trained(tmp_path / weights, weights=weights, **options) for weights in ("equal", "samples"))
    assert records(equal)[0]["loss"] != records(by_size)[0]["loss"]
    assert not torch.equal(parameters(equal), parameters(by_size))
    given = trained(tmp_path / "given", **options | {"options": {"weights": [108.0, 12.0]}})
    assert torch.equal(parameters(given), parameters(by_size))


class TestMistakes:
    """Before any work: nothing is written."""

    def test_a_loss_that_is_not_finite(self, tmp_path):
        with pytest.raises(ValueError, match="The loss of worker 0 is nan before the first step"):
            start(config(model=named("explosive")), tmp_path / "run", samples=samples())
        assert not (tmp_path / "run").exists()

    def test_nothing_to_train(self, tmp_path):
        with pytest.raises(ValueError, match="no trainable parameters"):
            start(config(model=named("frozen")), tmp_path / "run", samples=samples())

    def test_batch_norm_vectorized(self, tmp_path):
        with pytest.raises(ValueError, match="BatchNorm cannot be vectorized"):
            start(config(model=named("with_batch_norm"), mode="vectorized"), tmp_path / "run", samples=samples())

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"algorithm": "signsdg"}, "Did you mean 'signsgd'"),
            ({"options": {"beta": 1}}, "no option of signsgd named 'beta'"),
            ({"algorithm": "sgd", "options": {"weights": [1.0]}}, "1 weights for 5 workers; give one for each"),
            (
                {"algorithm": "mediansgd", "weights": "samples"},
                r"mediansgd cannot weight workers by samples, as Median",
            ),
            ({"faults": ({"place": "worker"},)}, "Each of the faults needs a 'fault'"),
            ({"faults": drawn("worker", num=9)}, "9 faulty workers were asked for"),
            ({"faults": drawn("worker", colour=9)}, "The fault invert takes no options; leave out 'colour'"),
            ({"faults": drawn("worker", workers="all")}, "workers of the fault invert must be a list"),
            ({"workers": 11}, "cannot each hold one of 10 classes"),
            ({"partition_options": {"classes_per_worker": 11}}, "only 10 classes"),
        ],
    )
    def test_wrong_options(self, options, words, tmp_path):
        with pytest.raises(ValueError, match=words):
            start(config(**options), tmp_path / "run", samples=samples())
        assert not (tmp_path / "run").exists()

    def test_even_workers_with_a_bias(self, tmp_path):
        with pytest.warns(UserWarning, match="With 2 workers .* every tied vote counts as"):
            ready(config(workers=2, options={"zero": "positive"}), tmp_path, samples=samples())

    def test_an_existing_run_is_kept(self, tmp_path):
        old = trained(tmp_path)
        before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
        with pytest.raises(ValueError, match=r"There is a run in .* already. .* --overwrite"):
            start(config("sgd"), tmp_path, samples=samples())
        assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before
        new = finished(start(config("sgd"), tmp_path, overwrite=True, samples=samples()))
        assert about(new)["label"] == "sgd" and len(records(new)) == len(records(old)) == 5

    def test_other_files_in_the_folder_are_nobodys_business(self, tmp_path):
        (tmp_path / "notes.txt").write_text("mine")
        trained(tmp_path)
        assert (tmp_path / "notes.txt").read_text() == "mine"

    def test_a_file_where_the_folder_should_be(self, tmp_path):
        (tmp_path / "run").write_text("mine")
        with pytest.raises(ValueError, match="is a file, but a run needs a folder"):
            start(config(), tmp_path / "run", samples=samples())


class TestStopping:
    """From within."""

    def test_an_error_of_the_callers_leaves_the_last_checkpoint(self, tmp_path):
        def fail(step, record):
            if step == 6 and record is None:
                raise RuntimeError("the caller's")

        run = start(config(), tmp_path, samples=samples())
        with pytest.raises(RuntimeError, match="the caller's"):
            run.train(fail)
        assert about(run)["status"] == "interrupted"
        assert about(run)["message"] == "RuntimeError in step 6; the last checkpoint is an older one"
        assert about(run)["step"] == 6
        assert small.resumed(tmp_path).status == "finished"

    def test_progress_sees_every_step_and_every_record(self, tmp_path):
        seen = []
        start(config(), tmp_path, samples=samples()).train(lambda step, record: seen.append((step, record is None)))
        assert seen == sorted(
            [(step, True) for step in range(1, 13)] + [(step, False) for step in range(0, 13, 3)],
            key=lambda pair: (pair[0], not pair[1]),
        )


def test_in_one_call(tmp_path):
    run = train(Config("sgd", steps=2, workers=2, partition="iid"), tmp_path)
    assert run.status == "finished" and (tmp_path / "checkpoint.pt").is_file()
