"""A provider whose guest starts with the machine: a directory here, whose main program is the guest."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator, Mapping
from dataclasses import replace

import anyio
import anyio.to_thread

from agenthost import Capabilities, Limits, SandboxInfo, SandboxSpec
from agenthost.adapter.checks import refuse_fields, refuse_options
from agenthost.adapter.provider import GuestProvider
from agenthost.errors import NameTakenError, SandboxNotFoundError
from agenthost.link.carriers.socket import connect_unix
from agenthost.link.layout import GuestLayout
from agenthost.sandbox import Boot, Carrier


class Machine:
    """A Backend."""

    def __init__(self, directory: str, info: SandboxInfo, process: subprocess.Popen[bytes]) -> None:
        self.directory, self.known, self.process = directory, info, process

    async def boot(self) -> None:
        """Wait for nothing: the guest starts with the machine."""

    async def dial(self) -> Carrier:
        return await connect_unix(f"{self.directory}/guest.sock")  # OSError until the guest listens

    async def info(self) -> SandboxInfo:
        return replace(self.known, state="ended" if self.process.poll() is not None else "running")

    async def terminate(self) -> None:
        self.process.terminate()
        await anyio.to_thread.run_sync(self.process.wait)
        shutil.rmtree(self.directory, ignore_errors=True)


class Machines(GuestProvider):
    name = "machines"
    capabilities = Capabilities(isolation="none", networks=frozenset({"open"}))

    def __init__(self, *, limits: Limits | None = None) -> None:
        super().__init__(limits=limits)
        self.root = tempfile.mkdtemp()
        self.there: dict[str, Machine] = {}

    def check(self, spec: SandboxSpec) -> None:
        refuse_fields(spec, self.name, "image", "cpu", "memory_mib", "disk_mib", "workdir", "region")
        refuse_options(spec, self.name)

    def layout(self, spec: SandboxSpec) -> GuestLayout:
        own = f"{self.root}/{spec.name}"
        return GuestLayout(
            workdir=f"{own}/work",
            home=own,
            spool_dir=f"{own}/spool",
            boot_dir=own,
            python=sys.executable,
            site_dirs=(),
            isolation="none",
            user_is_root=False,
        )

    async def make(self, spec: SandboxSpec, boot: Boot) -> Machine:
        # Name, labels and max_lifetime are filled in.
        name, own = spec.name or "", f"{self.root}/{spec.name}"
        if name in self.there:
            raise NameTakenError(f"a sandbox named {name} exists already")
        # In a thread, which a cancellation waits for: nothing is half made.
        process = await anyio.to_thread.run_sync(start, own, boot.files)
        info = SandboxInfo(id=name, name=name, provider=self.name, state="running", labels=spec.labels)
        self.there[name] = Machine(own, info, process)
        return self.there[name]

    async def reach(self, sandbox_id: str) -> Machine:
        if sandbox_id not in self.there:
            raise SandboxNotFoundError(f"there is no sandbox {sandbox_id!r}")
        return self.there[sandbox_id]

    async def list(self, labels: Mapping[str, str] | None = None) -> AsyncGenerator[SandboxInfo]:
        for machine in reversed(list(self.there.values())):
            if (labels or {}).items() <= machine.known.labels.items():
                yield await machine.info()

    async def close_clients(self) -> None:
        if not os.listdir(self.root):
            os.rmdir(self.root)


def start(own: str, files: Mapping[str, bytes]) -> subprocess.Popen[bytes]:
    os.makedirs(f"{own}/work", mode=0o700)
    for name, data in files.items():
        with open(f"{own}/{name}", "wb", opener=private) as file:
            file.write(data)
    argv = [sys.executable, "-I", f"{own}/guest.pyz", "serve"]
    argv += ["--boot", f"{own}/boot.json", "--socket", f"{own}/guest.sock"]
    env = {"PATH": os.environ["PATH"], "HOME": own}
    return subprocess.Popen(argv, stdin=subprocess.DEVNULL, env=env, start_new_session=True)


def private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


async def main() -> None:
    async with Machines() as provider:
        sandbox = await provider.create(SandboxSpec())
        print((await sandbox.exec(["echo", "hello"])).stdout)
        await sandbox.terminate()


if __name__ == "__main__":
    anyio.run(main)
