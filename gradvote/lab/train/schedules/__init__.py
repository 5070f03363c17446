"""The learning-rate schedules of a run: one file each, whose function of the file's name makes it from lr and steps."""

from typing import TYPE_CHECKING

from gradvote.arguments import checked, hints_of, parse_spec
from gradvote.discovery import Parts, spoilt
from gradvote.errors import unknown
from gradvote.sources import function_in, summary_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradvote.schedules import Schedule

GIVEN = ("lr", "steps")
_PARTS = Parts("schedules", "schedule", __name__, __path__)


def schedule_names() -> list[str]:
    """The schedules by their CLI names."""
    return _PARTS.names()


def describe_schedule(name: str) -> str:
    """One line about a schedule. Raises ValueError for an unknown name."""
    return summary_of(_PARTS.find(name).file)


def check_schedule(spec: str) -> None:
    """Raise ValueError for NAME or NAME:key=value,... that does not exist; nothing is imported where sources tell."""
    name, given = parse_spec(spec)
    known = schedule_options(name)
    for key in given:
        if not known:
            raise ValueError(f"The schedule {name} takes no options; leave out '{key}'.")
        if key not in known:
            raise unknown(f"option of the schedule {name}", key, known)


def schedule_of(spec: str, lr: float, steps: int) -> "Schedule":
    """The schedule NAME or NAME:key=value,... of a run of so many steps that begins at the rate `lr`."""
    check_schedule(spec)
    name, given = parse_spec(spec)
    function = _function(name)
    return function(lr, steps, **checked(f"the schedule {name}", given, hints_of(function)))


def schedule_options(name: str) -> list[str]:
    """The options of a schedule, from its source alone where that tells."""
    found = _PARTS.find(name)
    told = function_in(found.file, found.name.replace("-", "_")).options
    return [option for option in (hints_of(_function(name)) if told is None else told) if option not in GIVEN]


def _function(name: str) -> "Callable[..., Schedule]":
    found = _PARTS.find(name)
    function: Callable[..., Schedule] | None = getattr(_PARTS.load(name), found.name.replace("-", "_"), None)
    if function is None:
        raise spoilt(found, "schedule", f"it has no function {found.name.replace('-', '_')}(lr, steps)")
    return function
