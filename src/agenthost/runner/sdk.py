"""Import of the SDK, as fast as it goes."""

from __future__ import annotations

import gc
import importlib
import os
import platform
import sys
from dataclasses import dataclass
from typing import Any

from agenthost.runner.faults import Refusal
from agenthost.wire.codec import Codec, public_classes

_NO_PLUGINS = "PYDANTIC_DISABLE_PLUGINS"


@dataclass(frozen=True)
class Sdk:
    """The SDK that this sandbox has."""

    module: Any
    codec: Codec
    version: str

    def describe(self) -> dict[str, str]:
        """Return what ``state: ready`` tells of it."""
        return {
            "sdk_version": self.version,
            "python_version": platform.python_version(),
            "executable": sys.executable,
        }


def load() -> Sdk:
    """Import the SDK. Takes 0.4 to 3 s of one core; safe in a thread.

    Raises:
        Refusal: It is not installed, does not import or is too old.
    """
    # Both are measured: the import makes no garbage worth looking for, and no plugin of pydantic is ours.
    own_setting = os.environ.get(_NO_PLUGINS)
    os.environ[_NO_PLUGINS] = "1"
    collecting = gc.isenabled()
    gc.disable()
    try:
        module = importlib.import_module("claude_agent_sdk")
    except Exception as error:  # not only ImportError: a package that is half installed raises anything
        raise Refusal(
            "BootstrapError",
            f"claude-agent-sdk cannot be imported in the sandbox: {type(error).__name__}: {error} "
            f"(Python {platform.python_version()}, {sys.executable})",
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
    return Sdk(module=module, codec=Codec(public_classes(module)), version=version)
