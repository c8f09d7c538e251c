"""Which Python and which packages of this machine a sandbox sees, and where."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
import sysconfig
from dataclasses import dataclass

from agenthost.errors import ConfigError

PYTHON_INSIDE = "/opt/agenthost/python"
SITE_INSIDE = "/opt/agenthost/site"

# The SDK and what it imports. Usually one directory holds them all.
PACKAGES = ("claude_agent_sdk", "mcp", "anyio", "pydantic", "pydantic_core", "typing_extensions")


_NAME = re.compile(r"(python|pypy)[0-9.]*[a-z]*$")


@dataclass(frozen=True, slots=True)
class Interpreter:
    """The interpreter of a sandbox.

    Attributes:
        path: Its absolute path inside.
        source: Directory of the host to be bound at PYTHON_INSIDE; None where /usr has it already.
        library_path: Where the linker finds its shared library inside; None where it finds it alone.
        known_as: The host's names of ``source``. Its console scripts begin with one of them, and what it was
            built with names it, too.
    """

    path: str
    source: str | None
    library_path: str | None
    known_as: tuple[str, ...] = ()


def host_interpreter() -> str:
    """Return the real path of the running interpreter, out of any virtual environment.

    Raises:
        ConfigError: Python is embedded in another program, and its prefix has no interpreter.
    """
    prefix = os.path.realpath(sys.base_prefix)
    named = [
        os.path.realpath(path) for path in (sys.executable, getattr(sys, "_base_executable", None)) if path
    ]
    # Another binary may have Python in it, and a wrapper may lie elsewhere: the prefix has the usual name.
    named = [path for path in named if path.startswith(prefix + "/") and _NAME.match(os.path.basename(path))]
    usual = os.path.join(prefix, "bin", f"python{sys.version_info.major}.{sys.version_info.minor}")
    for path in (*named, usual):
        if os.access(path, os.X_OK):
            return path
    raise ConfigError(
        f"there is no Python interpreter at {usual}: this program runs in one that "
        f"brings its own ({sys.executable}). Start it with an ordinary python, or use a provider that is not "
        "local"
    )


def find_interpreter() -> Interpreter:
    """Return the interpreter for sandboxes on this machine."""
    prefix = os.path.realpath(sys.base_prefix)
    path = host_interpreter()
    if prefix == "/usr" or prefix.startswith("/usr/"):
        return Interpreter(path, None, None)
    inside = os.path.join(PYTHON_INSIDE, os.path.relpath(path, prefix))
    shared = sysconfig.get_config_var("Py_ENABLE_SHARED") == 1
    names = tuple(dict.fromkeys((os.path.normpath(sys.base_prefix), prefix)))
    return Interpreter(inside, prefix, f"{PYTHON_INSIDE}/lib" if shared else None, names)


def find_sites(site: str | None = None) -> tuple[str, ...]:
    """Return the host's directories that hold claude_agent_sdk and its needs, the SDK's first.

    Empty when the SDK is not installed. Nothing is imported. ``site`` names one that holds them all.

    Raises:
        ConfigError: ``site`` is not a directory.
    """
    if site is not None:
        if not os.path.isdir(site):
            raise ConfigError(f"site {site!r} is not a directory of this machine")
        return (os.path.realpath(site),)
    directories: list[str] = []
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            if not directories:
                return ()
            continue
        home = os.path.dirname(spec.origin) if spec.submodule_search_locations else spec.origin
        directory = os.path.realpath(os.path.dirname(home))
        if directory not in directories:
            directories.append(directory)
    return tuple(directories)


def sites_inside(count: int) -> tuple[str, ...]:
    """Return where so many site directories are inside."""
    return tuple(SITE_INSIDE if index == 0 else f"{SITE_INSIDE}-{index + 1}" for index in range(count))
