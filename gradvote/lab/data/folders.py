"""Where the files of a data set are looked for, and what is said when they are not there."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

ENVIRONMENT = "GRADVOTE_DATA"
DEFAULT_FOLDERS = ("../shared/data", "data")


class DataNotFoundError(FileNotFoundError, ValueError):
    """A data set's files are in none of the folders; the message says where it looked and how to get them."""


@dataclass(frozen=True)
class Files:
    """The files one data set needs.

    `groups` lists, for each part of the set, the file names that can hold it: at least one must be present.
    `subfolders` are the places inside a data folder where people keep them ("." is the folder itself).
    """

    name: str
    subfolders: tuple[str, ...]
    groups: tuple[tuple[str, ...], ...]
    origin: str

    def locate(self, data_dir: str | Path | None) -> list[list[Path]]:
        """The existing files of each group, from the first folder that has one of every group.

        Raises `DataNotFoundError` when no folder has.
        """
        folders = search_folders(data_dir)
        for place in self._places(folders):
            present = self._present(place)
            if all(present):
                return present
        raise DataNotFoundError(self._missing(folders))

    def _places(self, folders: Iterable[Path]) -> list[Path]:
        return [folder / sub for folder in folders for sub in self.subfolders]

    def _present(self, place: Path) -> list[list[Path]]:
        return [[place / file for file in group if (place / file).is_file()] for group in self.groups]

    def _missing(self, folders: list[Path]) -> str:
        expected = ", ".join(" or ".join(group) for group in self.groups)
        inside = ", ".join(sub for sub in self.subfolders if sub != ".")
        return (
            f"The data set '{self.name}' was not found. Looked in: {', '.join(map(str, folders))}."
            f"{self._incomplete(folders)} Expected in one of these folders, or inside it in {inside}: "
            f"{expected}. Where to get it: {self.origin}. Then name the folder with --data-dir or "
            f"{ENVIRONMENT}."
        )

    def _incomplete(self, folders: list[Path]) -> str:
        for place in self._places(folders):
            present = self._present(place)
            if any(present):
                lacking = [" or ".join(g) for g, p in zip(self.groups, present, strict=True) if not p]
                return f" {place} is incomplete: it lacks {', '.join(lacking)}."
        return ""


def search_folders(data_dir: str | Path | None) -> list[Path]:
    """The folders to search, in order, as absolute paths.

    A folder named by the caller is the only one searched, so that nobody who names one is given other data;
    otherwise the folder in the environment variable GRADVOTE_DATA, then `../shared/data` and `./data`.
    """
    if data_dir is not None:
        return [Path(data_dir).expanduser().resolve()]
    named = os.environ.get(ENVIRONMENT)
    return [Path(folder).expanduser().resolve() for folder in ((named,) if named else ()) + DEFAULT_FOLDERS]
