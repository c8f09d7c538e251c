"""An agent is started here and finished there: by another process, later, or after a crash.

    export ANTHROPIC_API_KEY=...
    python examples/detach_and_attach.py start "Count the primes below a million" > agent.ref
    python examples/detach_and_attach.py finish agent.ref messages.jsonl

``finish`` may be killed at any time and started again, here or on another machine that has the two files: the
log then holds each message once, in order.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import anyio
from claude_agent_sdk import AssistantMessage, ClaudeAgentOptions, Message

from agenthost import AgentRef, Cursor, HostedAgent, SandboxSpec, message_to_json
from agenthost.errors import GuestLostError, SandboxGoneError, SandboxNotFoundError

# The sandbox ends after this whatever happens, and earlier when nobody has come for the agent.
LIFETIME = 6 * 3600.0
KEEP_FOR = 3600.0


async def start(prompt: str) -> AgentRef:
    """Have an agent begin to work, and leave it."""
    options = ClaudeAgentOptions(permission_mode="bypassPermissions")
    spec = SandboxSpec(max_lifetime=LIFETIME)
    async with HostedAgent(options, provider="local", spec=spec) as agent:
        await agent.query(prompt)
        # The agent ends by itself when it has answered. So whoever finishes it, however often that one was
        # killed, knows by the end of the messages that there are no more.
        await agent.finish_input()
        async for message in agent.receive_messages():
            print(message, file=sys.stderr)
            if isinstance(message, AssistantMessage):
                break  # it is in the middle of its work
        return await agent.detach(keep_for=KEEP_FOR)  # ends nothing; the ref says what was read here


async def finish(ref: AgentRef, path: Path) -> None:
    """Write the rest of the messages to a log."""
    with Log(path) as log:
        try:
            async with HostedAgent.attach(ref, after=log.cursor or ref.cursor) as agent:
                # To ask for the next message is to say that the one before was dealt with: it is in the log.
                async for message in agent.receive_messages():
                    log.write(agent.cursor, message)
                    print(type(message).__name__, flush=True)
        except (SandboxNotFoundError, SandboxGoneError, GuestLostError):
            # Somebody finished it before, and ended the agent and its sandbox.
            if not log.has_result:
                raise


class Log:
    """A file of lines, each a message together with the place behind it.

    Message and place are written as one: a crash leaves both or neither. That is what makes it exactly once;
    with the place in a file of its own there would be a moment between the two.
    """

    def __init__(self, path: Path) -> None:
        self.cursor: Cursor | None = None
        self.has_result = False
        self._file = path.open("a+b")
        self._file.seek(0)
        end = 0
        for line in self._file:
            if not line.endswith(b"\n"):
                break  # cut off by a crash: it was not written, and its message is asked for again
            end += len(line)
            self._note(json.loads(line))
        self._file.truncate(end)

    def write(self, cursor: Cursor, message: Message) -> None:
        """Append a message. It is on the disk when this returns."""
        line = f'{{"cursor":"{cursor}","message":{message_to_json(message)}}}\n'
        self._file.write(line.encode())
        self._file.flush()
        os.fsync(self._file.fileno())
        self._note(json.loads(line))

    def _note(self, line: dict[str, Any]) -> None:
        self.cursor = Cursor.parse(line["cursor"])
        self.has_result = line["message"]["$type"] == "ResultMessage"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["start", prompt]:
            print(anyio.run(start, prompt).to_json())
        case ["finish", ref_file, log_file]:
            anyio.run(finish, AgentRef.from_json(Path(ref_file).read_text()), Path(log_file))
        case _:
            raise SystemExit(__doc__)
