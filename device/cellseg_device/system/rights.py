"""Who owns a file or folder, even one that does not exist yet, and who may use it."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class User:
    """A user as the system knows it.

    Attributes
    ----------
    name : str
    uid : int or None
        None for one that does not exist yet.
    gids : frozenset of int
    """

    name: str
    uid: int | None
    gids: frozenset[int]


def user_named(name: str) -> User:
    """Return the user of a name; one that does not exist has only the rights that everybody has."""
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return User(name, None, frozenset())
    return User(name, entry.pw_uid, frozenset(os.getgrouplist(name, entry.pw_gid)))


def own_name() -> str:
    """Return the name of the user who runs this, or the number of one without a name."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def owner(path: Path) -> str | None:
    """Return the name of a path's owner, for a new path the nearest folder's; None for an owner without a name."""
    try:
        return pwd.getpwuid(existing(path).stat().st_uid).pw_name
    except KeyError:
        return None


def existing(path: Path) -> Path:
    """Return the path itself, or the nearest folder above it that exists."""
    return next((p for p in (path, *path.parents) if is_there(p)), Path("/"))


def is_there(path: Path) -> bool:
    """Return whether there is such a path; False if this user may not look there."""
    try:
        path.stat()
    except OSError:
        return False
    return True


def mount_of(path: Path) -> Path:
    """Return where the file system of a path is mounted."""
    nearest = existing(path)
    return next((p for p in (nearest, *nearest.parents) if p.is_mount()), Path("/"))


def obstacle(path: Path, user: User, wanted: int, *, is_reached: bool = False) -> Path | None:
    """Return the folder above an existing path, or the path itself, that a user may not use; None if there is none.

    Access control lists are ignored, so the user may have a right that is missing here.

    Parameters
    ----------
    path : Path
        Absolute.
    user : User
    wanted : int
        Bits of the rights wanted to the path itself: 4 read, 2 write, 1 execute; folders also have to be entered.
    is_reached : bool
        Whether the folders above do not matter, because the user comes to the path in another way.
    """
    if user.uid == 0:
        return None
    for step in [path] if is_reached else [*reversed(path.parents), path]:
        bits = wanted if step == path else 0
        try:
            status = step.stat()
        except OSError:  # this process may not look there either
            return step
        if stat.S_ISDIR(status.st_mode):
            bits |= 1
        shift = 6 if status.st_uid == user.uid else 3 if status.st_gid in user.gids else 0
        if (status.st_mode >> shift) & bits != bits:
            return step
    return None


def groups_that_exist(*names: str) -> tuple[str, ...]:
    """Return those of the names that are groups here."""
    known = {entry.gr_name for entry in grp.getgrall()}
    return tuple(name for name in names if name in known)
