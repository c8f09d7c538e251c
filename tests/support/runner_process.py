"""The runner as a real process, its lines sent and its events read."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import zipapp
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import claude_agent_sdk

import agenthost
from agenthost.runner import __file__ as runner_file
from agenthost.wire import __file__ as wire_file
from agenthost.wire.codec import Codec, public_classes

CODEC = Codec(public_classes(claude_agent_sdk))
# Another Python that has the SDK: the runner is to work on 3.10, the tests are not.
PYTHON = os.environ.get("AGENTHOST_TEST_RUNNER_PYTHON", sys.executable)
Event = dict[str, Any]


def build_zipapp(target: Path) -> Path:
    """Make a runner.pyz of wire and runner only, as it travels into a sandbox."""
    tree = target.with_suffix("")
    for file in (wire_file, runner_file):
        source = Path(str(file)).parent
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(source, tree / "agenthost" / source.name, ignore=ignored)
    # The archive's own agenthost, even where a development install is on the path too.
    (tree / "__main__.py").write_text(
        "import sys, types\n"
        "package = types.ModuleType('agenthost')\n"
        "package.__path__ = [sys.path[0] + '/agenthost']\n"
        "sys.modules['agenthost'] = package\n"
        "from agenthost.runner.__main__ import main\n"
        "main()\n"
    )
    zipapp.create_archive(tree, target)
    return target


def source_command() -> list[str]:
    """Return the command that runs the runner from the source tree."""
    return [PYTHON, "-m", "agenthost.runner"]


class RunnerProcess:
    """One runner. Events are read in order; ``events`` keeps all that were read."""

    def __init__(self, process: anyio.abc.Process) -> None:
        self.process = process
        self.events: list[Event] = []
        self._buffer = b""
        self._waiting: list[Event] = []
        self.ended = False

    async def send(self, op: str, **fields: Any) -> None:
        """Send one line."""
        assert self.process.stdin is not None
        await self.process.stdin.send(json.dumps({"op": op, **fields}).encode() + b"\n")

    async def connect(self, version: str = claude_agent_sdk.__version__, **options: Any) -> None:
        """Send the first line."""
        await self.send("connect", options=CODEC.encode(options), sdk_version=version)

    async def query(self, prompt: Any, uuid: str = "p1", session_id: str = "default") -> None:
        """Send a prompt."""
        await self.send("query", uuid=uuid, prompt=prompt, session_id=session_id)

    async def call(self, method: str, number: int = 1, **params: Any) -> None:
        """Call a method of the client; the answer is an event."""
        await self.send("call", id=number, method=method, params=params)

    async def close_input(self) -> None:
        """End stdin."""
        assert self.process.stdin is not None
        await self.process.stdin.aclose()

    async def next(self) -> Event | None:
        """Return the next event, None at the end of the journal."""
        while not self._waiting:
            if self.ended:
                return None
            assert self.process.stdout is not None
            try:
                data = await self.process.stdout.receive(1 << 20)
            except anyio.EndOfStream:
                self.ended = True
                assert not self._buffer
                return None
            *lines, self._buffer = (self._buffer + data).split(b"\n")
            self._waiting.extend(json.loads(line) for line in lines)
        event = self._waiting.pop(0)
        self.events.append(event)
        assert event["seq"] == len(self.events)
        return event

    async def until(self, kind: str, **fields: Any) -> Event:
        """Read on to the event of this kind that has these fields."""
        while (event := await self.next()) is not None:
            if event["kind"] == kind and fields.items() <= event.items():
                return event
            assert event["kind"] != "end", f"ended before {kind} {fields}: {event}"
        raise AssertionError(f"no {kind} {fields} in {self.events[-3:]}")

    async def until_message(self, class_name: str) -> Any:
        """Read on to a message of this class and return it, decoded."""
        while True:
            event = await self.until("message")
            if event["message"]["$type"] == class_name:
                return decoded(event)

    async def rest(self) -> Event:
        """Read to the end of the journal, and the process; return the ``end`` event."""
        while await self.next() is not None:
            pass
        assert await self.process.wait() == 0
        assert [event["kind"] for event in self.events].count("end") == 1
        assert self.events[-1]["kind"] == "end"
        return self.events[-1]

    def messages(self, class_name: str | None = None) -> list[Any]:
        """Return the messages that were read, decoded."""
        return [
            decoded(event)
            for event in self.events
            if event["kind"] == "message" and class_name in (None, event["message"]["$type"])
        ]

    def states(self) -> list[str]:
        """Return the states that were told, in order."""
        return [event["state"] for event in self.events if event["kind"] == "state"]


def decoded(event: Event) -> Any:
    """Return an event's message. The event stays as it is: decoding uses its argument up."""
    return CODEC.loads(json.dumps(event["message"]))


@contextlib.asynccontextmanager
async def run_runner(
    directory: Path, *, command: Sequence[str] | None = None, **env: str
) -> AsyncGenerator[RunnerProcess]:
    """Run a runner with a home of its own in ``directory``, and leave nothing of it."""
    (directory / "home").mkdir(exist_ok=True)
    (directory / "tmp").mkdir(exist_ok=True)
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(directory / "home"),
        "TMPDIR": str(directory / "tmp"),
        "CLAUDE_CONFIG_DIR": str(directory / "home" / "config"),
        "ANTHROPIC_API_KEY": "placeholder",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "CLAUDE_CODE_DISABLE_AUTO_MEMORY": "1",
        "PYTHONPATH": str(Path(agenthost.__file__).parents[1]),
        **env,
    }
    process = await anyio.open_process(
        [*(command or source_command())],
        env=environment,
        cwd=directory,
        stderr=subprocess.DEVNULL if "QUIET" in env else None,
        start_new_session=True,
    )
    try:
        yield RunnerProcess(process)
    finally:
        with anyio.CancelScope(shield=True):
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
            await process.aclose()


async def wait_for_file(path: Path) -> str:
    """Return a file's text once it is there."""
    file = anyio.Path(path)
    while not await file.exists():  # noqa: ASYNC110 - another process makes it
        await anyio.sleep(0.01)
    return await file.read_text()
