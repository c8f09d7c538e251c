"""A provider that can only expose a port: the machines of guest_provider.py, reached by HTTP requests."""

import socket
from dataclasses import replace

import anyio
from guest_provider import Machine, Machines

from agenthost import Limits, SandboxSpec
from agenthost.link.carriers.http import HttpDialer
from agenthost.link.layout import GuestLayout
from agenthost.sandbox import Boot, Carrier
from agenthost.supports import Endpoint


class PortMachine(Machine):
    """A Backend."""

    def __init__(self, machine: Machine, port: int, guest_key: bytes) -> None:
        super().__init__(machine.directory, machine.known, machine.process)
        self.port = port
        self.dialer = HttpDialer(self.endpoint, guest_key=guest_key)

    async def endpoint(self) -> Endpoint:
        # At a cloud: the address of its edge, and the headers that the edge wants, as they are now.
        return Endpoint(url=f"http://127.0.0.1:{self.port}")

    async def dial(self) -> Carrier:
        return await self.dialer.dial()  # OSError until the guest listens


class PortMachines(Machines):
    name = "port-machines"

    def __init__(self, *, limits: Limits | None = None) -> None:
        super().__init__(limits=limits)
        self.ports: dict[str, int] = {}

    def layout(self, spec: SandboxSpec) -> GuestLayout:
        port = self.ports.setdefault(spec.name or "", free_port())
        return replace(super().layout(spec), port=port, address="127.0.0.1")

    async def make(self, spec: SandboxSpec, boot: Boot) -> Machine:
        machine = await super().make(spec, boot)
        known = machine.known
        self.there[known.name] = PortMachine(machine, self.ports[known.name], self.guest_key(known))
        return self.there[known.name]


def free_port() -> int:
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        port: int = chosen.getsockname()[1]
        return port


async def main() -> None:
    async with PortMachines() as provider:
        sandbox = await provider.create(SandboxSpec())
        print((await sandbox.exec(["echo", "hello"])).stdout)
        await sandbox.terminate()


if __name__ == "__main__":
    anyio.run(main)
