"""The emulator: two services on loopback, and machines behind them."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio

from agenthost.background import BackgroundTasks
from agenthost.errors import MissingExtraError, UnsupportedError
from agenthost.testing.emulators.machines import Account, Machine, Machines
from agenthost.testing.emulators.modal.faults import Faults
from agenthost.testing.loopback import LoopbackServer

if TYPE_CHECKING:
    from agenthost.testing.emulators.modal.wire import Service


class ModalEmulator:
    """What ``emulator`` yields.

    Attributes:
        options: For ``open_provider("modal", ...)`` or ModalProvider.
        faults: What is to go wrong.
    """

    def __init__(self, world: Any, control: Any, options: Mapping[str, Any]) -> None:
        self.options: dict[str, Any] = dict(options)
        self.faults: Faults = world.faults
        self._world = world
        self._control = control

    def add_secret(self, name: str, values: Mapping[str, str]) -> None:
        """Keep a named secret, which headers can be made of."""
        self._world.secrets[name] = dict(values)

    def running(self) -> list[str]:
        """Return the ids of the sandboxes that run."""
        return [box.id for box in self._world.boxes.values() if box.done is None]

    async def ended(self, sandbox_id: str) -> None:
        """Return when a sandbox has ended."""
        await self._world.boxes[sandbox_id].ended.wait()

    def definition(self, sandbox_id: str) -> Any:
        """Return what a sandbox was asked to be: the message as Modal's client sent it."""
        return self._world.boxes[sandbox_id].definition

    def built(self) -> list[str]:
        """Return the ids of the images that were built, in that order, as often as they were."""
        return list(self._world.images.built)

    def commands(self, image_id: str) -> list[str]:
        """Return what an image was made of, from its base on; nothing of one that another emulator made."""
        image = self._world.images.find(image_id)
        found: list[str] = []
        while image is not None:
            found = [*image.commands, *found]
            image = image.base
        return found

    def tags(self, sandbox_id: str) -> dict[str, str]:
        """Return a sandbox's tags."""
        return dict(self._world.boxes[sandbox_id].tags)

    async def machine(self, sandbox_id: str) -> Machine:
        """Return the machine behind a sandbox, when it runs."""
        machine: Machine = await self._world.machine(self._world.boxes[sandbox_id])
        return machine

    def expire(self, sandbox_id: str) -> None:
        """Have a sandbox's lifetime be over."""
        self._finish(sandbox_id, "GENERIC_STATUS_TIMEOUT", 124)

    def lose(self, sandbox_id: str) -> None:
        """Have a sandbox's worker break down."""
        self._finish(sandbox_id, "GENERIC_STATUS_INTERNAL_FAILURE", 1)

    def drop_streams(self) -> int:
        """Break every stream of output off, in the middle; returns how many there were."""
        streams = list(self._world.streams)
        for scope in streams:
            scope.cancel()
        return len(streams)

    def _finish(self, sandbox_id: str, status: str, code: int) -> None:
        from modal_proto import api_pb2

        result = api_pb2.GenericResult.GenericStatus.Value(status)
        self._world.finish(self._world.boxes[sandbox_id], result, code)


@asynccontextmanager
async def emulator(
    *,
    friendly: bool = False,
    build_env: Mapping[str, str] | None = None,
    images: Path | None = None,
    seed: int = 0,
) -> AsyncGenerator[ModalEmulator]:
    """Serve Modal's API on loopback until the block is left, which ends every sandbox.

    Args:
        friendly: Have nothing go wrong by itself. Otherwise output comes in any pieces, streams break off in
            the middle, tokens run out and lists have pages, as they do at Modal sooner or later.
        build_env: Added to the environment of the steps of images: where packages are found, for instance.
        images: A directory in which images are kept for other emulators; None keeps none.
        seed: What the moods of a hostile one are drawn from.

    Raises:
        MissingExtraError: Modal's client is not installed: its messages are the wire.
        UnsupportedError: On trio: the server is asyncio's.
    """
    if anyio.get_cancelled_exc_class().__module__.partition(".")[0] == "trio":
        raise UnsupportedError("the emulator of Modal works on asyncio, as Modal's client does")
    try:
        from agenthost.testing.emulators.modal.control import Control
        from agenthost.testing.emulators.modal.image_store import ImageStore
        from agenthost.testing.emulators.modal.router import Router
        from agenthost.testing.emulators.modal.visiting import Passes
        from agenthost.testing.emulators.modal.wire import serve
        from agenthost.testing.emulators.modal.world import World
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"the emulator of Modal needs Modal's client ({error}): pip install 'agenthost[modal]'"
        ) from error
    async with AsyncExitStack() as stack:
        machines = await stack.enter_async_context(Machines(Account("root", 0, "/root")))
        tasks = await stack.enter_async_context(BackgroundTasks())
        store = ImageStore(images or machines.directory / "images", build_env or {})
        world = World(machines, tasks, store, friendly=friendly, seed=seed)
        credential = (f"ak-{secrets.token_hex(11)}", f"as-{secrets.token_hex(11)}")
        make_control: Any = Control  # what it lacks of the service was added when it was made
        make_router: Any = Router
        passes = Passes()
        visitors = await stack.enter_async_context(LoopbackServer(passes.handle))
        control, router = make_control(world, credential, passes, visitors.url), make_router(world)
        servers: list[Service] = []
        try:
            servers.append(await serve(router, router.check, world.faults))
            world.router_url = f"http://127.0.0.1:{servers[0].port}"
            servers.append(await serve(control, control.check, world.faults))
            yield ModalEmulator(
                world,
                control,
                {
                    "token_id": credential[0],
                    "token_secret": credential[1],
                    "server_url": f"http://127.0.0.1:{servers[1].port}",
                },
            )
        finally:
            with anyio.CancelScope(shield=True):
                for server in servers:
                    await server.close()
