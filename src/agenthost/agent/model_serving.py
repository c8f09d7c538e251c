"""Takes up an agent's model requests as they come, each in a task of its own."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import anyio

from agenthost.agent.credentials import ModelAccess
from agenthost.agent.model_guard import ModelGuard
from agenthost.agent.model_proxy import ModelProxy, load_http_client
from agenthost.errors import AgentHostError

if TYPE_CHECKING:
    from agenthost.link.channel import AgentChannel

_log = logging.getLogger("agenthost.agent")


async def serve_model(
    channel: AgentChannel, access: ModelAccess, guard: ModelGuard, *, request_bytes: int
) -> None:
    """Serve until the channel has ended, or until cancelled."""
    proxy = ModelProxy(access, guard, request_bytes=request_bytes)
    client_class = await load_http_client()
    async with client_class() as client, anyio.create_task_group() as exchanges:
        while True:
            try:
                exchange = await channel.next_exchange()
            except AgentHostError:
                return  # the journal tells the same, to those who wait

            async def serve(one: Any = exchange) -> None:
                try:
                    await proxy.serve(client, one)
                except Exception:  # noqa: BLE001 - the CLI asks again; the agent goes on
                    _log.exception("a model request failed")
                finally:
                    channel.close_exchange(one)

            exchanges.start_soon(serve)
