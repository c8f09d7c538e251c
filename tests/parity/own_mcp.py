"""An MCP server of this process that is made by hand: structured content and resources."""

from __future__ import annotations

from typing import Any

import mcp.types
from mcp.server import Server
from parity.scenario import Run

_SCHEMA = {"type": "object", "properties": {"to": {"type": "integer"}}, "required": ["to"]}
_OUTPUT = {"type": "object", "properties": {"counted": {"type": "array"}}}


def server_by_hand(run: Run) -> Any:
    """Return a server with one tool and one resource, which records what it is asked."""
    kinds: Any = mcp.types  # pydantic takes the names of the wire, which its constructors do not tell

    def make(kind: str, **fields: Any) -> Any:
        return getattr(kinds, kind).model_validate(fields)

    async def list_tools(*_: object) -> Any:
        notes = {"readOnlyHint": True, "openWorldHint": False}
        one = {"name": "count", "inputSchema": _SCHEMA, "outputSchema": _OUTPUT, "annotations": notes}
        return make("ListToolsResult", tools=[one])

    async def call_tool(_: object, params: Any) -> Any:
        run.note("tools/call", {"name": params.name, "arguments": params.arguments})
        counted = list(range(1, params.arguments["to"] + 1))
        text = {"type": "text", "text": f"{counted}", "annotations": {"audience": ["user"], "priority": 0.5}}
        return make("CallToolResult", content=[text], structuredContent={"counted": counted})

    async def list_resources(*_: object) -> Any:
        one = {"uri": "memo://one", "name": "one", "mimeType": "text/plain", "size": 6}
        return make("ListResourcesResult", resources=[one])

    async def read_resource(_: object, params: Any) -> Any:
        run.note("resources/read", str(params.uri))
        return make("ReadResourceResult", contents=[{"uri": "memo://one", "text": "a memo"}])

    make_server: Any = Server
    return make_server(
        "by hand",
        version="7",
        instructions="Count with it.",
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        on_list_resources=list_resources,
        on_read_resource=read_resource,
    )
