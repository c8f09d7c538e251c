"""Run the Worker that users deploy, under workerd, around an engine that serves its containers.

Only the class that reaches the containers is another one than at Cloudflare: see ``test/stub.ts``.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import anyio
import anyio.abc
from anyio.streams.text import TextReceiveStream

from agenthost import providers
from agenthost.errors import MissingExtraError
from agenthost.threads import in_thread

SOURCE = Path(next(iter(providers.__path__))) / "cloudflare" / "worker"
MODULES = "AGENTHOST_CLOUDFLARE_WORKER"

COMPATIBILITY = "2026-10-01"  # as in wrangler.jsonc
_STARTING = 30.0  # seconds; under a second where the machine is idle
_ENDING = 10.0  # seconds

# Ends workerd with this host, however that ends: the shell's input is closed then.
_KEEPER = """
log=$1; shift
"$@" 3>&1 >"$log" 2>&1 &
exec >&-
read -r _
kill -9 $!
wait
"""

_CONFIG = """
using Workerd = import "/workerd/workerd.capnp";

const config :Workerd.Config = (
  services = [
    (name = "worker", worker = .worker),
    (name = "loopback", network = (allow = ["local"], deny = [])),
    (name = "storage", disk = (path = "{storage}", writable = true)),
  ],
  sockets = [(name = "http", address = "127.0.0.1:0", http = (), service = "worker")],
);

const worker :Workerd.Worker = (
  modules = [(name = "worker.js", esModule = embed "worker.js")],
  compatibilityDate = "{date}",
  globalOutbound = "loopback",
  durableObjectStorage = (localDisk = "storage"),
  durableObjectNamespaces = [
    (className = "Sandbox", uniqueKey = "sandbox", enableSql = true),
    (className = "Directory", uniqueKey = "directory", enableSql = true),
    (className = "WarmPool", uniqueKey = "warm-pool", enableSql = true),
  ],
  bindings = [
    (name = "Sandbox", durableObjectNamespace = "Sandbox"),
    (name = "Directory", durableObjectNamespace = "Directory"),
    (name = "WarmPool", durableObjectNamespace = "WarmPool"),
    {variables}
  ],
);
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningWorker:
    """A Worker that runs.

    Attributes:
        url: Where it answers, without a slash at the end.
        log: The file that workerd prints into.
    """

    url: str
    log: Path


@asynccontextmanager
async def running_worker(
    engine_url: str,
    api_key: str | None,
    *,
    egress: str = "open",
    allowed_hosts: Sequence[str] = (),
    max_lifetime: float = 86400.0,
    image: str = "",
    storage: Path | None = None,
) -> AsyncGenerator[RunningWorker]:
    """Run the Worker on a free port of loopback; leaving the block ends it at once, as a crash would.

    It reaches nothing but loopback. The first call of a process takes some 100 ms more: it makes the bundle.

    Args:
        engine_url: Where the containers are served.
        api_key: The key that the Worker wants; None has it have none.
        egress: ``open`` or ``closed``.
        allowed_hosts: What containers reach where egress is closed.
        max_lifetime: Seconds that a sandbox may live.
        image: What the Worker states about its image.
        storage: A directory that keeps the Durable Objects for another Worker; None keeps them nowhere.

    Raises:
        MissingExtraError: The packages of the Worker are not installed.
        RuntimeError: workerd did not start; the message has what it printed.
    """
    variables = {
        "ENGINE_URL": engine_url,
        "EGRESS": egress,
        "ALLOWED_HOSTS": ",".join(allowed_hosts),
        "MAX_LIFETIME": f"{max_lifetime:.0f}",
        "IMAGE": image,
        **({} if api_key is None else {"SANDBOX_API_KEY": api_key}),
    }
    with tempfile.TemporaryDirectory(prefix="ah-worker-") as made:
        directory = Path(made)
        kept = storage or directory / "storage"
        kept.mkdir(exist_ok=True)
        (directory / "worker.js").write_bytes(await in_thread(partial(bundle, modules())))
        config = directory / "config.capnp"
        config.write_text(_config_of(kept, variables))
        async with _process(config, variables, directory / "log") as port:
            yield RunningWorker(url=f"http://127.0.0.1:{port}", log=directory / "log")


def modules() -> Path:
    """Return the directory with the Worker's packages.

    Raises:
        MissingExtraError: They are not installed.
    """
    at = os.environ.get(MODULES) or os.path.join(sys.prefix, "share", "agenthost", "cloudflare-worker")
    found = Path(at) / "node_modules"
    if not _workerd(found).is_file() or not _esbuild(found).is_file():
        raise MissingExtraError(
            "the emulator of cloudflare needs the packages of the Worker, with workerd. Install them with "
            "Node.js 22.12 or newer: agenthost cloudflare init DIR && cd DIR && npm ci. Then set "
            f"{MODULES}=DIR"
        )
    return found


@cache
def bundle(packages: Path) -> bytes:
    """Return the Worker with all that it imports, as one module of JavaScript.

    Raises:
        RuntimeError: It cannot be made; the message has the reason.
    """
    options = ["--bundle", "--format=esm", "--target=es2024", "--keep-names", "--log-level=error"]
    options += ["--external:cloudflare:*", "--external:node:*", "--conditions=workerd,worker,browser"]
    done = subprocess.run(
        [_esbuild(packages), SOURCE / "test" / "worker.ts", *options],
        capture_output=True,
        env={"NODE_PATH": str(packages)},
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"the Worker cannot be bundled:\n{done.stderr.decode(errors='replace')}")
    return done.stdout


def _config_of(storage: Path, variables: Mapping[str, str]) -> str:
    # Values come by the environment: the one of the key must not be in a file.
    bindings = ",\n    ".join(f'(name = "{name}", fromEnvironment = "{name}")' for name in variables)
    values = {"storage": str(storage), "date": COMPATIBILITY, "variables": bindings}
    text = _CONFIG
    for name, value in values.items():
        text = text.replace(f"{{{name}}}", value)
    return text


@asynccontextmanager
async def _process(config: Path, variables: Mapping[str, str], log: Path) -> AsyncGenerator[int]:
    """Run workerd, and yield the port on which it listens."""
    argv = [str(_workerd(modules())), "serve", "--control-fd=3", str(config)]
    process = await anyio.open_process(
        [shutil.which("sh") or "/bin/sh", "-c", _KEEPER, "agenthost", str(log), *argv],
        stderr=subprocess.DEVNULL,
        env={"PATH": os.defpath, **variables},
        start_new_session=True,
    )
    try:
        yield await _port_of(process, log)
    finally:
        assert process.stdin is not None
        with anyio.move_on_after(_ENDING, shield=True):
            with suppress(OSError, anyio.BrokenResourceError):
                await process.stdin.aclose()
            await process.wait()
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        with anyio.CancelScope(shield=True):
            await process.aclose()


async def _port_of(process: anyio.abc.Process, log: Path) -> int:
    assert process.stdout is not None
    reported = ""
    with anyio.move_on_after(_STARTING):
        async for text in TextReceiveStream(process.stdout):
            reported += text
            if '"listen"' in reported and reported.endswith("\n"):
                return int(json.loads(reported.splitlines()[-1])["port"])
    printed = await anyio.Path(log).read_bytes()
    raise RuntimeError(f"workerd did not start:\n{printed.decode(errors='replace')}")


def _machine() -> tuple[str, str]:
    is_arm = platform.machine().lower() in ("aarch64", "arm64")
    return sys.platform, "arm64" if is_arm else "x64"


def _workerd(packages: Path) -> Path:
    system, cpu = _machine()
    return packages / "@cloudflare" / f"workerd-{system}-{cpu.replace('x64', '64')}" / "bin" / "workerd"


def _esbuild(packages: Path) -> Path:
    system, cpu = _machine()
    return packages / "@esbuild" / f"{system}-{cpu}" / "bin" / "esbuild"
