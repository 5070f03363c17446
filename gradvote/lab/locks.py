"""A folder that one process writes to at a time."""

import contextlib
import errno
import os
import platform
import time
import warnings
import weakref
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None  # type: ignore[assignment]  # looked at before every use

NAME = ".lock"
PATIENCE, PAUSE = 0.5, 0.05
_UNKNOWN = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}
"""What file systems say that keep no locks."""


class FolderLock:
    """The right to write into a folder, held by one process at a time on all machines that see the folder.

    It is a lock of the operating system (`flock`) on the file `.lock`: it ends with the process that holds it, however
    that ends, so a lock that was left behind is taken over. Between machines it works where the file system hands such
    locks on: NFS on Linux does, unless it is mounted with `nolock` or `local_lock`. Where the file system keeps no
    locks, a warning says so and the folder is not protected.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / NAME
        self._let_go: weakref.finalize[..., FolderLock] | None = None

    def hold(self) -> None:
        """Take the lock, and make the folder if there is none; nothing where this object holds it already.

        Raises:
            ValueError: another process, or another object here, holds it.
        """
        if self._let_go is not None:
            return
        made = _make(self.folder)
        until = time.monotonic() + PATIENCE
        while (descriptor := self._opened()) is None:
            if time.monotonic() > until:
                _remove(made)
                raise self._in_use()
            time.sleep(PAUSE)
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"process {os.getpid()} on {platform.node()} since {time.strftime('%F %T')}".encode())
        self._let_go = weakref.finalize(self, _release, descriptor, self.path, made, os.getpid())

    def release(self) -> None:
        """Give it back; a folder that was made for it and is still empty goes with it."""
        if self._let_go is not None:
            self._let_go()
            self._let_go = None

    def check(self) -> None:
        """Raise ValueError where another process, or another object here, holds it. Nothing is written."""
        if self._let_go is not None or not self.path.is_file():
            return
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            if not _locked(descriptor, self.folder, shared=True):
                raise self._in_use()
        finally:
            os.close(descriptor)

    def _opened(self) -> int | None:
        """The file, open and locked; None where somebody holds it, or has just put it away."""
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        if _locked(descriptor, self.folder) and _is_at(descriptor, self.path):
            return descriptor
        os.close(descriptor)
        return None

    def _in_use(self) -> ValueError:
        try:
            holder = self.path.read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            holder = ""
        return ValueError(
            f"{self.folder} is being written to by {holder or 'another process'}. Wait until it has ended, or choose "
            "another --out or --name."
        )


def _locked(descriptor: int, folder: Path, shared: bool = False) -> bool:
    if fcntl is None:
        return True
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in _UNKNOWN:
            return False
        warnings.warn(
            f"The file system of {folder} keeps no locks ({error.strerror}): see to it that no other run writes there.",
            stacklevel=4,
        )
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether the open file is still the one of that name: its last holder may have removed it meanwhile."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False


def _make(folder: Path) -> list[Path]:
    """The folders that had to be made, innermost first."""
    lacking = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return lacking


def _release(descriptor: int, path: Path, made: list[Path], process: int) -> None:
    if os.getpid() != process:  # a fork: the lock is its parent's
        return
    path.unlink(missing_ok=True)
    if fcntl is not None:
        with contextlib.suppress(OSError):  # closing alone would not do where a fork has the file open, too
            fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)
    _remove(made)


def _remove(made: list[Path]) -> None:
    """Remove those folders that are empty."""
    for folder in made:
        try:
            folder.rmdir()
        except OSError:
            return
