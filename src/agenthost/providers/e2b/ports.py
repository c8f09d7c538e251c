"""Where a port of a sandbox is reached from outside."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agenthost.supports import Endpoint

if TYPE_CHECKING:
    from e2b import AsyncSandbox

TOKEN = "e2b-traffic-access-token"


def endpoint(sandbox: AsyncSandbox, port: int) -> Endpoint:
    """Return where a port is reached, with what E2B's proxy asks for.

    The vendor's own answer is a name for each port. Where its client was told of another way to the
    sandboxes (``sandbox_url``), names lead nowhere: the port is behind that address then, and told by the
    headers by which the client's own calls find their sandbox there.
    """
    headers: dict[str, str] = {}
    if isinstance(token := sandbox.traffic_access_token, str):  # there is none where the public may come in
        headers[TOKEN] = token
    way = sandbox.envd_direct_url
    if way == f"https://{sandbox.get_host(sandbox.connection_config.envd_port)}":
        return Endpoint(url=f"https://{sandbox.get_host(port)}", headers=headers)
    headers.update({"e2b-sandbox-id": sandbox.sandbox_id, "e2b-sandbox-port": str(port)})
    return Endpoint(url=way.rstrip("/"), headers=headers)
