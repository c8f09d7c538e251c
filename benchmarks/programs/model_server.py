"""A scripted model in a process of its own, so that it costs both sides the same. Ends with its stdin."""

from __future__ import annotations

import sys

import anyio
import anyio.to_thread

from agenthost.testing import ModelRequest, ScriptedModel, Text


def answer(request: ModelRequest) -> Text:
    """Say "hi", or as many deltas as the prompt names."""
    words = request.prompt.split()
    if words[:1] == ["deltas"]:
        return Text.deltas(int(words[1]))
    return Text("hi")


async def main() -> None:
    """Serve."""
    async with ScriptedModel(answer) as model:
        print(model.url, flush=True)
        await anyio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)


if __name__ == "__main__":
    anyio.run(main)
