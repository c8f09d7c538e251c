"""What an agent finds around itself, and blocks that only the model's side makes."""

from __future__ import annotations

import re
from typing import Any

from parity.scenario import OF_THE_TESTS, Run, one_answer, scenario

from agenthost.testing import Block, Text, Thinking, ToolUse, Turn


@scenario(
    "class:ServerToolUseBlock class:ServerToolResultBlock",
    script=[
        Turn(
            Block(
                {"type": "server_tool_use", "id": "srvtoolu_1", "name": "advisor", "input": {"q": "\u00fc"}}
            ),
            Block(
                {"type": "advisor_tool_result", "tool_use_id": "srvtoolu_1", "content": {"type": "advice"}}
            ),
            Text("Done."),
        )
    ],
    options={"include_partial_messages": True},
    shows=('"$class": "ServerToolUseBlock"', '"$class": "ServerToolResultBlock"'),
)
async def tools_of_the_models_side(run: Run) -> None:
    await one_answer(run)


@scenario(
    "option:include_partial_messages class:StreamEvent class:ThinkingBlock class:ToolUseBlock",
    script=[
        [
            Thinking("Hm."),
            Text.deltas(30),
            ToolUse("Bash", {"command": "echo \u00fc"}, id="toolu_1", delta=5),
        ],
        Text("Done."),
    ],
    options={"include_partial_messages": True, "allowed_tools": ["Bash"]},
    shows=("input_json_delta", "signature_delta"),
    trio=True,
)
async def partial_messages(run: Run) -> None:
    await one_answer(run)


def _environment(text: str) -> dict[str, str]:
    """Return variables, without what no two processes share and what this test run marks its own with."""
    own = {"_", "CLAUDE_PID", "CLAUDE_CODE_MESSAGING_TOKEN", "SHLVL"}
    found = dict(line.split("=", 1) for line in text.split("\0") if "=" in line)
    for name in OF_THE_TESTS:
        found.pop(name, None)
    return {name: "(its own)" if name in own else value for name, value in sorted(found.items())}


LOOK = "env -0 > env.txt; { pwd; umask; ulimit -n; id; tty; readlink /proc/self/fd/0; } > rest.txt 2>&1"


@scenario(
    "option:env",
    script=[ToolUse("Bash", {"command": LOOK}, id="toolu_1"), Text("Done.")],
    options={"permission_mode": "bypassPermissions", "env": {"IS_SANDBOX": "1", "OWN": "\u00fc = 'x'"}},
    shows=("CLAUDECODE", "OWN"),
    masks=("the key is not inside", "how long a model request may take"),
)
async def what_a_tool_finds(run: Run) -> None:
    await one_answer(run)
    text = await run.machine.read(f"{run.work}/env.txt")
    run.see({"environment": _environment(text or "")})
    rest = await run.machine.read(f"{run.work}/rest.txt") or ""
    run.see({"rest": re.sub(r"pipe:\[\d+\]|socket:\[\d+\]", "pipe", rest)})


@scenario("method:query", script=lambda _: [_image_seen], shows=("A picture.",))
async def a_prompt_with_a_picture(run: Run) -> None:
    source = {"type": "base64", "media_type": "image/png", "data": PICTURE}

    async def prompt() -> Any:
        content = [{"type": "text", "text": "Look."}, {"type": "image", "source": source}]
        yield {"type": "user", "message": {"role": "user", "content": content}}

    await run.ask(prompt())


# One red point.
PICTURE = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"


def _image_seen(request: Any) -> Text:
    return Text("A picture." if PICTURE in str(request.body) else "Nothing.")


@scenario("method:query", script=[Text("Long.")], shows=("x" * 1000,))
async def a_long_prompt(run: Run) -> None:
    await run.ask("x" * 300_000 + "\U0001f40d")
