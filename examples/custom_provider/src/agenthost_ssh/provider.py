"""A sandbox is a directory on another machine, with a guest that runs there. It isolates nothing."""

import json
import shlex
import subprocess
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

import anyio

from agenthost import Capabilities, SandboxSpec
from agenthost.adapter.bootstrap import archive_of, bootstrap_layout
from agenthost.adapter.calls import Calls, ErrorRow
from agenthost.adapter.checks import refuse_fields
from agenthost.adapter.cloud import CloudProvider, Found
from agenthost.adapter.record import NONCE_LABEL
from agenthost.errors import ConfigError, ProviderError, SandboxNotFoundError
from agenthost.link.carriers.command import CommandCarrier, open_command_carrier
from agenthost.link.layout import GuestLayout
from agenthost.sandbox import SandboxState

# A sandbox's programs are known by their arguments. The pattern comes by stdin: grep does not find itself.
HELD = 'held() { printf %s "$1/.agenthost/" | grep -lsaF -f - /proc/[0-9]*/cmdline | cut -d/ -f3; }\n'
# $1 root, $2 id, $3 labels. What is cut short takes itself away.
CREATE = """set -e; umask 077; trap 'rm -rf "$1/.$2"' EXIT; mkdir -p "$1/.$2"
printf %s "$3" >"$1/.$2/labels.json"; mv -T "$1/.$2" "$1/$2" """
# $1 root
FIND = """cd "$1" 2>/dev/null || exit 0; for f in $(ls -t */labels.json 2>/dev/null); do d=${f%/*}
labels=$(cat "$f" 2>/dev/null) || continue; ended=0
[ ! -e "$d/.agenthost/python" ] || [ "$(held "$1/$d")" ] || ended=1
printf '%s %s %s\\n' $ended "$d" "$labels"; done"""
# $1 directory. A guest that ends takes with it all that it started.
KILL = """kill $(held "$1") 2>/dev/null; n=0
while p=$(held "$1"); [ "$p" ]; do n=$((n+1)); [ $n -lt 200 ] || kill -9 $p; sleep 0.05; done
[ ! -e "$1" ] || { chmod -R u+rwx "$1"; rm -rf "$1"; }"""
PUT = 'umask 077; mkdir -p "$1" && tar -xC "$1" --no-same-owner'
# $1 bytes of stdin that set the environment, which may be secret, $2 before PATH, then the program.
RUN = 'exec env -i PATH="$2$PATH" USER="$(id -un)" sh -c \'eval "$(head -c $1)"; shift 2; exec "$@"\' sh "$@"'


class Failed(Exception):
    def __init__(self, done: subprocess.CompletedProcess[bytes]) -> None:
        super().__init__(done.stderr.decode(errors="replace"))
        self.status_code = done.returncode


ROWS = (
    ErrorRow(Failed, ProviderError, "the machine was not reached, or lost", "unknown", status=255),
    ErrorRow(Failed, ProviderError, "a command failed on the machine"),
    ErrorRow(OSError, ProviderError, "the command cannot be started"),
)


class SshVendor:
    names_are_unique = False

    def __init__(self, command: Sequence[str], root: str, path: str) -> None:
        self.command, self.root, self.path = command, root, f"{path}:" if path else ""
        self.calls = Calls("ssh", lambda: ROWS)

    def line(self, script: str, *words: str) -> list[str]:
        return [*self.command, shlex.join(["sh", "-c", script, "sh", *words])]

    async def ask(self, doing: str, script: str, *words: str, stdin: bytes = b"") -> bytes:
        async with self.calls.bounded(doing):
            done = await anyio.run_process(self.line(script, *words), input=stdin, check=False)
            if done.returncode != 0:
                raise Failed(done)
            return done.stdout

    async def create(self, spec: SandboxSpec, labels: Mapping[str, str]) -> str:
        made = id_of(spec)
        await self.ask(f"making sandbox {spec.name}", CREATE, self.root, made, json.dumps(dict(labels)))
        return made

    async def find(self, labels: Mapping[str, str]) -> AsyncGenerator[Found]:
        for line in (await self.ask("listing the sandboxes", HELD + FIND, self.root)).splitlines():
            ended, name, stored = line.split(b" ", 2)
            state: SandboxState = "ended" if ended == b"1" else "running"
            found = Found(id=name.decode(), labels=json.loads(stored), state=state)
            if labels.items() <= found.labels.items():
                yield found

    async def look_up(self, sandbox_id: str) -> Found:
        async for found in self.find({}):
            if found.id == sandbox_id:
                return found
        raise SandboxNotFoundError(f"there is no sandbox {sandbox_id!r} in {self.root}")

    async def connect(self, found: Found) -> str:
        return found.id

    def id_of(self, handle: str) -> str:
        return handle

    async def kill(self, sandbox_id: str) -> None:
        await self.ask(f"ending sandbox {sandbox_id}", HELD + KILL, f"{self.root}/{sandbox_id}")

    async def put_files(self, handle: str, directory: str, files: Mapping[str, bytes]) -> None:
        await self.ask(f"writing into sandbox {handle}", PUT, directory, stdin=archive_of(files))

    async def run(self, handle: str, argv: Sequence[str], *, env: Mapping[str, str]) -> CommandCarrier:
        own = {"HOME": f"{self.root}/{handle}", "LANG": "C.UTF-8", **env}
        exports = "".join(f"export {name}={shlex.quote(value)};" for name, value in own.items()).encode()
        async with self.calls.bounded(f"starting a program in sandbox {handle}"):
            line = self.line(RUN, str(len(exports)), self.path, *argv)
            return await open_command_carrier(line, before=exports)

    async def aclose(self) -> None:
        """There is nothing to close."""


class SshProvider(CloudProvider[SshVendor]):
    """Sandboxes on a Linux machine that has Python, tar and grep. README.md lists the options."""

    name = "ssh"
    capabilities = Capabilities(isolation="none", networks=frozenset({"open"}))
    longest = 30 * 24 * 3600.0
    home = ""  # each sandbox has one of its own

    def __init__(self, *, command: list[str], root: str, path: str = "", limits: Any = None) -> None:
        super().__init__(limits=limits)
        self.root, self.command, self.path = root, command, path

    def make_vendor(self) -> SshVendor:
        return SshVendor(self.command, self.root, self.path)

    def check(self, spec: SandboxSpec) -> None:
        super().check(spec)
        refuse_fields(spec, self.name, "image", "cpu", "memory_mib", "disk_mib", "workdir", "region")
        # A spec of `agenthost config check` has no nonce, and no name where its config gives none.
        place = f"{self.root}/{spec.name or 'ah-' + '0' * 12}-{'0' * 8}"
        if not self.root.startswith("/") or len(f"{place}/.agenthost/guest.sock") > 107:
            raise ConfigError(f"root {self.root!r} is not absolute, or too long for a unix socket in it")

    def layout(self, spec: SandboxSpec) -> GuestLayout:
        own = f"{self.root}/{id_of(spec)}"
        return bootstrap_layout(f"{own}/.agenthost", home=own, workdir=f"{own}/work", isolation="none")


def id_of(spec: SandboxSpec) -> str:
    return f"{spec.name}-{spec.labels[NONCE_LABEL][:8]}"  # a namesake has another nonce
