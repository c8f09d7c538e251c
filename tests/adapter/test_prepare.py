"""A working directory that only root can make: by the script that each cloud runs, as another user.

The place is a file system of its own, in a namespace of mounts that ends with the script. Its ``sudo`` really
makes a program root, by a file that has root's setuid bit.
"""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from agenthost.adapter.bootstrap import prepare_command

USER = "54321"  # has no name and nothing on this machine
WORKDIR = "/mnt/srv/of root/work"
BOOT = "/mnt/home/boot"

# $1 is the kind of sudo, $2 the user, then the program.
_PLACE = r"""
set -eu
mount -t tmpfs -o mode=0755 tmpfs /mnt
mkdir -p /mnt/bin /mnt/srv /mnt/home/boot
touch /mnt/home/boot/guest.pyz
chown -R "$2:$2" /mnt/home
case "$1" in
right)
    cp "$(command -v setpriv)" /mnt/bin/become
    chmod 4755 /mnt/bin/become
    echo 'test "$1" = -n && shift && exec become --reuid=0 --regid=0 --clear-groups "$@"' ;;
password)
    echo 'test "$1" = -n && echo "sudo: a password is required" >&2 || echo "Password:" >&2; exit 1' ;;
esac > /mnt/body
if [ "$1" != none ]; then { echo '#!/bin/sh'; cat /mnt/body; } > /mnt/bin/sudo; chmod 755 /mnt/bin/sudo; fi
export PATH=/mnt/bin:/usr/bin:/bin
user=$2; shift 2
exec setpriv --reuid="$user" --regid="$user" --clear-groups --inh-caps=-all "$@"
"""
_UNSHARE = ["unshare", "--mount", "--propagation", "private"]
# What the prepared program does: it shows whose the directory is and that it can be written to.
_WRITE = 'touch "$1/file" && stat -c "%u:%g %a" "$1" && stat -c %u "${1%/*}"; pwd'


@pytest.fixture(scope="module", autouse=True)
def place() -> None:
    """Skip where there can be no other user, or no file system of one's own."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    if missing := [name for name in ("unshare", "setpriv") if shutil.which(name) is None]:
        pytest.skip(f"{missing[0]} of util-linux is not installed")
    probe = subprocess.run([*_UNSHARE, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True)
    if probe.returncode != 0:
        pytest.skip(f"root cannot mount here: {probe.stderr.decode().strip()}")


def prepare(sudo: str, workdir: str) -> subprocess.CompletedProcess[str]:
    """Run a program as each cloud does, as a user without any right."""
    argv = prepare_command(workdir, BOOT, ["sh", "-c", _WRITE, "sh", workdir])
    return subprocess.run(
        [*_UNSHARE, "sh", "-c", _PLACE, "sh", sudo, USER, *argv], capture_output=True, text=True, timeout=60
    )


def test_sudo_makes_a_directory_that_the_user_cannot_make_and_gives_it_to_the_user() -> None:
    done = prepare("right", WORKDIR)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [f"{USER}:{USER} 755", "0", "/"]


@pytest.mark.parametrize(
    ("sudo", "why"), [("password", "sudo: a password is required"), ("none", "sudo: not found")]
)
def test_where_sudo_does_not_make_it_the_error_names_what_to_do_and_nothing_is_started(
    sudo: str, why: str
) -> None:
    done = prepare(sudo, WORKDIR)
    assert (done.returncode, done.stdout) == (1, "")
    assert why in done.stderr
    assert f"User {USER} cannot make the working directory {WORKDIR}" in done.stderr
    assert "SandboxSpec(workdir=...)" in done.stderr


def test_a_directory_that_the_user_can_make_takes_no_sudo() -> None:
    done = prepare("none", "/mnt/home/work")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [f"{USER}:{USER} 755", USER, "/"]
