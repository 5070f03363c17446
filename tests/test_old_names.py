"""Public names of an earlier release work, with a warning that says the new one."""

import importlib

import pytest

OLD = {
    "gradvote.elastic": {"Vote": "ElasticVote", "Stats": "ElasticStats", "Standing": "WorkerCounts"},
    "gradvote.torchft": {"Vote": "TorchftVote", "Stats": "TorchftStats", "Standing": "ReplicaCounts"},
}


@pytest.mark.parametrize(("module", "old"), [(module, old) for module, names in OLD.items() for old in names])
def test_an_old_name_works(module: str, old: str) -> None:
    new = OLD[module][old]
    with pytest.warns(FutureWarning, match=f"{module}.{old} is called {new} now"):
        found = getattr(importlib.import_module(module), old)
    assert found is getattr(importlib.import_module(module), new)


@pytest.mark.parametrize("module", OLD)
def test_what_never_was_is_an_error(module: str) -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        importlib.import_module(module).Nothing  # noqa: B018  # that it fails is the test
