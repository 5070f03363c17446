"""Public names that have been changed: they work for one release, and say so."""

import warnings
from collections.abc import Callable, Mapping


def old_names(module: str, new: Mapping[str, object], gone: str = "0.3") -> Callable[[str], object]:
    """The `__getattr__` of a module whose names have been changed; `new` has what each of the old ones means."""

    def find(name: str) -> object:
        if name not in new:
            raise AttributeError(f"module '{module}' has no attribute '{name}'")
        now = getattr(new[name], "__name__", name)
        warnings.warn(f"{module}.{name} is called {now} now; the old name goes with version {gone}.", FutureWarning, 2)
        return new[name]

    return find
