"""Import of the SDK without the packages that only in-process MCP servers need.

Four fifths of the time that ``import claude_agent_sdk`` takes go to ``mcp``: pydantic models of two protocol
versions, an HTTP client, a web server. The SDK names a few of its classes when it is imported and uses them
only for in-process servers. Here it gets empty classes of these names instead, for an agent without such
servers.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

_SDK = "claude_agent_sdk"
_ABSENT = ("mcp", "jsonschema")


def import_lean() -> Any:
    """Return the SDK, imported without ``mcp`` and ``jsonschema``.

    A later ``import mcp`` gets the real package: the stand-ins are in ``sys.modules`` during the call only.
    Raises what the SDK's import raises, with nothing of it left in ``sys.modules``.
    """
    with _stand_ins():
        try:
            return importlib.import_module(_SDK)
        except BaseException:
            forget()
            raise


def forget() -> None:
    """Have the next import of the SDK begin anew. Objects of the SDK so far keep working."""
    for name in _loaded(_SDK):
        del sys.modules[name]


@contextmanager
def _stand_ins() -> Generator[None]:
    finder = _Finder()
    real = {name: sys.modules.pop(name) for package in _ABSENT for name in _loaded(package)}
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for package in _ABSENT:
            for name in _loaded(package):
                del sys.modules[name]
        sys.modules.update(real)


def _loaded(package: str) -> list[str]:
    return [name for name in sys.modules if name == package or name.startswith(package + ".")]


class _Absent:
    """An empty class in place of one that was not loaded. It has no instances."""

    def __init__(self, *_args: object, **_settings: object) -> None:
        name = type(self).__name__
        raise RuntimeError(f"mcp's {name} was not loaded, since this agent has no in-process MCP servers")

    def __init_subclass__(cls, **_settings: object) -> None:
        pass

    def __class_getitem__(cls, _item: object) -> type[_Absent]:
        return cls


class _StandIn(ModuleType):
    def __getattr__(self, name: str) -> type[_Absent]:
        if name.startswith("__"):
            raise AttributeError(name)
        made = type(name, (_Absent,), {})
        setattr(self, name, made)
        return made


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds stand-ins for every module of the packages that are to be absent."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return a spec for what is to be absent."""
        del path, target
        if fullname.partition(".")[0] not in _ABSENT:
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        """Return the stand-in."""
        return _StandIn(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Do nothing: names are made when they are asked for."""
