"""The way from the internet to a sandbox's ports, for who has a token that was made for one of them."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from agenthost.testing.emulators.base.ports import relay
from agenthost.testing.emulators.modal.world import ModalBox
from agenthost.testing.loopback import Exchange

_SCHEME = "bearer "
# Of these a server gets the proxy's own alone.
_PROXYS = ("authorization", "x-verified-user-data")


@dataclass(frozen=True, slots=True)
class _Pass:
    box: ModalBox
    port: int


class Passes:
    """Tokens, each for one port of one sandbox."""

    def __init__(self) -> None:
        self._made: dict[str, _Pass] = {}

    def make(self, box: ModalBox, port: int) -> str:
        """Return a token for a port."""
        token = f"ct-{secrets.token_hex(16)}"
        self._made[token] = _Pass(box, port)
        return token

    async def handle(self, exchange: Exchange) -> None:
        """Let a request through to the port that its token is for."""
        shown = exchange.request.headers.get("authorization", "")
        scheme, token = shown[: len(_SCHEME)], shown[len(_SCHEME) :]
        found = self._made.get(token) if scheme.lower() == _SCHEME else None
        if found is None:
            await exchange.reply(401, b"modal-http: invalid or missing connect token\n")
            return
        machine = found.box.machine
        if found.box.done is not None or machine is None:
            await exchange.reply(404, b"modal-http: the sandbox does not run\n")
            return
        if not await relay(machine, found.port, exchange, host="sandbox.modal.host", without=_PROXYS):
            await exchange.reply(502, b"modal-http: nothing listens at the port\n")
