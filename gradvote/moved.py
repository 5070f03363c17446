"""Old names of modules that have moved, and of what is in them: they work until 0.3, with a warning that says the new.

`import gradvote.train` gives the very module `gradvote.lab.train`, not a copy, and its files by their old names too.
Names in strings do as well: a model that a run folder of 0.1 names `gradvote.experiments.nets:deep`.
"""

import importlib
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import CodeType, ModuleType

LAB = ("bench", "cli", "data", "experiments", "models", "plan", "report", "train")
MOVED = {
    "gradvote.engines.protocol": "gradvote.engines.common.protocol",
    "gradvote.engines.statistics": "gradvote.engines.distributed.statistics",
    "gradvote.data.partitions": "gradvote.partitions",
    "gradvote.data.shuffle": "gradvote.shuffle",
    **{f"gradvote.{name}": f"gradvote.lab.{name}" for name in LAB},
}
"""Old name: new name. Longer ones first, as the first that fits is taken."""


def new_name(old: str) -> str | None:
    """Where a module is now, or None if it has not moved."""
    for before, after in MOVED.items():
        if old == before or old.startswith(f"{before}."):
            return after + old.removeprefix(before)
    return None


class _Redirect(MetaPathFinder):
    """Finds modules by their old names."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        new = new_name(fullname) if fullname.startswith("gradvote.") else None
        found = find_spec(new) if new is not None else None
        return ModuleSpec(fullname, _Moved(fullname, found.name), origin=found.origin) if found else None


class _Moved(Loader):
    """Loads a module from its new place; afterwards both names stand for one module."""

    def __init__(self, old: str, new: str) -> None:
        self.old, self.new = old, new

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        warnings.warn(
            f"{self.old} is now {self.new}; the old name works until gradvote 0.3.",
            DeprecationWarning,
            stacklevel=_frames_to_caller(),
        )
        module = importlib.import_module(self.new)
        self.spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """It has run already; the import system has only put the old name's spec into it."""
        module.__spec__ = self.spec

    def get_code(self, fullname: str) -> CodeType | None:
        """For modules that are run by their old names."""
        spec = find_spec(self.new)
        return spec.loader.get_code(self.new) if spec and spec.loader and hasattr(spec.loader, "get_code") else None


def _frames_to_caller() -> int:
    """How far above `create_module` the program is that used the old name: a warning names that line of it."""
    own = {__file__, sys.modules["gradvote"].__file__, importlib.__file__}
    frame, far = sys._getframe(1), 1
    while frame.f_back and (frame.f_code.co_filename in own or "importlib._bootstrap" in frame.f_code.co_filename):
        far += frame.f_code.co_filename in own  # `warnings` leaves the import system's own frames out itself
        frame = frame.f_back
    return far


def redirect() -> None:
    """Let the old names be found: before all else, as a folder that only holds caches passes for a package."""
    if not any(isinstance(finder, _Redirect) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Redirect())


def old_names(module: str, new: Mapping[str, object], gone: str = "0.3") -> Callable[[str], object]:
    """The `__getattr__` of a module whose names have been changed; `new` has what each of the old ones means."""

    def find(name: str) -> object:
        if name not in new:
            raise AttributeError(f"module '{module}' has no attribute '{name}'")
        now = getattr(new[name], "__name__", name)
        text = f"{module}.{name} is now {module}.{now}; the old name works until gradvote {gone}."
        warnings.warn(text, DeprecationWarning, stacklevel=2)
        return new[name]

    return find
