"""The emulator: two services on loopback, and machines behind them."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import anyio

from agenthost.background import BackgroundTasks
from agenthost.errors import ConfigError, MissingExtraError, UnsupportedError
from agenthost.testing.emulators.base.machines import Account, Machines
from agenthost.testing.loopback import LoopbackServer

if TYPE_CHECKING:
    from agenthost.testing.emulators.modal.wire import Service
    from agenthost.testing.emulators.modal.world import ModalEmulator


@asynccontextmanager
async def emulator(
    *,
    friendly: bool = False,
    build_env: Mapping[str, str] | None = None,
    images: Path | None = None,
    seed: int = 0,
    image_builder: str = "2025.06",
    strict_tags: bool | None = None,
    odd_ids: bool | None = None,
    list_lag: float = 0.0,
) -> AsyncGenerator[ModalEmulator]:
    """Serve Modal's API on loopback until the block is left, which ends every sandbox.

    Args:
        friendly: Have nothing go wrong by itself. Otherwise output comes in any pieces, streams break off in
            the middle, tokens run out and lists have pages, as they do at Modal sooner or later.
        build_env: Added to the environment of the steps of images: where packages are found, for instance.
        images: A directory in which images are kept for other emulators; None keeps none.
        seed: What the moods of a hostile one are drawn from.
        image_builder: The version of Modal's image builder; every one that Modal's client knows.
        strict_tags: Refuse tags of sandboxes that Modal's client would refuse of an app: other signs than
            ``A-Z a-z 0-9 . _ -``, or more than 63. None is unless it is friendly.
        list_lag: Seconds until a new sandbox is in the list.
        odd_ids: Give sandboxes ids with other signs than letters and digits. None is unless it is friendly.

    Raises:
        MissingExtraError: Modal's client is not installed: its messages are the wire.
        ConfigError: There is no such image builder.
        UnsupportedError: On trio: the server is asyncio's. Or Modal's client is not one that it knows.
    """
    if anyio.get_cancelled_exc_class().__module__.partition(".")[0] == "trio":
        raise UnsupportedError("the emulator of Modal works on asyncio, as Modal's client does")
    try:
        from modal._image import ImageBuilderVersion

        from agenthost.testing.emulators.modal.control import Control
        from agenthost.testing.emulators.modal.image_store import ImageStore
        from agenthost.testing.emulators.modal.router import Router
        from agenthost.testing.emulators.modal.visiting import Passes
        from agenthost.testing.emulators.modal.wire import serve
        from agenthost.testing.emulators.modal.world import ModalEmulator as World
    except ImportError as error:
        if find_spec("modal") is None:
            raise MissingExtraError(
                f"the emulator of Modal needs Modal's client ({error}): pip install 'agenthost[modal]'"
            ) from error
        raise UnsupportedError(
            f"the emulator of Modal does not know this version of Modal's client ({error}): it was made for "
            "1.6. pip install 'modal~=1.6.4'"
        ) from error
    if image_builder not in get_args(ImageBuilderVersion):
        known = ", ".join(get_args(ImageBuilderVersion))
        raise ConfigError(f"image_builder={image_builder!r} is not one of Modal's: {known}")
    async with AsyncExitStack() as stack:
        machines = await stack.enter_async_context(Machines(Account("root", 0, "/root")))
        tasks = await stack.enter_async_context(BackgroundTasks())
        store = ImageStore(images or machines.directory / "images", build_env or {})
        world = World(
            machines,
            tasks,
            store,
            friendly=friendly,
            seed=seed,
            image_builder=image_builder,
            strict_tags=not friendly if strict_tags is None else strict_tags,
            odd_ids=not friendly if odd_ids is None else odd_ids,
            list_lag=list_lag,
        )
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
            world.options = {
                "token_id": credential[0],
                "token_secret": credential[1],
                "server_url": f"http://127.0.0.1:{servers[1].port}",
            }
            yield world
        finally:
            with anyio.CancelScope(shield=True):
                for server in servers:
                    await server.close()
