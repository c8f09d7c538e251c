"""Try the isolation for real: a sandbox like any other, whose program looks around and reports."""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

import anyio

from agenthost.errors import IsolationUnavailableError, SandboxStartError
from agenthost.providers.local.engine import Engine
from agenthost.providers.local.isolated import Host, launch_isolated
from agenthost.providers.local.remedies import remedy
from agenthost.sandbox import Boot
from agenthost.spec import SandboxSpec

_PROBE_SECONDS = 30.0
_NAMESPACES = ("user", "pid", "mnt", "net", "ipc", "uts", "cgroup")

# Runs inside, without the library. AF_VSOCK is 40.
_PROGRAM = r"""
import json, os, _socket
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
def opens(path):
    try:
        os.close(os.open(path, os.O_WRONLY))
        return True
    except OSError:
        return False
def vsock():
    try:
        _socket.socket(40, _socket.SOCK_STREAM)
        return True
    except OSError:
        return False
print("PROBE " + json.dumps({
    "namespaces": {name: os.readlink("/proc/self/ns/" + name)
                   for name in ("user", "pid", "mnt", "net", "ipc", "uts", "cgroup")},
    "seccomp": status["Seccomp"].strip(),
    "no_new_privileges": status["NoNewPrivs"].strip(),
    "capabilities": status["CapEff"].strip(),
    "interfaces": sorted(line.split(":")[0].strip() for line in open("/proc/net/dev") if ":" in line),
    "kernel_settings_writable": opens("/proc/sys/kernel/core_pattern"),
    "vsock": vsock(),
}))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeResult:
    """What a trial sandbox showed.

    Attributes:
        ok: Every part of the isolation holds.
        problems: What does not, in words.
        remedy: What to do about it; empty when ok.
        facts: What was seen.
    """

    ok: bool
    problems: tuple[str, ...] = ()
    remedy: str = ""
    facts: Mapping[str, str] = field(default_factory=dict[str, str])

    def require(self) -> None:
        """Raise IsolationUnavailableError unless ok."""
        if not self.ok:
            raise IsolationUnavailableError(
                f"nothing can be isolated on this machine: {'; '.join(self.problems)}. {self.remedy}"
            )


_results: dict[Host, ProbeResult] = {}


async def probe(engine: Engine, host: Host) -> ProbeResult:
    """Return whether sandboxes are isolated here. A success is remembered as long as this process lives."""
    known = _results.get(host)
    if known is not None:
        return known
    result = await _try(engine, host)
    if result.ok:
        _results[host] = result
    return result


def is_proven(host: Host) -> bool:
    """Tell whether a probe has succeeded in this process."""
    return host in _results


async def _try(engine: Engine, host: Host) -> ProbeResult:
    spec = SandboxSpec(name=f"probe-{secrets.token_hex(6)}", max_lifetime=_PROBE_SECONDS)
    program = [host.interpreter.path, "-I", "-S", "-c", _PROGRAM]
    try:
        backend = await launch_isolated(engine, host, spec, Boot(files={}, config={}), program, kind="probe")
    except SandboxStartError as error:
        return _failed(host, str(error))
    try:
        words = await backend.last_words()
    finally:
        with anyio.CancelScope(shield=True):
            await backend.terminate()
    if words is None:
        return _failed(host, "the keeper was killed")
    found = re.search(r"^PROBE (.*)$", words.log, re.MULTILINE)
    if found is None:
        return _failed(host, words.log.strip() or f"exit code {words.exit_code}, and nothing was printed")
    facts = cast("dict[str, object]", json.loads(found[1]))
    problems = _judge(facts)
    if problems:
        return ProbeResult(ok=False, problems=tuple(problems), remedy=remedy("; ".join(problems)))
    shown = {key: value if isinstance(value, str) else json.dumps(value) for key, value in facts.items()}
    return ProbeResult(ok=True, facts={"bwrap": host.bwrap, **shown})


def _judge(facts: Mapping[str, object]) -> list[str]:
    problems: list[str] = []
    inside = cast("dict[str, str]", facts["namespaces"])
    problems += [
        f"the {name} namespace is the host's"
        for name in _NAMESPACES
        if inside[name] == os.readlink(f"/proc/self/ns/{name}")
    ]
    if facts["seccomp"] != "2":
        problems.append("the system call filter is off")
    if facts["no_new_privileges"] != "1":
        problems.append("programs may gain privileges")
    if int(cast("str", facts["capabilities"]), 16) != 0:
        problems.append(f"capabilities are left: {facts['capabilities']}")
    if facts["interfaces"] != ["lo"]:
        problems.append(f"network interfaces are visible: {facts['interfaces']}")
    if facts["kernel_settings_writable"]:
        problems.append("kernel settings can be written")
    if facts["vsock"]:
        problems.append("sockets to the hypervisor can be made")
    return problems


def _failed(host: Host, said: str) -> ProbeResult:
    version = _version(host.bwrap)
    return ProbeResult(
        ok=False,
        problems=(f"a trial sandbox failed with {host.bwrap} ({version}): {said}",),
        remedy=remedy(said),
    )


def _version(path: str) -> str:
    try:
        answer = subprocess.run([path, "--version"], capture_output=True, env={}, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"it cannot be run: {error}"
    return answer.stdout.decode(errors="replace").strip()[:100] or "it does not tell its version"
