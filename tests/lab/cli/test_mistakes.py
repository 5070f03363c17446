"""A user's mistake: one full sentence, exit status 2, nothing written."""

import sys

import pytest

from gradvote import __main__

MISTAKES = {
    "train --algorithm signsdg": "Did you mean 'signsgd'? The valid ones are: diloco, dist-ef-adam, dist-ef-sgdm",
    "train --algorithm noisy-noisy-sgd": "There is no algorithm named 'noisy-noisy-sgd'. Did you mean 'noisy-sgd'?",
    "train --algorithm=": "There is no algorithm named ''",
    "train --partition byclass": "Did you mean 'by-class'? The valid ones are: by-class, dirichlet, iid,",
    "train --fault invrt": "Did you mean 'invert'? The valid ones are: alie, anti-sign,",
    "train --fault invert:factor=2": "The fault invert takes no options; leave out 'factor'.",
    "train --fault rescale:factr=2": "Did you mean 'factor'?",
    "train --fault rescale:factor=big": "The option factor of the fault rescale must be a number; got 'big'.",
    "train --fault rescale:factor=0": "Rescale needs a finite factor other than 0",
    "train --fault invert:workers=7": "There is no worker 7: the workers are 0 to 4.",
    "train --fault invert:workers=(0,9)": "There is no worker 9",
    "train --fault invert:workers=all": "workers of the fault invert must be a list",
    "train --fault invert:num=two": "The option num of the fault invert must be a whole number; got 'two'.",
    "train --fault invert:place=up": "There is no place of a fault named 'up'",
    "train --fault invert --fault-place up": "The valid ones are: both, downlink, uplink, worker.",
    "train --fault invert --num-faulty 6": "6 faulty workers were asked for, but there are only 5 workers.",
    "train --fault invert --num-faulty 2.5": "--num-faulty must be a whole number, or a share below 1; got 2.5.",
    "train --fault invert --num-faulty -1": "--num-faulty must be a whole number",
    "train --fault invert --num-faulty nan": "--num-faulty must be a whole number",
    "train --fault invert --num-faulty 0.05": "A share of 0.05 of 5 workers is none of them",
    "train --num-faulty 2": "name one with --fault",
    "train --fault-redraw": "name one with --fault",
    "train --data minst": "Did you mean 'mnist'?",
    "train --data mnist --data-dir nowhere": "torchvision.datasets.MNIST(folder, download=True)",
    "train --model mpl": "Did you mean 'mlp'?",
    "train --model nowhere:net": "The module 'nowhere' of the model 'nowhere:net' could not be imported",
    "train --model tests.lab.train.small:frozen": "has no trainable parameters, so there is nothing to train.",
    "train --model tests.lab.train.small:explosive": "The loss of worker 0 is nan before the first step",
    "train --model tests.lab.train.small:with_batch_norm --mode vectorized": "BatchNorm cannot be vectorized",
    "train --engine simulatoin": "Did you mean 'simulation'?",
    "train --mode vectorised": "Did you mean 'vectorized'?",
    "train --schedule cos": "Did you mean 'cosine'?",
    "train --optimizer adam": "Did you mean 'adamw'?",
    "train --weights sample": "Did you mean 'samples'?",
    "train --algorithm mediansgd --weights samples": "cannot weight workers by samples",
    "train --zero negative": "There is no rule for zeros named 'negative'. The valid ones are: abstain,",
    "train --classes-per-worker 11": "classes_per_worker is 11, but the data have only 10 classes.",
    "train --classes-per-worker 4": "there are too few classes. To mend it,",
    "train --redundancy 6": "redundancy is 6, but only 5 workers can hold a class",
    "train --workers 20": "some would hold no samples. Use redundancy = 2 or at most 10 workers.",
    "train --workers 5000 --partition iid": "1438 samples cannot be split over 5000 workers without leaving one empty",
    "train --partition unequal --ratio 1e9": "would hold no samples. Use a ratio below",
    "train --partition dirichlet": "The partition 'dirichlet' needs the option 'alpha'.",
    "train --partition dirichlet --alpha 0": "it must be a finite number above 0.",
    "train --partition dirichlet --redundancy 2": "The partition 'dirichlet' has no --redundancy; it has --alpha.",
    "train --partition iid --alpha 2": "The partition 'iid' has no --alpha; it has no options.",
    "train --partition dirichlet:alhpa=1": "There is no option of the partition dirichlet named 'alhpa'. Did you mean",
    "train --partition iid:alpha=2": "The partition iid takes no options; leave out 'alpha'.",
    "train --partition dirichlet:alpha=much": "alpha of the partition dirichlet must be a number; got 'much'.",
    "train --partition by-class:redundancy=1.5": "of the partition by-class must be a whole number; got 1.5.",
    "train --schedule step:divisor=(2,)": "There is no option of the schedule step named 'divisor'. Did you mean",
    "train --schedule constant:steps=3": "The schedule constant takes no options; leave out 'steps'.",
    "train --schedule step:divisors=2": "divisors of the schedule step must be a list of which each item is a number",
    "train --model mlp:hiden=(3,)": "There is no option of the model mlp named 'hiden'. Did you mean 'hidden'?",
    "train --model mlp:hidden=x": "hidden of the model mlp must be a list of which each item is a whole number",
    "train --data digits:size=3": "The data set digits takes no options; leave out 'size'.",
    "train --algorithm noisy-sgd --noise laplace:sdt=1": "There is no option of the noise laplace named 'sdt'.",
    "train --workers 0": "workers must be at least 1; got 0.",
    "train --workers 2.5": "a whole number is expected, not '2.5'",
    "train --steps 0": "steps must be at least 1; got 0.",
    "train --steps many": "a whole number is expected, not 'many'",
    "train --lr -1": "The learning rate must be finite and not negative; got -1.0.",
    "train --lr nan": "The learning rate must be finite and not negative; got nan.",
    "train --batch-size 0": "batch_size must be at least 1; got 0.",
    "train --eval-every 0": "eval_every must be at least 1; got 0.",
    "train --seed -1": "The seed must be at least 0 and below 2**63; got -1.",
    "train --threads 0": "threads must be at least 1; got 0.",
    "train --weight-decay -1": "The weight decay must be finite and not negative",
    "train --noise-std 0.1": "There is no option of signsgd named 'noise_std'.",
    "train --algorithm noisy-signsgd --noise-std -0.1": "must be finite and not negative; got -0.1.",
    "train --algorithm noisy-signsgd --noise-std 1e300": "b must be at most 1e+37, as b·ξ is a float32; got 1e+300.",
    "train --algorithm noisy-signsgd --noise-std relative:1e300": "b must be at most 1e+37",
    "train --algorithm dropsignsgd:c=1e300": "The scale of signs must be positive and finite, a float32",
    "plan --params 2.5 --workers 3 --bandwidth 1Gbit": "The number of parameters '2.5' is not a whole number.",
    "launch --workers 2 --host nowhere.invalid taken": "The host 'nowhere.invalid' is not known here",
    "train --algorithm noisy-signsgd --noise-std much": "a number, or relative[:factor[:median|max]]; got 'much'.",
    "train --algorithm noisy-signsgd --noise-std relative:0.1:mx": "Did you mean 'max'?",
    "train --algorithm noisy-signsgd --noise cauchy": "There is no noise distribution named 'cauchy'.",
    "train --algorithm dropsignsgd:keep_up=0": "The share of kept coordinates must lie in (0, 1]",
    "train --algorithm dropsignsgd --set keep_down=1.5": "The share of kept coordinates must lie in (0, 1]",
    "train --algorithm dropsignsgd --set keep_down": "'keep_down' should be KEY=VALUE, for instance mu=0.9.",
    "train --algorithm dropsignsgd:keep=0.1": "Did you mean 'keep_up'?",
    "train --algorithm dropsignsgd:keep_up=few": "keep_up of dropsignsgd must be a number or Schedule; got 'few'.",
    "train --algorithm signum:beta=0.5,beta=0.6": "beta is given twice, as 0.5 and as 0.6",
    "train --algorithm signum --set beta=0.5 --set beta=0.6": "beta is given twice, as 0.5 and as 0.6",
    "privacy --steps 10 --noise-multiplier nan": "max-norm and noise-multiplier positive and finite",
    "privacy --steps 10 --noise-multiplier 1 --max-norm nan": "max-norm and noise-multiplier positive and finite",
    "launch --workers 0 taken": "There must be at least 1 worker",
    "launch --workers 2 --max-restarts -1 taken": "max_restarts at least 0; got 2 and -1.",
    "train --threads 99999": "threads must be at most",
    "train --engine elastic --deadline 0": "deadline is a time in seconds, positive and finite; got 0.0.",
    "train --delay 1": "delay belongs to local steps; give local_steps as well",
    "train --local-steps 4 --delay 4": "0 <= delay < local_steps=4; got delay=4.",
    "train --local-steps 4 --delay -1": "0 <= delay < local_steps=4; got delay=-1.",
    "train --local-steps 4 --delay 2 --engine elastic": "A delay needs workers that stay",
    "compare sgd signsgd --local-steps 2 --delay 2": "0 <= delay < local_steps=2; got delay=2.",
    "plan --params 1M --workers 3 --bandwidth 1Gbit --local-steps 0": "at least 1 local step; got every=0",
    "plan --params 1M --workers 1 --bandwidth 1Gbit": "at least 1 parameter and 2 workers",
    "train --algorithm signum:beta=1": "must lie in [0, 1); got 1.",
    "train --algorithm sgd:weights=(1,2)": "There are 2 weights for 5 workers; give one for each.",
    "train --algorithm sgd:lr=fast": "The option lr of a run must be a number or None; got 'fast'.",
    "train --resume nowhere": "There is no checkpoint at nowhere/checkpoint.pt.",
    "train --resume nowhere --overwrite": "leave --name and --overwrite out",
    "train --out taken": "Not a directory: taken/signsgd.",
    "train --nonsense 3": "Unknown option: --nonsense",
    "train signsgd": "'signsgd' is not expected here. See --help for what is.",
    "train --lr": "--lr requires an argument",
    "plan --params 1M --workers 1 --bandwidth 1kbit": "workers=1, bandwidth=1000 bit/s, latency=0 s",
    "compare": "ALGORITHMS requires an argument",
    "compare sgd nosuch": "There is no algorithm named 'nosuch'.",
    "compare sgd sgd": "'sgd' is there twice.",
    "compare sgd signum:beta=2": "must lie in [0, 1); got 2.",
    "compare sgd signsgd --noise-std 0.1": "There is no option of sgd or signsgd named 'noise_std'.",
    "compare sgd --set foo=1": "There is no option of sgd named 'foo'.",
    "list algoritms": "Did you mean 'algorithms'?",
    "report": "RUNS requires an argument",
    "report nowhere": "nowhere is not a run folder: it holds no run.json.",
    "demo --steps 0": "steps must be at least 1; got 0.",
    "nosuch": 'Unknown command "nosuch"',
    "train --engine elastic --fault alie": "Play it in the simulation",
    "train --engine ddp --fault anti-sign": "Play it in the simulation",
    "train --engine elastic --fault drop --fault-place uplink": "here only those of workers are played",
    "train --fault alie --fault-place both": "cannot be at the place 'both'",
}


@pytest.mark.parametrize("line", MISTAKES)
def test_one_sentence_and_nothing_written(line, gradvote, tmp_path):
    (tmp_path / "taken").write_text("a file")
    found = gradvote(*line.split())
    assert found.status == 2 and found.out == ""
    assert " ".join(found.err.split()).startswith("Error: ") and MISTAKES[line] in " ".join(found.err.split())
    assert "Traceback" not in found.err and [p.name for p in tmp_path.iterdir()] == ["taken"]


def test_a_run_is_not_overwritten(gradvote, tmp_path):
    assert gradvote("train").status == 0
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    found = gradvote("train")
    assert found.status == 2 and "Choose another --name, continue it with --resume runs/signsgd" in found.text
    assert gradvote("compare", "signsgd", "--out", ".", "--name", "runs").status == 2
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before
    assert gradvote("train", "--overwrite").status == 0
    assert gradvote("train", "--name", "other").status == 0


def test_a_comparison_is_checked_as_a_whole(gradvote, tmp_path):
    """The last algorithm's folder is taken: the first one is not even begun."""
    assert gradvote("train", "--algorithm", "signsgd", "--out", "runs/compare").status == 0
    found = gradvote("compare", "sgd", "signsgd")
    assert found.status == 2 and sorted(p.name for p in (tmp_path / "runs/compare").iterdir()) == ["signsgd"]


def test_a_bias_is_a_warning(gradvote):
    found = gradvote("train", "--workers", "2", "--zero", "positive")
    assert found.status == 0 and found.err.startswith("Warning: With 2 workers (an even number) and zero='positive'")


@pytest.fixture
def without(monkeypatch):
    """Make packages absent."""

    def absent(*packages, forget=()):
        class Finder:
            @staticmethod
            def find_spec(name, path=None, target=None):
                if name.split(".")[0] in packages:
                    raise ModuleNotFoundError(f"No module named '{name}'", name=name)

        monkeypatch.setattr(sys, "meta_path", [Finder, *sys.meta_path])
        for name in list(sys.modules):
            if name.split(".")[0] in packages or any(name.startswith(start) for start in forget):
                monkeypatch.delitem(sys.modules, name)

    return absent


@pytest.mark.parametrize("package", ["cyclopts", "rich"])
def test_without_the_cli_extra(package, without, capsys):
    without(package, forget=["gradvote.lab.cli"])
    with pytest.raises(SystemExit) as ended:
        __main__.main()
    assert ended.value.code == 2
    assert f"needs {package}. Install it with: pip install 'gradvote[cli]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("packages", "arguments", "extra"),
    [
        (["sklearn"], ["train"], "data"),
        (["tensorboard"], ["train", "--tensorboard"], "tensorboard"),
    ],
)
def test_an_absent_package_is_named_with_its_extra(packages, arguments, extra, gradvote, without, tmp_path):
    without(*packages, forget=["gradvote.lab.train.tensorboard", "torch.utils.tensorboard"])
    found = gradvote(*arguments)
    assert found.status == 2 and f"pip install 'gradvote[{extra}]'" in found.text and not list(tmp_path.iterdir())


@pytest.mark.parametrize("package", ["matplotlib", "jinja2"])
def test_without_the_report_extra_a_run_is_complete(package, gradvote, without, tmp_path):
    without(package, forget=["gradvote.lab.report."])
    found = gradvote("train")
    assert found.status == 0 and "No HTML report: " in found.out and "'gradvote[report]'" in found.text
    assert (tmp_path / "runs/signsgd/records.jsonl").exists()
