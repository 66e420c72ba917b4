"""Who may use a file, judged from its mode bits, against what the kernel says."""

import os
import subprocess
from pathlib import Path

import pytest

from cellseg_device.system import rights
from cellseg_device.system.rights import User

SOMEBODY = User("somebody", 4321, frozenset({4321}))

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")


@pytest.fixture
def tree(tmp_path, let_in):
    """A file two folders down, open to all; the way to it as well."""
    path = tmp_path / "a" / "b" / "file"
    path.parent.mkdir(parents=True)
    path.write_text("x")
    let_in(path)
    return path


@as_root
@pytest.mark.parametrize("mode", [0o755, 0o750, 0o705, 0o711, 0o700, 0o744, 0o077])
@pytest.mark.parametrize("depth", [0, 1, 2])
def test_as_the_kernel_says(tree, mode, depth):
    part = [tree, *tree.parents][depth]
    part.chmod(mode)
    options = {"user": SOMEBODY.uid, "group": 4321, "extra_groups": []}
    allowed = subprocess.run(["cat", tree], capture_output=True, check=False, **options).returncode == 0
    assert (rights.obstacle(tree, SOMEBODY, 4) is None) == allowed
    if not allowed:
        assert rights.obstacle(tree, SOMEBODY, 4) == part


def test_owner_group_and_the_others(tree):
    status = tree.stat()
    tree.chmod(0o640)
    assert rights.obstacle(tree, User("owner", status.st_uid, frozenset()), 6) is None
    assert rights.obstacle(tree, User("member", 4321, frozenset({status.st_gid})), 4) is None
    assert rights.obstacle(tree, User("member", 4321, frozenset({status.st_gid})), 2) == tree
    assert rights.obstacle(tree, SOMEBODY, 4) == tree
    assert rights.obstacle(tree, User("root", 0, frozenset()), 7) is None
    assert rights.obstacle(tree, User("to come", None, frozenset()), 4) == tree


def test_users_and_owners(tmp_path):
    me = rights.user_named(rights.own_name())
    assert me.uid == os.geteuid()
    assert os.getegid() in me.gids
    assert rights.user_named("no-such-user-here") == User("no-such-user-here", None, frozenset())
    assert rights.owner(tmp_path) == me.name
    assert rights.owner(tmp_path / "not" / "yet") == me.name
    assert rights.owner(Path("/no-such-folder")) == "root"


@as_root
def test_an_owner_without_a_name(tmp_path):
    os.chown(tmp_path, 4321, 4321)
    assert rights.owner(tmp_path / "x") is None


def test_where_it_is_mounted(tmp_path):
    assert rights.mount_of(Path("/proc/self")) == Path("/proc")
    assert rights.mount_of(tmp_path / "not" / "yet").is_mount()
    assert rights.existing(tmp_path / "not" / "yet") == tmp_path


def test_only_groups_that_exist():
    assert rights.groups_that_exist("no-such-group-here", "root") == ("root",)
    assert rights.groups_that_exist() == ()
