"""Who owns a file or a folder that may not exist yet, and who may use one."""

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
    """Look a user up; one that does not exist has no rights but everybody's."""
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return User(name, None, frozenset())
    return User(name, entry.pw_uid, frozenset(os.getgrouplist(name, entry.pw_gid)))


def own_name() -> str:
    """Name of who runs this; the number where it has no name."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def owner(path: Path) -> str | None:
    """Name of the owner, of the nearest folder above where there is no such path yet; None for one without a name."""
    try:
        return pwd.getpwuid(existing(path).stat().st_uid).pw_name
    except KeyError:
        return None


def existing(path: Path) -> Path:
    """The path itself, or the nearest above it that exists."""
    return next((p for p in (path, *path.parents) if is_there(p)), Path("/"))


def is_there(path: Path) -> bool:
    """Whether there is such a path; not where this user may not look."""
    try:
        path.stat()
    except OSError:
        return False
    return True


def mount_of(path: Path) -> Path:
    """Where the file system of a path is mounted."""
    nearest = existing(path)
    return next((p for p in (nearest, *nearest.parents) if p.is_mount()), Path("/"))


def obstacle(path: Path, user: User, wanted: int) -> Path | None:
    """What on the way to an existing path, itself included, keeps a user from it; None where nothing does.

    Access control lists are not looked at, so an obstacle may be none.

    Parameters
    ----------
    path : Path
        Absolute.
    user : User
    wanted : int
        Bits of what is wanted at its end: 4 read, 2 write, 1 execute; a folder has to be entered in any case.
    """
    if user.uid == 0:
        return None
    for step in [*reversed(path.parents), path]:
        bits = wanted if step == path else 0
        try:
            status = step.stat()
        except OSError:  # behind an obstacle to ourselves
            return step
        if stat.S_ISDIR(status.st_mode):
            bits |= 1
        shift = 6 if status.st_uid == user.uid else 3 if status.st_gid in user.gids else 0
        if (status.st_mode >> shift) & bits != bits:
            return step
    return None


def groups_that_exist(*names: str) -> tuple[str, ...]:
    """Keep the names that are groups here."""
    known = {entry.gr_name for entry in grp.getgrall()}
    return tuple(name for name in names if name in known)
