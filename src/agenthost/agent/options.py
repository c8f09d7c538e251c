"""ClaudeAgentOptions as plain data that can cross, or a refusal by name."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import importlib.util
import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path, PurePath
from typing import Any, cast
from urllib.parse import urlsplit

from agenthost.agent.callbacks import Callbacks, take_callbacks
from agenthost.agent.defaults import SafeDefaults
from agenthost.errors import ConfigError
from agenthost.spec import require_texts
from agenthost.wire.codec import Codec, CodecError

# The SDK reads it no more; its default is the process's own stderr, which differs from process to process.
_DEAD = "debug_stderr"


@dataclass(slots=True)
class PlainOptions:
    """Options on their way into a sandbox.

    Attributes:
        fields: The fields that are not their default, live values except where ``encode`` was called.
        env: ``options.env``, apart because credentials are taken out of it.
        callbacks: The functions and live objects among them.
    """

    fields: dict[str, Any] = field(default_factory=dict[str, Any])
    env: dict[str, str] = field(default_factory=dict[str, str])
    callbacks: Callbacks = field(default_factory=Callbacks)

    @property
    def bypasses_permissions(self) -> bool:
        """Whether tools run without any question."""
        return self.fields.get("permission_mode") == "bypassPermissions"

    @property
    def own_sandbox(self) -> str | None:
        """Which option has the CLI start each command in a sandbox of its own; None where none does."""
        if _is_enabled(self._settings().get("sandbox")):
            return "settings"
        return "sandbox" if _is_enabled(self.fields.get("sandbox")) else None

    @property
    def has_key_helper(self) -> bool:
        """Whether the settings name a program that prints the key (``apiKeyHelper``)."""
        return bool(self._settings().get("apiKeyHelper"))

    def _settings(self) -> dict[str, Any]:
        """Return what ``settings`` says itself, empty where it names a file."""
        settings = self.fields.get("settings")
        if isinstance(settings, str) and settings.strip().startswith("{"):
            # What is wrong with it is for the CLI to say.
            with contextlib.suppress(ValueError):
                return dict(json.loads(settings))
        return {}

    def take_from_settings(self, names: Iterable[str]) -> None:
        """Move variables out of the ``env`` that ``settings`` says itself into ``env``, where they win."""
        settings = self._settings()
        inner: object = settings.get("env")
        if not isinstance(inner, dict):
            return
        variables = cast("dict[str, object]", inner)
        taken = {name: value for name in names if isinstance(value := variables.get(name), str)}
        if taken:
            left = {name: value for name, value in variables.items() if name not in taken}
            self.fields["settings"] = json.dumps({**settings, "env": left})
            self.env.update(taken)

    def servers_elsewhere(self) -> dict[str, str]:
        """Return the hosts of MCP servers that the CLI reaches by a network, by the server's name."""
        servers = self.fields.get("mcp_servers")
        found: dict[str, str] = {}
        if isinstance(servers, dict):
            for name, server in cast("dict[str, Any]", servers).items():
                url = cast("dict[str, object]", server).get("url") if isinstance(server, dict) else None
                if isinstance(url, str):
                    found[name] = _host_of(url)
        return found

    def paths(self) -> dict[str, str]:
        """Return what names a place in the machine that the CLI runs on, by the option's name."""
        found: dict[str, str] = {}
        for name in ("cwd", "cli_path", "mcp_servers", "settings"):
            value = self.fields.get(name)
            if isinstance(value, str | PurePath) and not str(value).strip().startswith("{"):
                found[name] = str(value)
        for number, path in enumerate(self.fields.get("add_dirs") or ()):
            found[f"add_dirs[{number}]"] = str(path)
        prompt = self.fields.get("system_prompt")
        if isinstance(prompt, dict):
            form = cast("dict[str, Any]", prompt)
            if form.get("type") == "file":
                found["system_prompt"] = str(form.get("path"))
        for number, plugin in enumerate(self.fields.get("plugins") or ()):
            found[f"plugins[{number}]"] = str(plugin.get("path"))
        return found

    def encode(self, codec: Codec) -> dict[str, Any]:
        """Return what the connect line holds.

        Raises:
            ConfigError: A value is no data, by the option's name.
        """
        encoded: dict[str, Any] = {}
        for name, value in {**self.fields, "env": self.env}.items():
            if name == "env" and not value:
                continue
            try:
                encoded[name] = codec.encode(_without_paths(value), name=f"options.{name}")
            except CodecError as error:
                raise ConfigError(str(error)) from error
        return encoded


def plain_options(options: object) -> PlainOptions:
    """Return the options that differ from the SDK's defaults.

    Args:
        options: ClaudeAgentOptions, a mapping of its fields, or None.

    Raises:
        ConfigError: It is neither, or a value has the wrong shape.
    """
    given = _fields(options)
    callbacks = take_callbacks(given)
    check_env(given)
    env: Mapping[str, str] = given.pop("env", None) or {}
    plain = PlainOptions(callbacks=callbacks)
    plain.env = dict(env)
    plain.fields = {name: value for name, value in given.items() if name != _DEAD}
    return plain


def check_names(options: object) -> None:
    """Refuse a mapping with a name that ClaudeAgentOptions of the installed SDK does not have.

    Raises:
        ConfigError: With the name, and the one that is most like it.
    """
    known = _known_names() if isinstance(options, Mapping) and options else frozenset[str]()
    for name, _ in _items(options) if known else ():
        if name not in known:
            alike = difflib.get_close_matches(str(name), known, 1)
            hint = f" Did you mean {alike[0]!r}?" if alike else ""
            raise ConfigError(f"options.{name}: ClaudeAgentOptions has no such field.{hint}")


def check_env(options: object) -> None:
    """Refuse an ``env`` with what is not a string: a variable that ``os.environ.get`` did not find, for one.

    Raises:
        ConfigError: It names the variable, not its value.
    """
    env: object
    if isinstance(options, Mapping):
        env = cast("Mapping[str, object]", options).get("env")
    else:
        env = getattr(options, "env", None)
    if env is not None:
        require_texts("options.env", env)


def apply_defaults(plain: PlainOptions, defaults: SafeDefaults, *, config_dir: str) -> None:
    """Fill in what was not set. ``config_dir`` is what ``own`` means in this sandbox."""
    fields, env = plain.fields, plain.env
    if defaults.setting_sources is not None and fields.get("skills") is None:
        fields.setdefault("setting_sources", list(defaults.setting_sources))
    for name in ("strict_mcp_config", "max_buffer_size", "max_turns"):
        value = getattr(defaults, name)
        if value is not None:
            fields.setdefault(name, value)
    if defaults.config_dir is not None:
        own = config_dir if defaults.config_dir == "own" else defaults.config_dir
        env.setdefault("CLAUDE_CONFIG_DIR", own)
    if defaults.disable_nonessential_traffic:
        env.setdefault("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1")
    if defaults.disable_auto_memory:
        env.setdefault("CLAUDE_CODE_DISABLE_AUTO_MEMORY", "1")


def _host_of(url: str) -> str:
    """Return the host alone: the rest of an address may be secret."""
    try:
        return urlsplit(url).hostname or "no host"
    except ValueError:
        return "no host"


def _is_enabled(sandbox: Any) -> bool:
    return isinstance(sandbox, Mapping) and bool(cast("Mapping[str, Any]", sandbox).get("enabled"))


def _fields(options: object) -> dict[str, Any]:
    if options is None:
        return {}
    if isinstance(options, Mapping):
        return {str(name): value for name, value in _items(options) if value is not None}
    if not dataclasses.is_dataclass(options) or isinstance(options, type):
        raise ConfigError(
            f"options is a {type(options).__name__}; it must be ClaudeAgentOptions or a mapping of its fields"
        )
    found: dict[str, Any] = {}
    for one in dataclasses.fields(options):
        value = getattr(options, one.name)
        made = one.default_factory
        default = one.default if made is dataclasses.MISSING else made()
        if value is not default and value != default:
            found[one.name] = value
    return found


@cache
def _known_names() -> frozenset[str]:
    """Return the fields of ClaudeAgentOptions, from its source: importing the SDK takes most of a second.

    Empty where there is no such source; the SDK itself then refuses an unknown name.
    """
    # A thread may be importing the SDK just now.
    loaded: Any = getattr(sys.modules.get("claude_agent_sdk"), "ClaudeAgentOptions", None)
    if loaded is not None:
        return frozenset(one.name for one in dataclasses.fields(loaded))
    import ast

    found = importlib.util.find_spec("claude_agent_sdk")
    for place in (found.submodule_search_locations or ()) if found is not None else ():
        path = Path(place, "types.py")
        if path.is_file():
            for node in ast.walk(ast.parse(path.read_bytes())):
                if isinstance(node, ast.ClassDef) and node.name == "ClaudeAgentOptions":
                    names = (one.target for one in node.body if isinstance(one, ast.AnnAssign))
                    return frozenset(name.id for name in names if isinstance(name, ast.Name))
    return frozenset()


def _items(value: Any) -> Iterable[tuple[Any, Any]]:
    found: Iterable[tuple[Any, Any]] = value.items()
    return found


def _without_paths(value: Any) -> Any:
    """Replace paths by their text: the SDK inside takes either, and its JSON takes only text."""
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, Mapping):
        return {key: _without_paths(item) for key, item in _items(value)}
    if isinstance(value, list | tuple):
        return [_without_paths(item) for item in cast("list[Any]", value)]
    return value
