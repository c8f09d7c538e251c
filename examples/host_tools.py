"""Tools that run in your program, for an agent that runs in a sandbox.

    export ANTHROPIC_API_KEY=...
    python examples/host_tools.py "Cancel what is late, and show me what is left"

The database and its connection stay on this machine. All that the agent has of it is three tools.
"""

from __future__ import annotations

import base64
import sqlite3
import struct
import sys
import zlib
from typing import Any

import anyio
from claude_agent_sdk import (
    AssistantMessage,
    ClaudeAgentOptions,
    ResultMessage,
    TextBlock,
    ToolAnnotations,
    ToolUseBlock,
    create_sdk_mcp_server,
    tool,
)

from agenthost import HostedAgent

ORDERS = [("tea", 12, "open"), ("coffee", 30, "late"), ("sugar", 7, "open"), ("salt", 2, "late")]


def open_database() -> sqlite3.Connection:
    """Return your database; this one lives in memory."""
    database = sqlite3.connect(":memory:")
    database.execute("create table orders (id integer primary key, what text, amount integer, state text)")
    database.executemany("insert into orders (what, amount, state) values (?, ?, ?)", ORDERS)
    return database


def make_server(database: sqlite3.Connection) -> Any:
    """Return an MCP server whose tools use this connection.

    A tool is an ordinary async function: it runs in this program's event loop, and may do what this program
    may do. What it gets comes from a model: treat it like any other input from outside.
    """

    # Read-only: if this program dies while it runs, whoever attaches to the agent then may be called again.
    @tool(
        "find_orders",
        "Find orders by their state",
        {"state": str},
        annotations=ToolAnnotations(readOnlyHint=True),
    )
    async def find_orders(args: dict[str, Any]) -> dict[str, Any]:
        rows = database.execute("select id, what, amount from orders where state = ?", (args["state"],))
        return text("\n".join(f"{number}: {amount} x {what}" for number, what, amount in rows) or "none")

    # This one changes something, so it is never called twice for one question: if this program dies while it
    # runs, the agent is told that its outcome is unknown, and can look.
    @tool("cancel_order", "Cancel an order by its number", {"id": int})
    async def cancel_order(args: dict[str, Any]) -> dict[str, Any]:
        with database:
            done = database.execute("update orders set state = 'cancelled' where id = ?", (args["id"],))
        if done.rowcount == 0:
            return {**text(f"there is no order {args['id']}"), "is_error": True}
        return text(f"order {args['id']} is cancelled")

    @tool("chart", "Draw the amounts of open orders", {}, annotations=ToolAnnotations(readOnlyHint=True))
    async def chart(_: dict[str, Any]) -> dict[str, Any]:
        rows = database.execute("select amount from orders where state = 'open' order by id")
        picture = base64.b64encode(bar_chart([amount for (amount,) in rows])).decode()
        return {"content": [{"type": "image", "data": picture, "mimeType": "image/png"}]}

    return create_sdk_mcp_server("shop", tools=[find_orders, cancel_order, chart])


def text(content: str) -> dict[str, Any]:
    """Return a tool's result that is text."""
    return {"content": [{"type": "text", "text": content}]}


def bar_chart(amounts: list[int], scale: int = 8) -> bytes:
    """Return a PNG with a bar for each amount. A real program would ask a library for it."""
    width = max([1, *amounts]) * scale
    rows = [
        b"\0" * amount * scale + b"\xff" * (width - amount * scale)
        for amount in amounts
        for _ in range(scale)
    ]
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows or [b"\xff" * width]))
    header = struct.pack(">IIBBBBB", width, max(1, len(rows)), 8, 0, 0, 0, 0)  # eight bits of grey

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


async def main(prompt: str) -> None:
    """Run one prompt."""
    database = open_database()
    options = ClaudeAgentOptions(
        mcp_servers={"shop": make_server(database)},
        tools=[],  # nothing but ours
        allowed_tools=["mcp__shop"],
    )
    async with HostedAgent(options, provider="local") as agent:
        await agent.query(prompt)
        async for message in agent.receive_response():
            if isinstance(message, AssistantMessage):
                for block in message.content:
                    if isinstance(block, TextBlock):
                        print(block.text)
                    elif isinstance(block, ToolUseBlock):
                        print(f"[{block.name}] {block.input}")
            elif isinstance(message, ResultMessage):
                print(f"{message.subtype} after {message.num_turns} turns")
    for row in database.execute("select id, what, state from orders order by id"):
        print(*row)
    database.close()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    anyio.run(main, sys.argv[1])
