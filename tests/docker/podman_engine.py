"""podman's service for tests: a private one, on a socket of its own, that ends with the run."""

from __future__ import annotations

import os
import resource
import shutil
from collections.abc import Iterator

import pytest
from docker.base_image import build_base_image, sdk_by_name, with_files
from docker.docker_engine import DockerEngine, engine_directory, provide_image, remove_groups, running

_IMAGE = "agenthost-test/own:latest"
_NEEDS = ("podman", "runc", "unshare")
# A program that the service has run in a container is watched for five minutes more by one of podman's own:
# these end with the service, as all do in its process namespace.
_APART = ("--pid", "--fork", "--kill-child", "--mount-proc")
# Its cache and a lock lie there whatever it is told.
_HIDE = """
for place in /var/lib /etc/cni; do [ ! -d $place ] || mount -t tmpfs none $place || exit; done
exec "$0" "$@"
"""
# What podman 4.3 wants to be told where control groups are of both versions and a process may not raise its
# limits: crun refuses the first, and podman asks for more than the second unless told.
_CONF = """
[containers]
default_ulimits = ["nofile={files}:{files}", "nproc={processes}:{processes}"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "none"
"""
_STORAGE = """
[storage]
driver = "overlay"
graphroot = "{directory}/graph"
runroot = "{directory}/run"
"""


@pytest.fixture(scope="session")
def podman_engine() -> Iterator[DockerEngine]:
    """Give podman's service, with an image that has the SDK by name alone; skip where there is no podman."""
    missing = [name for name in _NEEDS if shutil.which(name) is None]
    if missing or os.geteuid() != 0:
        what = f"{', '.join(missing)} is missing" if missing else "this is not root"
        pytest.skip(f"not in CI: {what}; as root, apt-get install --no-install-recommends podman runc")
    directory = engine_directory("podman-")
    host = f"unix://{directory}/sock"
    limits = {"files": _limit(resource.RLIMIT_NOFILE), "processes": _limit(resource.RLIMIT_NPROC)}
    (directory / "containers.conf").write_text(_CONF.format(**limits))
    (directory / "storage.conf").write_text(_STORAGE.format(directory=directory))
    for name in ("tmp", "volumes"):
        (directory / name).mkdir()
    argv = ["sh", "-c", _HIDE, "podman", "--tmpdir", f"{directory}/tmp"]
    argv += ["--volumepath", f"{directory}/volumes", "system", "service", "--time=0", host]
    env = {
        "TMPDIR": f"{directory}/tmp",
        "CONTAINERS_CONF": f"{directory}/containers.conf",
        "CONTAINERS_STORAGE_CONF": f"{directory}/storage.conf",
    }
    try:
        with running(argv, host, directory, apart=_APART, env=env):
            provide_image(host, _IMAGE, lambda: with_files(build_base_image(), sdk_by_name()))
            yield DockerEngine(host, private=True, base=_IMAGE)
    finally:
        remove_groups("libpod_parent", shared=True)


def _limit(kind: int) -> int:
    hard = resource.getrlimit(kind)[1]
    return 10_000 if hard == resource.RLIM_INFINITY else min(hard, 10_000)
