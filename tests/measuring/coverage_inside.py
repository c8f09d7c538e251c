"""A plugin of coverage that measures the programs it cannot reach by itself: guest, runner and keeper.

They start without an environment and without site-packages, so that coverage's own start-up hook never runs
in them. While a run is measured, each gets a few lines in front that start coverage and save its data in a
directory that a ``local`` sandbox sees. ``scripts/measure`` names that directory; without it nothing happens.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import os
import sys
import sysconfig
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

from coverage.plugin_support import Plugins

DIRECTORY = "MEASURE_DIRECTORY"
_INSIDE = "/opt/agenthost/coverage"

# What the programs begin with. Braces are doubled: the program of a zipapp goes through str.format.
# A sandbox without coverage in its packages (an image of a cloud's emulator) is not measured.
_PRELUDE = """
def _measure(includes):
    import os, sys
    sites = [path for path in ("/opt/agenthost/site", SITE) if os.path.isdir(path + "/coverage")]
    stores = [path for path in (INSIDE, DIRECTORY) if os.access(path, os.W_OK)]
    if not sites or not stores:
        return
    sys.path.append(sites[0])
    try:
        import coverage
    except ImportError:
        return
    finally:
        sys.path.remove(sites[0])
    running = []
    def begin():
        if running:
            running.pop().stop()
        data = stores[0] + "/.coverage"
        measured = coverage.Coverage(data_file=data, data_suffix=True, config_file=False, include=includes)
        measured._warn_no_data = False
        measured.start()
        running.append(measured)
    def end():
        if running:
            measured = running.pop()
            measured.stop()
            measured.save()
    leave = os._exit
    def leave_measured(code):
        end()
        leave(code)
    import atexit
    atexit.register(end)
    os._exit = leave_measured
    os.register_at_fork(after_in_child=begin)
    begin()
_measure(INCLUDES)
"""


def coverage_init(reg: Plugins, options: dict[str, Any]) -> None:
    """Called by coverage in every process that it measures."""
    del reg, options
    if DIRECTORY in os.environ and not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def _prelude(includes: list[str]) -> str:
    text = _PRELUDE.replace("INCLUDES", repr(includes)).replace("INSIDE", repr(_INSIDE))
    text = text.replace("DIRECTORY", repr(os.environ[DIRECTORY]))
    return text.replace("SITE", repr(sysconfig.get_path("purelib")))


def _change_boot(module: Any) -> None:
    module._MAIN = _prelude(["**/*.pyz/agenthost/**"]) + module._MAIN


def _change_start(module: Any) -> None:
    module._PROGRAM = _prelude([module.PACKAGE + "/**"]) + module._PROGRAM


def _change_bwrap(module: Any) -> None:
    build = module.build

    def build_measured(profile: Any) -> Any:
        launch = build(profile)
        options = launch.data[module.ARGS_FD]
        end = b"--remount-ro\0/\0"
        bind = b"--bind\0%b\0%b\0" % (os.fsencode(os.environ[DIRECTORY]), _INSIDE.encode())
        launch.data[module.ARGS_FD] = options.replace(end, bind + end)
        return launch

    module.build = build_measured


_CHANGES: dict[str, Callable[[Any], None]] = {
    "agenthost.adapter.boot": _change_boot,
    "agenthost.providers.local.start": _change_start,
    "agenthost.providers.local.bwrap": _change_bwrap,
}


class _Finder(importlib.abc.MetaPathFinder):
    """Changes the three modules right after their import."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return the usual spec with another loader."""
        if fullname not in _CHANGES:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


class _Loader(importlib.machinery.SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        _CHANGES[module.__name__](module)
