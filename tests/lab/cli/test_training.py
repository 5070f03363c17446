"""`gradvote train`, `compare` and `report`: from words to runs."""

import json
import signal

import pytest
import torch

from gradvote.lab.cli.options import Options, chosen
from gradvote.lab.train import Run, checkpoint
from tests.lab.train.small import FACTORY


def about(folder):
    return json.loads((folder / "run.json").read_text())


def config(folder):
    return about(folder)["config"]


class TestFaults:
    """--fault NAME:key=value,... and the options for all of them."""

    @pytest.mark.parametrize(
        ("options", "found"),
        [
            ({"fault": ("invert",)}, [{"fault": "invert", "place": "worker", "redraw": False, "num": 1}]),
            (
                {"fault": ("nan",), "num_faulty": 0.4, "fault_place": "uplink", "fault_redraw": True},
                [{"fault": "nan", "place": "uplink", "redraw": True, "num": 2}],
            ),
            (
                {"fault": ("rescale:factor=-1000,workers=0,place=both", "drop:workers=(1,2)"), "num_faulty": 2.0},
                [
                    {"fault": "rescale", "place": "both", "redraw": False, "num": 2, "factor": -1000, "workers": (0,)},
                    {"fault": "drop", "place": "worker", "redraw": False, "num": 2, "workers": (1, 2)},
                ],
            ),
            (
                {"fault": ("invert",), "num_faulty": 0.5, "workers": 9},
                [{"fault": "invert", "place": "worker", "redraw": False, "num": 4}],
            ),
        ],
    )
    def test_plans(self, options, found):
        assert list(chosen(Options(**options))["faults"]) == found

    def test_in_a_run(self, gradvote, tmp_path):
        flags = ["--fault", "rescale:factor=-1000,workers=0", "--fault", "nan:place=worker,workers=1"]
        assert gradvote("train", *flags, "--fault-place", "uplink").status == 0
        found = about(tmp_path / "runs/signsgd")["faults"]
        assert "Rescale(factor=-1000, spread=1.0), place='uplink', workers=(0,)" in found
        assert "Nan(), place='worker', workers=(1,)" in found


class TestTrain:
    """One run."""

    def test_what_it_leaves(self, gradvote, tmp_path):
        found = gradvote("train", "--algorithm", "noisy-signsgd", "--noise-std", "0.01", "--workers", "5")
        folder = tmp_path / "runs/noisy-signsgd"
        assert found.status == 0 and found.err == "" and "Report: runs/noisy-signsgd/report.html" in found.text
        names = ["checkpoint.pt", "records.jsonl", "report.html", "run.json"]
        assert sorted(p.name for p in folder.iterdir()) == names
        assert config(folder)["options"] == {"noise_std": 0.01} and "Noise(std=0.01" in about(folder)["algorithm"]
        assert about(folder)["command"].startswith("gradvote")

    def test_relative_noise(self, gradvote, tmp_path):
        assert gradvote("train", "--algorithm", "noisy-signsgd", "--noise-std", "relative:0.1:max").status == 0
        assert "Relative(factor=0.1, combine='max')" in about(tmp_path / "runs/noisy-signsgd")["algorithm"]

    @pytest.mark.parametrize(
        ("flags", "key", "value"),
        [
            (["--partition", "dirichlet", "--alpha", "0.5"], "partition_options", {"alpha": 0.5}),
            (["--partition", "unequal", "--ratio", "3"], "partition_options", {"ratio": 3.0}),
            (["--redundancy", "2"], "partition_options", {"redundancy": 2}),
            (
                ["--classes-per-worker", "2", "--redundancy", "1"],
                "partition_options",
                {"classes_per_worker": 2, "redundancy": 1},
            ),
            (["--batch-size", "16"], "batch_size", 16),
            (["--seed", "1e3"], "seed", 1000),
            (["--schedule", "cosine"], "schedule", "cosine"),
            (["--mode", "vectorized"], "mode", "vectorized"),
        ],
    )
    def test_flags_reach_the_run(self, flags, key, value, gradvote, tmp_path):
        assert gradvote("train", *flags).status == 0
        assert config(tmp_path / "runs/signsgd")[key] == value

    def test_options_of_the_algorithm(self, gradvote, tmp_path):
        flags = [
            "--algorithm",
            "dropsignsgd:keep_up=0.2",
            "--set",
            "keep_down=0.4",
            "--set",
            "mu=0.5",
            "--zero",
            "abstain",
        ]
        assert gradvote("train", *flags, "--name", "mine").status == 0
        found = about(tmp_path / "runs/mine")["algorithm"]
        assert "keep=0.2" in found and "keep=0.4" in found and "mu=0.5" in found and "zero='abstain'" in found

    def test_tensorboard(self, gradvote, tmp_path):
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        assert gradvote("train", "--tensorboard").status == 0
        events = EventAccumulator(str(tmp_path / "runs/signsgd/events"))
        events.Reload()
        lines = [json.loads(x) for x in (tmp_path / "runs/signsgd/records.jsonl").read_text().splitlines()]
        assert [(e.step, e.value) for e in events.Scalars("loss")] == [
            (line["step"], pytest.approx(line["loss"], rel=1e-6)) for line in lines
        ]
        assert [e.step for e in events.Scalars("bits_up")] == [1, 2, 3]

    def test_a_diverged_run_is_told_by_the_status(self, gradvote, tmp_path):
        fault = ["--fault", "rescale:factor=-1e37,workers=0", "--fault-place", "uplink", "--lr", "1000"]
        found = gradvote("train", "--algorithm", "sgd", *fault)
        assert found.status == 1 and "sgd: the loss became" in found.text
        assert (tmp_path / "runs/sgd/report.html").exists()

    def test_a_c_that_does_not_fit_is_said(self, gradvote):
        found = gradvote("train", "--algorithm", "dropsignsgd", "--steps", "40")
        assert "dropsignsgd: the error memory keeps growing" in found.text and "Try a larger one" in found.text


class TestResume:
    """--resume."""

    def stopped(self, gradvote, monkeypatch, *flags):
        """Ctrl-C after two steps."""
        original = Run._round

        def with_ctrl_c(run, known):
            original(run, known)
            if run.step == 1:
                signal.raise_signal(signal.SIGINT)

        monkeypatch.setattr(Run, "_round", with_ctrl_c)
        found = gradvote(*flags)
        monkeypatch.setattr(Run, "_round", original)
        return found

    def test_ctrl_c_and_on(self, gradvote, tmp_path, monkeypatch):
        assert gradvote("train", "--steps", "6", "--name", "whole").status == 0
        found = self.stopped(gradvote, monkeypatch, "train", "--steps", "6")
        assert found.status == 130 and "stopped by the user at step 2" in found.text
        again = f"train --resume runs/signsgd --model {FACTORY}"
        assert f"Continue with: gradvote {again}" in found.text
        assert "gradvote report runs/signsgd" in found.text
        assert not (tmp_path / "runs/signsgd/report.html").exists(), "drawn when it is asked for: it takes seconds"
        assert gradvote(*again.split(), small=False).status == 0
        assert (tmp_path / "runs/signsgd/report.html").exists()
        one, other = (
            torch.load(tmp_path / "runs" / name / "checkpoint.pt")["models"][0] for name in ("whole", "signsgd")
        )
        assert all(torch.equal(one[key], other[key]) for key in one)

    def test_with_the_same_words_again(self, gradvote, tmp_path):
        words = [
            "train",
            "--algorithm",
            "noisy-signsgd",
            "--noise-std",
            "0.01",
            "--zero",
            "abstain",
            "--redundancy",
            "2",
        ]
        assert gradvote(*words).status == 0
        assert gradvote(*words, "--steps", "5", "--resume", "runs/noisy-signsgd").status == 0
        assert config(tmp_path / "runs/noisy-signsgd")["steps"] == 5

    @pytest.mark.parametrize(
        ("flags", "name"),
        [
            (["--lr", "1"], "lr"),
            (["--noise-std", "0.02"], "noise_std"),
            (["--algorithm", "sgd"], "algorithm"),
            (["--fault", "nan"], "faults"),
            (["--workers", "5"], None),
            (["--threads", "1"], None),
            (["--steps", "1000"], None),
        ],
    )
    def test_contradictions(self, flags, name, gradvote, monkeypatch):
        monkeypatch.setattr(Run, "train", lambda run, progress: None)
        assert gradvote("train", "--algorithm", "noisy-signsgd").status == 0
        found = gradvote("train", "--resume", "runs/noisy-signsgd", "--model", FACTORY, *flags, small=False)
        assert found.status == (0 if name is None else 2)
        assert name is None or f"other values of {name}." in found.text

    def test_the_place_of_the_data_may_be_another(self, gradvote, tmp_path, monkeypatch):
        (tmp_path / "data").mkdir()
        assert gradvote("train", "--data-dir", "data").status == 0
        assert config(tmp_path / "runs/signsgd")["data_dir"] == str(tmp_path / "data")  # found from everywhere
        (tmp_path / "data").rename(tmp_path / "moved")
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        for more, place in (([], None), (["--data-dir", "../moved"], str(tmp_path / "elsewhere/../moved"))):
            found = gradvote("train", "--resume", "../runs/signsgd", *more, "--steps", "9")
            assert found.status == 0 and config(tmp_path / "runs/signsgd")["data_dir"] == place

    @pytest.mark.parametrize("engine", ["simulation", "ddp", "elastic"])
    def test_a_checkpoint_does_not_choose_what_is_run(self, engine, gradvote, tmp_path):
        assert gradvote("train").status == 0
        folder = tmp_path / "runs/signsgd"
        state = checkpoint.load(folder / "checkpoint.pt")
        bad = json.loads(state["config"]) | {"model": "bad_module:f", "engine": engine}
        checkpoint.save(state | {"config": json.dumps(bad)}, folder / "checkpoint.pt")
        (folder / "run.json").write_text(json.dumps(about(folder) | {"config": bad}))
        (tmp_path / "bad_module.py").write_text("open('called', 'w'); f = None")
        found = gradvote("train", "--resume", "runs/signsgd", small=False)
        assert found.status == 2 and "If you trust it, name it: --model bad_module:f" in found.text
        found = gradvote("train", "--resume", "runs/signsgd")  # names another one
        assert found.status == 2 and "other values of model" in found.text
        assert not (tmp_path / "called").exists()


class TestCompare:
    """Several runs."""

    def test_side_by_side(self, gradvote, tmp_path):
        found = gradvote(
            "compare",
            "sgd:lr=0.5",
            "signsgd",
            "noisy-signsgd",
            "signum:beta=0.5",
            "--noise-std",
            "0.1",
            "--lr",
            "0.01",
            page=True,
        )
        folder = tmp_path / "runs/compare"
        assert found.status == 0 and "Report: runs/compare/report.html" in found.text
        assert sorted(p.name for p in folder.iterdir()) == ["noisy-signsgd", "report.html", "sgd", "signsgd", "signum"]
        assert [config(folder / name)["lr"] for name in ("sgd", "signsgd")] == [0.5, 0.01]
        assert config(folder / "noisy-signsgd")["options"] == {"noise_std": 0.1}
        assert config(folder / "signum")["options"] == {"beta": 0.5}
        page = (folder / "report.html").read_text()
        assert all(name in page for name in ("noisy-signsgd", "signum", "Side by side on digits"))

    def test_one_algorithm_twice(self, gradvote, tmp_path):
        assert gradvote("compare", "sgd:lr=0.1", "sgd:lr=0.2").status == 0
        assert [p.name for p in sorted((tmp_path / "runs/compare").glob("sgd*"))] == ["sgd_lr=0.1", "sgd_lr=0.2"]

    def test_with_fixed_faults_the_honest_mean_stands_beside(self, gradvote, tmp_path):
        flags = ["--fault", "invert:workers=(0,3)", "--lr", "0.3"]
        assert gradvote("compare", "signsgd", "sgd", *flags).status == 0
        found = about(tmp_path / "runs/compare/sgd-honest")
        assert found["config"]["options"]["weights"] == [0, 1, 1, 0, 1] and found["faults"] == ""
        assert found["config"]["lr"] == 0.3 and found["label"] == "sgd-honest"

    def test_ctrl_c_ends_all(self, gradvote, tmp_path, monkeypatch):
        found = TestResume().stopped(gradvote, monkeypatch, "compare", "signsgd", "sgd", "--tensorboard")
        assert found.status == 130 and "--resume runs/compare/signsgd" in found.text
        assert sorted(p.name for p in (tmp_path / "runs/compare").iterdir()) == ["signsgd"]

    def test_a_diverged_one_is_a_result(self, gradvote):
        fault = ["--fault", "rescale:factor=-1e37,workers=0", "--fault-place", "uplink", "--lr", "1000"]
        found = gradvote("compare", "sgd", "signsgd", *fault)
        assert found.status == 0 and "diverged at step" in found.text


def test_report(gradvote, tmp_path):
    gradvote("compare", "sgd", "signsgd")
    found = gradvote(
        "report",
        "runs/compare/sgd",
        "runs/compare/signsgd",
        "--out",
        "page/x.html",
        "--title",
        "Mine & yours",
        page=True,
    )
    assert found.status == 0 and "Mine &amp; yours" in (tmp_path / "page/x.html").read_text()


def test_threads(gradvote):
    before = torch.get_num_threads()
    try:
        assert gradvote("train", "--threads", "2").status == 0 and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
