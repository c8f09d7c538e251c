"""A stand-in for the runner: answers at once, starts in a moment and is small.

Where hundreds of agents are needed at once to look at the host, runners with a real SDK (70 MB and half a
second of processor time each) would hide it. A prompt that is a number is answered by that many messages and
a result.
"""

from __future__ import annotations

import json
import sys
import time
from itertools import count

_numbers = count(1)


def emit(kind: str, **fields: object) -> None:
    """Write an event, as the runner's journal does."""
    line = {"seq": next(_numbers), "ts": time.time(), "kind": kind, **fields}
    sys.stdout.write(json.dumps(line, separators=(",", ":")) + "\n")


def message(name: str, **fields: object) -> None:
    """Write a message."""
    emit("message", message={"$type": name, **fields})


def answer(prompt: str) -> None:
    """Answer one prompt."""
    wanted = int(prompt)
    for number in range(wanted):
        event = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "x" * 40}}
        message("StreamEvent", uuid=str(number), session_id="s", event=event)
    message(
        "ResultMessage",
        subtype="success",
        duration_ms=1,
        duration_api_ms=1,
        is_error=False,
        num_turns=1,
        session_id="s",
        result=str(wanted),
    )


def main() -> None:
    """Serve the lines of stdin."""
    for line in sys.stdin:
        operation = json.loads(line)
        name = operation["op"]
        if name == "connect":
            version = operation["sdk_version"]
            emit("state", state="ready", sdk_version=version, python_version="", executable=sys.executable)
            emit("state", state="connected", sdk_version=version, same_version=True)
        elif name == "attach":
            emit("state", state="attached", epoch=2, connected=True, busy=False, session_id="s")
        elif name == "query":
            answer(operation["prompt"])
        elif name == "end":
            break
        sys.stdout.flush()
    emit("end", error=None)


main()
