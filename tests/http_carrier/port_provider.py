"""The provider ``local-unisolated``, whose guests are reached through a port, directly or behind an edge."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

from agenthost.link.carriers.http import HttpDialer
from agenthost.link.layout import GuestLayout
from agenthost.providers.local.local_unisolated import UnisolatedProvider
from agenthost.sandbox import Backend, Boot, Carrier
from agenthost.spec import Limits, SandboxSpec
from agenthost.supports import Endpoint
from agenthost.testing.loopback import HttpRequest

LABEL = "port-of-the-guest"
HEADER = "x-port-of-the-guest"  # by which an edge finds the sandbox


def upstream_of(request: HttpRequest) -> str:
    """Return where an edge sends a request."""
    return f"http://127.0.0.1:{request.headers[HEADER]}"


class PortProvider(UnisolatedProvider):
    """See the module.

    Attributes:
        edge: The URL of the edge; None is the port itself.
        headers: Of the vendor, beside the one that names the port.
        refusal: What is raised to one who asks where the port is.
        asked: How often that was asked.
        options: Of the guest's Port.
        address: The address that guests listen at.
    """

    name = "ported"

    def __init__(
        self,
        *,
        state_dir: str | None = None,
        edge: str | None = None,
        secret: str | None = None,
        limits: Limits | None = None,
    ) -> None:
        super().__init__(state_dir=state_dir, secret=secret, limits=limits)
        self.edge = edge
        self.headers: dict[str, str] = {}
        self.refusal: Exception | None = None
        self.asked = 0
        self.options: dict[str, Any] = {}
        self.address = "127.0.0.1"

    async def resolve(self, spec: SandboxSpec) -> SandboxSpec:
        """Choose a port."""
        with socket.socket() as chosen:
            chosen.bind(("127.0.0.1", 0))
            return replace(spec, labels={**spec.labels, LABEL: str(chosen.getsockname()[1])})

    def layout(self, spec: SandboxSpec) -> GuestLayout:
        """Return the layout, with the port."""
        return replace(super().layout(spec), port=int(spec.labels[LABEL]), address=self.address)

    async def make(self, spec: SandboxSpec, boot: Boot) -> Backend:
        """Make a sandbox."""
        config = {
            **boot.config,
            "http": {**cast("dict[str, Any]", boot.config["http"]), "options": self.options},
        }
        boot = replace(boot, config=config, files={**boot.files, "boot.json": json.dumps(config).encode()})
        return await self._ported(await super().make(spec, boot))

    async def reach(self, sandbox_id: str) -> Backend:
        """Return a sandbox."""
        return await self._ported(await super().reach(sandbox_id))

    async def endpoint(self, labels: Mapping[str, str]) -> Endpoint:
        """Return where a sandbox's port is."""
        self.asked += 1
        if self.refusal is not None:
            raise self.refusal
        url = self.edge or f"http://127.0.0.1:{labels[LABEL]}"
        return Endpoint(url=url, headers={HEADER: labels[LABEL], **self.headers})

    async def _ported(self, inner: Backend) -> Backend:
        info = await inner.info()
        dialer = HttpDialer(lambda: self.endpoint(info.labels), guest_key=self.guest_key(info))
        return cast("Backend", _PortBackend(inner, dialer))


class _PortBackend:
    """A backend that is dialled through the port. All else is as it was."""

    def __init__(self, inner: Backend, dialer: HttpDialer) -> None:
        self._inner = inner
        self._dialer = dialer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def dial(self) -> Carrier:
        return await self._dialer.dial()
