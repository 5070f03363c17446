"""build: seeded, quiet about the global random state, and clear about every mistake."""

import sys
import textwrap

import pytest
import torch
from torch import nn

from gradvote.lab.models import build, describe_model, model_names

OWN = """
    import torch
    from torch import nn

    not_a_factory = 3

    class Linear(nn.Sequential):
        def __init__(self, input_shape, num_classes):
            super().__init__(nn.Flatten(), nn.Linear(input_shape[0] * input_shape[1], num_classes))

    def plain():
        return Linear((2, 3), 4)

    def some(num_classes, width=5):
        return nn.Sequential(nn.Flatten(), nn.Linear(6, width), nn.Dropout(), nn.Linear(width, num_classes))

    def lazy(**options):
        assert not options
        return nn.Sequential(nn.Flatten(), nn.LazyLinear(4))

    def needs_more(depth):
        return plain()

    def leaving():
        raise SystemExit("bye")

    class Quitter(Linear):
        def __init__(self):
            super().__init__((2, 3), 4)

        def forward(self, x):
            raise SystemExit(7)

    def broken():
        raise RuntimeError("no luck")

    def number():
        return 7

    def frozen():
        return plain().requires_grad_(False)

    def empty():
        return nn.Flatten()

    def narrow():
        return Linear((2, 3), 3)

    def other_shape():
        return Linear((2, 5), 4)
"""
SHAPE = (2, 3)


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "my_models.py").write_text(textwrap.dedent(OWN))
    (tmp_path / "my_broken.py").write_text("import there_is_no_such_package")
    (tmp_path / "my_script.py").write_text("raise SystemExit(3)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    yield
    for name in ("my_models", "my_broken", "my_script"):
        sys.modules.pop(name, None)


def same(a, b):
    return all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


def test_catalogue():
    assert {"cnn", "mlp", "resnet20", "resnet20-nobn"} <= set(model_names())
    assert all(len(describe_model(name)) > 20 for name in model_names())


@pytest.mark.parametrize("name", model_names())
def test_parameters_depend_on_the_seed_alone(name):
    torch.manual_seed(1)
    first = build(name, (1, 8, 8), 10, seed=0)
    torch.manual_seed(2)
    assert same(first, build(name.replace("-", "_"), (1, 8, 8), 10, seed=0))
    assert not same(first, build(name, (1, 8, 8), 10, seed=1))


def test_the_global_random_state_is_left_alone(own):
    before = torch.get_rng_state()
    build("cnn", (1, 8, 8), 10, seed=0)
    build("my_models:some", SHAPE, 4, seed=0)
    assert torch.equal(torch.get_rng_state(), before)


def test_models_start_in_training_mode_with_untouched_statistics():
    net = build("resnet20", (1, 8, 8), 10, seed=0)
    assert all(module.training for module in net.modules())
    assert all(int(m.num_batches_tracked) == 0 for m in net.modules() if isinstance(m, nn.BatchNorm2d))


@pytest.mark.parametrize("factory", ["Linear", "plain", "some", "lazy"])
def test_own_factories(own, factory):
    net = build(f"my_models:{factory}", SHAPE, 4, seed=3)
    assert net(torch.zeros(5, *SHAPE)).shape == (5, 4)
    assert same(net, build(f"my_models:{factory}", SHAPE, 4, seed=3))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("resnet2", r"no model named 'resnet2'. Did you mean 'resnet20'.*package.module:factory"),
        ("build", "no model named 'build'"),
        (":plain", "not of the form"),
        ("my_models:", "not of the form"),
        ("my_models:a.b", "not of the form"),
        ("no_such_module:f", r"'no_such_module' .* could not be imported \(ModuleNotFoundError.*current directory"),
        ("my_broken:f", r"could not be imported \(ModuleNotFoundError: No module named 'there_is_no_such_package'"),
        ("my_script:f", "could not be imported .SystemExit: 3"),
        ("my_models:plian", "no factory in the module 'my_models' named 'plian'. Did you mean 'plain'"),
        ("my_models:not_a_factory", "is not a function or class"),
        ("my_models:needs_more", "failed .TypeError.*'depth'"),
        ("my_models:broken", "failed .RuntimeError: no luck"),
        ("my_models:leaving", "failed .SystemExit: bye"),
        ("my_models:Quitter", "fails on samples .* .SystemExit: 7"),
        ("my_models:number", "gave int instead of an nn.Module"),
        ("my_models:frozen", "no trainable parameters"),
        ("my_models:empty", "no trainable parameters"),
        ("my_models:narrow", r"gives \(2, 3\) for two samples; expected \(2, 4\)"),
        ("my_models:other_shape", r"fails on samples of shape \(2, 3\)"),
    ],
)
def test_mistakes_are_explained(own, spec, message):
    with pytest.raises(ValueError, match=message):
        build(spec, SHAPE, 4, seed=0)


def test_the_number_of_classes_is_checked():
    with pytest.raises(ValueError, match="The number of classes is 0"):
        build("mlp", SHAPE, 0, seed=0)
