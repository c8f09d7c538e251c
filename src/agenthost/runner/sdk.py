"""Import of the SDK: without mcp where that will do."""

from __future__ import annotations

import gc
import importlib
import logging
import os
import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from agenthost.runner.faults import Refusal
from agenthost.runner.lean_import import forget, import_lean
from agenthost.wire.codec import Codec, dumps, public_classes

logger = logging.getLogger("agenthost.runner")

_NO_PLUGINS = "PYDANTIC_DISABLE_PLUGINS"
_MANAGED_SETTINGS = "/etc/claude-code"  # the CLI's own place, which no option switches off


@dataclass(frozen=True)
class Sdk:
    """The SDK that this sandbox has.

    Attributes:
        has_mcp: Whether in-process MCP servers work: see ``reload_with_mcp``.
    """

    module: Any
    codec: Codec
    version: str
    has_mcp: bool = True
    # pydantic's JSON writer, which comes with the SDK's own dependencies: five times the stdlib's speed.
    to_json: Callable[[Any], bytes] | None = None
    stream_event: type | None = None

    def dumps(self, message: object) -> bytes:
        """Return a message as one line of JSON.

        Raises:
            CodecError: It is nested too deeply.
        """
        if self.to_json is not None and type(message) is self.stream_event:
            # Nearly all of a flood is this class, and all that it holds came out of json.loads: nothing to
            # mark but a key that looks like a mark, which the text shows.
            fields = {name: value for name, value in vars(message).items() if value is not None}
            try:
                text = self.to_json(fields)
            except ValueError:
                text = b'"$'
            if b'"$' not in text:
                return b'{"$type":"StreamEvent",' + text[1:]
        encoded = self.codec.encode(message)
        if self.to_json is not None:
            try:
                return self.to_json(encoded)
            except ValueError:
                pass  # half of a character, which UTF-8 cannot hold: the stdlib writes it as an escape
        return dumps(encoded).encode("ascii")

    def describe(self) -> dict[str, str]:
        """Return what ``state: ready`` tells of it."""
        found = {
            "sdk_version": self.version,
            "python_version": platform.python_version(),
            "executable": sys.executable,
        }
        if os.path.isdir(_MANAGED_SETTINGS):
            found["managed_settings"] = _MANAGED_SETTINGS
        return found


_ahead: list[Sdk] = []  # what ``load_ahead`` has imported


def load_ahead(*, mcp: bool) -> None:
    """Import the SDK now, so that ``load`` returns at once, in this process and in those it forks.

    Raises:
        Refusal: As ``load``.
    """
    _ahead[:] = [load(mcp=mcp)]


def load(*, mcp: bool = False) -> Sdk:
    """Import the SDK without what only in-process MCP servers need. Takes a fifth of the whole import's time.

    An SDK that does not import so is imported whole. Safe in a thread.

    Args:
        mcp: Whether such servers will be needed.

    Raises:
        Refusal: It is not installed, does not import or is too old.
    """
    if _ahead:
        return _ahead[0]
    if not mcp and "claude_agent_sdk" not in sys.modules:
        try:
            return _load(import_lean, has_mcp=False)
        except Refusal as refusal:
            logger.warning("importing the SDK with mcp, because it cannot be imported without: %s", refusal)
    return _load(_import_whole, has_mcp=True)


def reload_with_mcp() -> Sdk:
    """Import the SDK anew, with mcp. Takes 0.4 to 3 s of one core; safe in a thread.

    The classes of the result are not those that ``load`` returned.

    Raises:
        Refusal: mcp is not installed or does not import.
    """
    forget()
    return _load(_import_whole, has_mcp=True)


def _import_whole() -> Any:
    return importlib.import_module("claude_agent_sdk")


def _way_out(error: Exception) -> str:
    if not isinstance(error, ModuleNotFoundError):
        return ""
    return (
        " HostedAgent(provider=...) makes a sandbox that has it. For sandbox=, make it from an image "
        "of `agenthost bake`, or install claude-agent-sdk for that Python in it"
    )


def _load(import_sdk: Callable[[], Any], *, has_mcp: bool) -> Sdk:
    # Both are measured: the import makes no garbage worth looking for, and no plugin of pydantic is ours.
    own_setting = os.environ.get(_NO_PLUGINS)
    os.environ[_NO_PLUGINS] = "1"
    collecting = gc.isenabled()
    gc.disable()
    try:
        module = import_sdk()
    except Exception as error:  # not only ImportError: a package that is half installed raises anything
        raise Refusal(
            "BootstrapError",
            f"claude-agent-sdk cannot be imported in the sandbox: {type(error).__name__}: {error} "
            f"(Python {platform.python_version()}, {sys.executable}).{_way_out(error)}",
        ) from error
    finally:
        # The CLI inherits this environment, and the agent's programs the CLI's.
        if own_setting is None:
            del os.environ[_NO_PLUGINS]
        else:
            os.environ[_NO_PLUGINS] = own_setting
        gc.freeze()
        if collecting:
            gc.enable()
    version = str(getattr(module, "__version__", "unknown"))
    if not hasattr(module, "ClaudeSDKClient"):
        raise Refusal("BootstrapError", f"claude-agent-sdk {version} in the sandbox has no ClaudeSDKClient")
    try:
        to_json: Any = importlib.import_module("pydantic_core").to_json
    except (ImportError, AttributeError):
        to_json = None
    classes = public_classes(module)
    return Sdk(
        module=module,
        codec=Codec(classes),
        version=version,
        has_mcp=has_mcp,
        to_json=to_json,
        stream_event=classes.get("StreamEvent"),
    )
