"""ClaudeAgentOptions from plain data, with what must not be seen on a command line in files."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

from agenthost.runner.faults import Refusal
from agenthost.runner.sdk import Sdk
from agenthost.wire.codec import CodecError, UnknownObject, unknown_fields

# They hold functions or live objects: the host answers for them, or refuses them by name.
_LIVE = ("can_use_tool", "hooks", "session_store", "stderr", "debug_stderr")


class SecretFiles:
    """Files of mode 0600 in a directory of mode 0700, made when the first is needed."""

    def __init__(self, owner: str | None = None) -> None:
        self._owner = owner
        self._directory: Path | None = None

    def write(self, name: str, text: str) -> str:
        """Write a file and return its path."""
        if self._directory is None:
            self._directory = Path(tempfile.mkdtemp(prefix="agenthost-runner-"))
            if self._owner is not None:
                shutil.chown(self._directory, self._owner)
        path = self._directory / name
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(text.encode("utf-8", "surrogatepass"))
        if self._owner is not None:
            shutil.chown(path, self._owner)
        return str(path)

    def remove(self) -> None:
        """Remove the directory. Idempotent."""
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None


def build_options(
    sdk: Sdk,
    encoded: Mapping[str, Any],
    *,
    host_version: str,
    files: Callable[[str | None], SecretFiles],
    stderr: Callable[[str], None],
    relayed: Mapping[str, Any],
) -> Any:
    """Return the SDK's options.

    Args:
        encoded: The fields that differ from their default.
        host_version: The SDK's version on the host, for messages.
        files: Makes the directory for secrets, given the user that the CLI runs as.
        stderr: Takes each line that the CLI prints to stderr. Always set: otherwise the SDK loses them.
        relayed: Fields that are functions of the host, as functions that ask it.

    Raises:
        Refusal: An option that this SDK lacks or that cannot cross, by name.
    """
    known = {field.name for field in fields(sdk.module.ClaudeAgentOptions)}
    missing = sorted(set(encoded) - known)
    if missing:
        raise _lacks(sdk, host_version, [f"option {name!r}" for name in missing])
    live = [name for name in _LIVE if name in encoded]
    if live:
        raise Refusal("UnsupportedError", f"options that cannot cross as data: {', '.join(live)}")
    values: dict[str, Any] = {}
    lacking: list[str] = []
    for name, value in encoded.items():
        try:
            values[name] = sdk.codec.decode(value)
        except CodecError as error:
            raise Refusal("UnsupportedError", f"option {name!r}: {error}") from error
        _find_unknown(values[name], name, lacking)
    if lacking:
        raise _lacks(sdk, host_version, lacking)
    store = files(values.get("user"))
    _hide_mcp_servers(values, relayed.get("mcp_servers") or {}, store)
    _hide_settings(sdk, values, store)
    _hide_system_prompt(values, store)
    functions = {name: value for name, value in relayed.items() if name != "mcp_servers"}
    return sdk.module.ClaudeAgentOptions(**values, **functions, stderr=stderr)


def _lacks(sdk: Sdk, host_version: str, what: list[str]) -> Refusal:
    return Refusal(
        "UnsupportedError",
        f"claude-agent-sdk {sdk.version} in the sandbox does not know {', '.join(what)}; "
        f"the host has {host_version}. Use the same version on both sides, or do without.",
    )


def _find_unknown(value: Any, where: str, found: list[str]) -> None:
    """Collect what the codec took along without knowing it: the CLI would never hear of it."""
    if isinstance(value, UnknownObject):
        found.append(f"{value.type_name} in option {where!r}")
    elif type(value) is dict:
        for key, item in cast("dict[object, object]", value).items():
            _find_unknown(item, f"{where}[{key!r}]", found)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(cast("list[object]", value)):
            _find_unknown(item, f"{where}[{index}]", found)
    else:
        found.extend(f"option '{where}.{name}'" for name in unknown_fields(value))


def _is_inline(text: str) -> bool:
    text = text.strip()
    return text.startswith("{") and text.endswith("}")


def _hide_mcp_servers(values: dict[str, Any], live: Mapping[str, Any], files: SecretFiles) -> None:
    servers = values.get("mcp_servers")
    if isinstance(servers, dict):
        named = cast("dict[str, Any]", servers)
        lifeless = [name for name, config in named.items() if _kind(config) == "sdk"]
        if lifeless:
            raise Refusal("UnsupportedError", f"in-process MCP servers cannot cross as data: {lifeless}")
    if live:
        # The SDK has to see the servers of the host, and would put the others beside them on the command
        # line. Of two lists the CLI takes the last, which is this one: it names them all.
        others = cast("dict[str, Any]", servers or {})
        values["mcp_servers"] = dict(live)
        if others:
            plain = {
                name: {k: v for k, v in config.items() if k != "instance"} for name, config in live.items()
            }
            path = files.write("mcp.json", json.dumps({"mcpServers": {**others, **plain}}))
            if "mcp-config" not in (values.get("extra_args") or {}):
                _add_argument(values, "mcp-config", path)
    elif isinstance(servers, dict):
        if servers:
            values["mcp_servers"] = files.write("mcp.json", json.dumps({"mcpServers": servers}))
    elif isinstance(servers, str) and _is_inline(servers):
        values["mcp_servers"] = files.write("mcp.json", servers)


def _kind(config: Any) -> Any:
    return cast("dict[str, Any]", config).get("type") if isinstance(config, dict) else None


def _hide_settings(sdk: Sdk, values: dict[str, Any], files: SecretFiles) -> None:
    """Do what the SDK does with ``settings`` and ``sandbox``, but into a file."""
    settings = values.get("settings")
    sandbox = values.get("sandbox")
    if sandbox is None:
        if isinstance(settings, str) and _is_inline(settings):
            values["settings"] = files.write("settings.json", settings)
        return
    merged: dict[str, Any] = {}
    try:
        if settings is not None:
            text = str(settings).strip()
            if not _is_inline(text):
                # A path, read as the CLI does: relative to its cwd, with or without a byte order mark.
                text = (Path(str(values.get("cwd") or "")) / text).read_text(encoding="utf-8-sig")
            merged = json.loads(text)
        merged["sandbox"] = sandbox
    except (OSError, ValueError, TypeError) as error:
        raise sdk.module.CLIConnectionError(f"Failed to load settings: {error}") from error
    values["settings"] = files.write("settings.json", json.dumps(merged))
    values["sandbox"] = None


def _hide_system_prompt(values: dict[str, Any], files: SecretFiles) -> None:
    """Replace the text of a system prompt by a file: the CLI reads it exactly as it reads the argument.

    Besides being seen by every process, an argument above 128 KiB cannot be passed at all.
    """
    prompt = values.get("system_prompt")
    if isinstance(prompt, str):
        if prompt:
            path = files.write("system-prompt.txt", prompt)
            values["system_prompt"] = {"type": "file", "path": path}
        return
    if not isinstance(prompt, dict):
        return
    form = dict(cast("dict[str, Any]", prompt))
    if form.get("type") == "custom" and form.get("prompt"):
        path = files.write("system-prompt.txt", form.pop("prompt"))
        if "snapshot" in form:
            # The SDK reads ``snapshot`` from this form and from a preset, but not from a file. A preset
            # without text adds no argument of its own.
            form = {"type": "preset", "preset": "claude_code", "snapshot": form["snapshot"]}
            _add_argument(values, "system-prompt-file", path)
        else:
            form = {"type": "file", "path": path}
    elif form.get("type") == "preset" and form.get("append"):
        _add_argument(
            values, "append-system-prompt-file", files.write("system-prompt.txt", form.pop("append"))
        )
    values["system_prompt"] = form


def _add_argument(values: dict[str, Any], flag: str, value: str) -> None:
    values["extra_args"] = {**(values.get("extra_args") or {}), flag: value}
