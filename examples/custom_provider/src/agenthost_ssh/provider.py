"""A sandbox is a directory on another machine, with a guest that runs there. It isolates nothing."""

import io
import json
import shlex
import subprocess
import tarfile
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import anyio.lowlevel
import anyio.to_thread

from agenthost import Capabilities, SandboxInfo, SandboxSpec
from agenthost.adapter.checks import refuse_fields, refuse_options
from agenthost.adapter.provider import GuestProvider
from agenthost.adapter.record import NONCE_LABEL
from agenthost.errors import ConfigError, ProviderError, SandboxNotFoundError
from agenthost.link.carriers.command import CommandCarrier, open_command_carrier
from agenthost.link.layout import GuestLayout
from agenthost.sandbox import Boot

# A guest is known by its arguments. The pattern comes by stdin, so that grep does not find itself.
GUESTS = 'guests() { printf %s "$1/boot.json" | grep -lsazxF -f - /proc/[0-9]*/cmdline | cut -d/ -f3; }\n'
# $1 directory, $2 nonce, $3 Python; files on stdin. info.json, which makes it a sandbox, comes last.
# Whatever is cut short before takes itself away.
MAKE = """set -e; umask 077; new=${1%/*}/.$2; mkdir -p "${1%/*}"; trap 'rm -rf "$new"' EXIT; mkdir "$new"
tar -xC "$new" --no-same-owner; mkdir "$new/work" "$new/home"; [ ! -e "$1" ] || exit 17
mv -T "$new" "$1"; new=$1; cd "$1"; env -i PATH="$PATH" HOME="$1/home" USER="$(id -un)" LANG=C.UTF-8 \\
  "$3" -I guest.pyz start --boot "$1/boot.json" --socket "$1/guest.sock"; mv info.new info.json
trap - EXIT"""
# $1 root
LOOK = """cd "$1" 2>/dev/null || exit 0; for d in *; do info=$(cat "$d/info.json" 2>/dev/null) || continue
printf '%s %s\\n' "$(guests "$1/$d" | wc -l)" "$info"; done"""
# $1 directory, $2 nonce: never a namesake's. A guest that ends takes with it all that it started.
END = """grep -qs "$2" "$1"/info.* || exit 0; kill $(guests "$1") 2>/dev/null; n=0
while p=$(guests "$1"); [ "$p" ]; do n=$((n+1)); [ $n -lt 200 ] || kill -9 $p; sleep 0.05; done
chmod -R u+rwx "$1"; rm -rf "$1" """


class SshBackend:
    def __init__(self, provider: "SshProvider", info: SandboxInfo) -> None:
        self._provider, self._info, self._own = provider, info, f"{provider.root}/{info.name}"

    async def boot(self) -> None:
        await anyio.lowlevel.checkpoint()  # the guest was started when it was made

    async def dial(self) -> CommandCarrier:
        argv = [self._provider.python, "-I", f"{self._own}/guest.pyz", "dial"]
        line = shlex.join([*argv, "--socket", f"{self._own}/guest.sock"])
        return await open_command_carrier([*self._provider.command, f"exec {line}"])

    async def info(self) -> SandboxInfo:
        return await self._provider.find(self._info.id)

    async def terminate(self) -> None:
        await self._provider.run(GUESTS + END, self._own, self._info.labels[NONCE_LABEL])


class SshProvider(GuestProvider):
    """Sandboxes on a Linux machine that has Python, the SDK, tar and grep. README.md tells the options."""

    name = "ssh"
    capabilities = Capabilities(isolation="none", networks=frozenset({"open"}))

    def __init__(
        self, *, command: list[str], root: str, python: str = "python3", site: str = "", limits: Any = None
    ) -> None:
        super().__init__(limits=limits)
        self.command, self.root, self.python, self.site = command, root, python, site

    def check(self, spec: SandboxSpec) -> None:
        refuse_fields(spec, self.name, "image", "cpu", "memory_mib", "disk_mib", "workdir", "region")
        refuse_options(spec, self.name)
        if not self.root.startswith("/") or len(f"{self.root}/{spec.name}/guest.sock") > 107:
            raise ConfigError(f"root {self.root!r} is not absolute, or too long for a unix socket in it")

    def layout(self, spec: SandboxSpec) -> GuestLayout:
        d = f"{self.root}/{spec.name}"
        paths = {"workdir": f"{d}/work", "home": f"{d}/home", "spool_dir": f"{d}/spool", "boot_dir": d}
        sites = (self.site,) if self.site else ()
        return GuestLayout(**paths, python=self.python, site_dirs=sites, isolation="none", user_is_root=False)

    async def make(self, spec: SandboxSpec, boot: Boot) -> SshBackend:
        name, now, labels = spec.name or "", time.time(), dict(spec.labels)
        end = now + (spec.max_lifetime or 0)
        info = SandboxInfo(id=name, name=name, provider=self.name, state="running", labels=labels)
        info = replace(info, created_at=now, expires_at=end)
        backend, packed = SshBackend(self, info), io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            for file, data in {**boot.files, "info.new": json.dumps(asdict(info)).encode()}.items():
                entry = tarfile.TarInfo(file)
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
        try:
            words = (f"{self.root}/{name}", labels[NONCE_LABEL], self.python)
            await self.run(MAKE, *words, stdin=packed.getvalue())
        except ProviderError:
            with suppress(ProviderError):  # perhaps only its answer was lost: what has our nonce is ours
                await backend.terminate()
            raise
        return backend

    async def reach(self, sandbox_id: str) -> SshBackend:
        return SshBackend(self, await self.find(sandbox_id))

    async def find(self, sandbox_id: str) -> SandboxInfo:
        async for info in self.list():
            if info.id == sandbox_id:
                return info
        raise SandboxNotFoundError(f"there is no sandbox {sandbox_id!r} in {self.root}")

    async def list(self, labels: Mapping[str, str] | None = None) -> AsyncGenerator[SandboxInfo]:
        lines = (await self.run(GUESTS + LOOK, self.root)).splitlines()
        told = [(int(guests), json.loads(info)) for guests, info in (line.split(b" ", 1) for line in lines)]
        for guests, info in sorted(told, key=lambda one: one[1]["created_at"], reverse=True):
            if (labels or {}).items() <= info["labels"].items():
                yield replace(SandboxInfo(**info), state="running" if guests else "ended")

    async def run(self, script: str, *words: str, stdin: bytes = b"") -> bytes:
        argv = [*self.command, shlex.join(["sh", "-c", script, "sh", *words])]
        call = partial(subprocess.run, argv, input=stdin, capture_output=True, timeout=60)
        try:  # in a thread, which a cancellation waits for: then it is known what was done
            done = await anyio.to_thread.run_sync(call)
        except (OSError, subprocess.TimeoutExpired) as exc:
            raise ProviderError(f"{argv[0]} did not run what it was asked to: {exc}") from exc
        if done.returncode == 17:
            raise ConfigError("a sandbox of this name is there already")
        if done.returncode != 0:
            raise ProviderError(f"exit code {done.returncode}: {done.stderr.decode(errors='replace')}")
        return done.stdout
