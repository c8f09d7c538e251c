"""What ``agenthost doctor`` looks at, one function each. None of them shows the value of a secret."""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from agenthost.cli.configured_providers import Names
from agenthost.errors import AgentHostError, ConfigError
from agenthost.providers.local.provider import LocalProvider
from agenthost.registry import open_provider, registration
from agenthost.statedir import state_directory

if TYPE_CHECKING:
    from agenthost.config.sources import Sources

_VERSION_SECONDS = 20.0

State = Literal["ok", "missing", "optional"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One finding.

    Attributes:
        name: What was looked at.
        state: ``missing`` keeps agents from running here; ``optional`` is needed for some things only.
        detail: What was found, in words.
        remedy: What to do, empty when there is nothing to do.
        facts: More, for ``--json``.
    """

    name: str
    state: State
    detail: str
    remedy: str = ""
    facts: Mapping[str, str] = field(default_factory=dict[str, str])


def check_python() -> Check:
    """Tell which Python runs this."""
    return Check(name="Python", state="ok", detail=f"{platform.python_version()} at {sys.executable}")


def check_sdk() -> Check:
    """Tell the version of the Claude Agent SDK, without the second that importing it takes."""
    try:
        found = version("claude-agent-sdk")
    except PackageNotFoundError:
        return Check(
            name="Claude Agent SDK",
            state="missing",
            detail="not installed",
            remedy=f"{sys.executable} -m pip install claude-agent-sdk",
        )
    return Check(name="Claude Agent SDK", state="ok", detail=found)


def check_cli() -> Check:
    """Run the ``claude`` binary that came with the SDK, else the one on the PATH, for its version."""
    name = "claude CLI"
    spec = find_spec("claude_agent_sdk")
    bundled = Path(spec.origin).parent / "_bundled" / "claude" if spec and spec.origin else None
    path = str(bundled) if bundled and bundled.is_file() else shutil.which("claude")
    if path is None:
        return Check(
            name=name,
            state="missing",
            detail="the SDK came without it: there is no build of it for this platform",
            remedy="npm install -g @anthropic-ai/claude-code",
        )
    try:
        done = subprocess.run(
            [path, "--version"], capture_output=True, timeout=_VERSION_SECONDS, check=False, text=True
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Check(name=name, state="missing", detail=f"{path} cannot be run: {error}", remedy=_GLIBC)
    if done.returncode != 0:
        said = done.stderr.strip()[:200] or f"exit code {done.returncode}"
        return Check(name=name, state="missing", detail=f"{path} fails: {said}", remedy=_GLIBC)
    kind = "bundled with the SDK" if path == str(bundled) else path
    return Check(name=name, state="ok", detail=f"{done.stdout.strip()}, {kind}", facts={"path": path})


_GLIBC = "the bundled binary needs glibc 2.26 or newer and an x86-64 or arm64 machine"


def check_bash() -> Check:
    """Tell whether there is a bash: a plain sh is not enough for the CLI's Bash tool."""
    path = shutil.which("bash")
    if path is None:
        return Check(name="bash", state="missing", detail="not found", remedy="apt-get install -y bash")
    return Check(name="bash", state="ok", detail=path)


async def check_isolation(names: Names) -> Check:
    """Start a trial sandbox of the ``local`` provider, with its options, and look at it from inside."""
    name = "local isolation"
    try:
        async with open_provider(names.named("local")) as provider:
            if not isinstance(provider, LocalProvider):
                detail = f"not tried: {registration('local')} has the name local here"
                return Check(name=name, state="optional", detail=detail)
            result = await provider.probe()
    except (AgentHostError, OSError) as error:
        return Check(name=name, state="missing", detail="no isolated sandbox can be made", remedy=str(error))
    if not result.ok:
        return Check(name=name, state="missing", detail="; ".join(result.problems), remedy=result.remedy)
    detail = "a trial sandbox had namespaces, a system call filter and no network"
    return Check(name=name, state="ok", detail=detail, facts=dict(result.facts))


def check_key(sources: Sources | None) -> Check:
    """Report whether a variable holds a credential: a usual one, or one that the config names."""
    name = "Anthropic key"
    for key in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"):
        reference = None if sources is None else (sources.tables.agent.env or {}).get(key)
        for variable in (key, getattr(reference, "env", None)):
            if variable and os.environ.get(variable):
                return Check(name=name, state="ok", detail=f"{variable} is set")
    return Check(
        name=name,
        state="optional",
        detail="not set; `agenthost demo` needs none, `agenthost run` does",
        remedy="export ANTHROPIC_API_KEY=...",
    )


def check_state() -> Check:
    """Tell where sandboxes are written down, and whether a file can be made and locked there."""
    name = "state directory"
    remedy = "set AGENTHOST_STATE_DIR to a directory of yours"
    try:
        path = state_directory()
    except ConfigError as error:
        return Check(name=name, state="missing", detail=str(error), remedy=remedy)
    try:
        # Where the directory is still to be made, what counts is the one that it will be in.
        existing = next(parent for parent in (path, *path.parents) if os.path.lexists(parent))
        with tempfile.TemporaryFile(dir=existing) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        detail = f"{path} cannot be used: {error.strerror or error}"
        return Check(name=name, state="missing", detail=detail, remedy=remedy)
    return Check(name=name, state="ok", detail=str(path))
