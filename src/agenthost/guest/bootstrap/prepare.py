"""Runs inside, once, before the guest: finds or installs the SDK and starts the guest.

    prepare.py DIRECTORY SDK_VERSION SITE...

DIRECTORY holds what belongs to a Boot. SDK_VERSION is installed where no SDK is found; empty: an agent is not
asked for, and what is there is good enough. SITE are directories in which an image may have brought the SDK.

Prints one JSON object a line: ``say`` (progress), then one of ``ready``, ``missing`` (a list, in words) and
``failed``. Standard library only, any Python from 3.10.
"""

from __future__ import annotations

import glob
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys

GLIBC = (2, 26)  # the newest symbol version that the claude binary needs
LAST = 15  # lines of an installer that are kept for an error


def main(directory: str, sdk: str, *sites: str) -> int:
    """Do all of it; the exit code is 0 when the guest listens."""
    python = os.path.realpath(sys.executable)
    link(python, directory + "/python")
    found = find_sdk(sites)
    if sdk:
        missing = look_around()
        if missing:
            return tell(missing=missing)
        if found is None:
            found = directory + "/packages"
            tell(say="installing claude-agent-sdk " + sdk + ", 170 MB (a baked image has it: agenthost bake)")
            problem = install(python, found, sdk)
            if problem is not None:
                return problem
    link(found or directory + "/packages", directory + "/site")
    return start(python, directory)


def find_sdk(sites: tuple[str, ...]) -> str | None:
    """Return the directory that holds the SDK, an image's first, then this Python's own."""
    for site in sites:
        if os.path.isfile(site + "/claude_agent_sdk/__init__.py"):
            return site
    spec = importlib.util.find_spec("claude_agent_sdk")
    if spec is None or spec.origin is None:
        return None
    return os.path.dirname(os.path.dirname(os.path.realpath(spec.origin)))


def look_around() -> list[str]:
    """Return what the CLI needs and is not there."""
    missing: list[str] = []
    name, version = platform.libc_ver()
    if name != "glibc":
        missing.append("glibc 2.26 or newer (it has another C library; Alpine's images do)")
    elif tuple(int(part) for part in version.split(".")[:2]) < GLIBC:
        missing.append("glibc 2.26 or newer (it has " + version + ")")
    if shutil.which("bash") is None:
        missing.append("bash")
    return missing


def install(python: str, target: str, sdk: str) -> int | None:
    """Install exactly this version; None when it went well."""
    wanted = "claude-agent-sdk==" + sdk
    uv = shutil.which("uv")
    if uv is not None:
        command = [uv, "pip", "install", "--python", python, "--target", target, "--compile-bytecode", wanted]
    elif importlib.util.find_spec("pip") is not None:
        command = [python, "-I", "-m", "pip", "install", "--no-input", "--disable-pip-version-check"]
        command += ["--progress-bar", "off", "--target", target, wanted]
    else:
        return tell(missing=["the SDK, and pip or uv to install it"])
    shutil.rmtree(target, ignore_errors=True)  # of one that was killed
    last: list[str] = []
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "PIP_ROOT_USER_ACTION": "ignore"},
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            text = line.decode("utf-8", "replace").strip()
            if text:
                last = [*last[1 - LAST :], text]
                tell(say=text)
    if process.returncode == 0:
        return None
    shutil.rmtree(target, ignore_errors=True)  # half of it would be taken for the whole
    return tell(missing=["the SDK, and a package index that has it within reach"], said="\n".join(last))


def start(python: str, directory: str) -> int:
    """Start the guest, which detaches itself."""
    for left in glob.glob(directory + "/guest.sock*"):
        os.unlink(left)
    command = [python, "-I", directory + "/guest.pyz", "start", "--boot", directory + "/boot.json"]
    done = subprocess.run(
        [*command, "--socket", directory + "/guest.sock"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,
    )
    # The guest has removed it, unless it did not start: an image of these files would keep the environment in
    # it, secrets and all.
    if os.path.lexists(directory + "/boot.json"):
        os.unlink(directory + "/boot.json")
    if done.returncode != 0:
        return tell(failed=done.stderr[-2000:].decode("utf-8", "replace").strip())
    tell(ready=True)
    return 0


def link(source: str, target: str) -> None:
    """Make a symbolic link; one that is there is replaced."""
    if os.path.lexists(target):
        os.unlink(target)
    os.symlink(source, target)


def tell(**what: object) -> int:
    """Print one line. The exit code of what ends with it."""
    print(json.dumps(what), flush=True)
    return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
