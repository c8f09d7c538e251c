"""One client of the SDK, from the first line of input to its end."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Coroutine
from functools import partial
from typing import Any

from agenthost.runner import sdk as sdk_loader
from agenthost.runner.callbacks import relayed_options
from agenthost.runner.faults import Fault, Refusal, describe, describe_stream_end, make_fault
from agenthost.runner.journal import Journal
from agenthost.runner.lines import read_lines
from agenthost.runner.options import SecretFiles, build_options
from agenthost.runner.process import end_descendants, first_child, reap_adopted, when_ended
from agenthost.runner.prompts import PromptLedger, as_messages
from agenthost.runner.requests import Requests
from agenthost.runner.sdk import Sdk

logger = logging.getLogger("agenthost.runner")

# How long each step of the end may take, in seconds. The host waits 15 for all of it.
INTERRUPT_SECONDS = 2.0
TURN_END_SECONDS = 3.0
CONNECT_CANCEL_SECONDS = 1.0
DISCONNECT_SECONDS = 3.0
KILL_GRACE_SECONDS = 0.5
# The CLI's last words on stderr arrive beside the end of its stdout, not before it.
STDERR_QUIET_SECONDS = 0.05
STDERR_LIMIT_SECONDS = 0.5
# The CLI's own timeout for a hook: the host counts the user's. A day, as long as a host may be away.
_HOOK_SECONDS = 24 * 3600.0

METHODS = frozenset(
    {
        "interrupt",
        "set_model",
        "set_permission_mode",
        "rewind_files",
        "reconnect_mcp_server",
        "toggle_mcp_server",
        "stop_task",
        "get_mcp_status",
        "get_context_usage",
        "get_server_info",
    }
)


class Agent:
    """Steers the client by what the host says and tells the journal what comes of it."""

    def __init__(self, journal: Journal, *, mcp: bool = False) -> None:
        self._journal = journal
        self._mcp = mcp
        self._requests = Requests(journal)
        self._ledger = PromptLedger()
        self._prompts: asyncio.Queue[list[dict[str, Any]] | None] = asyncio.Queue()
        self._given = 0
        self._written = 0
        self._progress = asyncio.Condition()
        self._idle = asyncio.Event()
        self._idle.set()
        self._connected = asyncio.Event()
        self._stopping: asyncio.Future[Fault | None] = asyncio.get_running_loop().create_future()
        self._tasks: set[asyncio.Task[None]] = set()
        self._sdk: asyncio.Future[Sdk] | None = None
        self._client: Any = None
        self._connecting: asyncio.Task[None] | None = None
        self._files: SecretFiles | None = None

    def stop(self, fault: Fault | None = None) -> None:
        """Begin the end. The first reason given is the one that ``end`` tells."""
        if not self._stopping.done():
            self._stopping.set_result(fault)

    async def run(self, reader: asyncio.StreamReader) -> Fault | None:
        """Serve until the host ends the agent, the CLI ends or something breaks; return what broke."""
        loop = asyncio.get_running_loop()
        self._sdk = loop.run_in_executor(None, partial(sdk_loader.load, mcp=self._mcp))
        self._journal.closed.add_done_callback(lambda _: self.stop())
        self._start(self._announce())
        self._start(self._read(reader))
        self._start(reap_adopted())
        try:
            fault = await self._stopping
            await self._close(fault)
        finally:
            for task in self._tasks:
                task.cancel()
            if self._files is not None:
                self._files.remove()
        return fault

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(self._guard(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _guard(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:  # a defect of the runner: told, because silence would be a hang
            logger.exception("the runner failed")
            self.stop(describe(error))

    async def _announce(self) -> None:
        assert self._sdk is not None
        try:
            found = await asyncio.shield(self._sdk)
        except Refusal as refusal:
            self.stop(describe(refusal))
        else:
            self._journal.emit("state", state="ready", **found.describe())

    # ---- what the host says

    async def _read(self, reader: asyncio.StreamReader) -> None:
        async for line in read_lines(reader):
            if self._take(json.loads(line)):
                break
        self.stop()

    def _take(self, operation: dict[str, Any]) -> bool:
        """Begin what one line asks for. True when it asks for the end."""
        name = operation.get("op")
        if name == "connect" and self._connecting is None:
            self._connecting = self._start(self._connect(operation))
        elif name == "query":
            self._take_prompt(operation)
        elif name == "call":
            self._start(self._call(operation, after=self._given))
        elif name == "answer":
            self._requests.answer(operation)
        elif name == "finish":
            self._prompts.put_nowait(None)
        elif name == "attach":
            self._requests.attach(self._state())
        elif name == "driver":
            self._requests.driver(operation["epoch"], present=operation["present"], shown=operation["shown"])
        elif name == "note":
            self._journal.emit("state", state=operation["state"])
        elif name == "end":
            return True
        else:
            self.stop(make_fault("WireVersionError", f"the runner does not know the operation {name!r}"))
        return False

    def _take_prompt(self, operation: dict[str, Any]) -> None:
        prompt_id, session_id = operation["uuid"], operation.get("session_id", "default")
        messages = as_messages(operation["prompt"], prompt_id, session_id)
        if self._ledger.add(prompt_id, messages):
            self._given += 1
            self._prompts.put_nowait([{"session_id": session_id, **message} for message in messages])
            self._tell_state()

    def _state(self) -> dict[str, Any]:
        return {
            "begun": self._connecting is not None,
            "connected": self._connected.is_set(),
            "busy": len(self._ledger) > 0,
            "session_id": self._ledger.session_id,
        }

    def _tell_state(self) -> None:
        busy = len(self._ledger) > 0
        if busy == self._idle.is_set():
            (self._idle.clear if busy else self._idle.set)()
            self._journal.emit("state", state="busy" if busy else "idle")

    # ---- the client

    async def _connect(self, operation: dict[str, Any]) -> None:
        assert self._sdk is not None
        callbacks: dict[str, Any] = operation.get("callbacks") or {}
        try:
            found = await asyncio.shield(self._sdk)
        except Refusal:
            return  # told by _announce
        if callbacks.get("servers") and not found.has_mcp:
            self._sdk = asyncio.get_running_loop().run_in_executor(None, sdk_loader.reload_with_mcp)
            try:
                found = await asyncio.shield(self._sdk)
            except Refusal as refusal:
                self.stop(describe(refusal))
                return
        host_version = str(operation.get("sdk_version"))
        self._requests.configure(found.codec, patience=operation.get("decision_wait"))
        try:
            options = build_options(
                found,
                operation.get("options") or {},
                host_version=host_version,
                files=self._make_files,
                stderr=self._journal.stderr_line,
                relayed=relayed_options(
                    found,
                    callbacks,
                    self._requests,
                    self._journal,
                    hook_timeout=operation.get("hook_timeout") or _HOOK_SECONDS,
                ),
            )
            self._client = found.module.ClaudeSDKClient(options)
            cli = self._start(self._watch_cli())
            # The prompts are one stream: its end is the only public way to end the CLI's input and still
            # read what comes of it.
            await self._client.connect(self._stream_prompts())
        except Refusal as refusal:
            self.stop(describe(refusal))
            return
        except (ValueError, TypeError) as error:
            self.stop(describe(error, found.codec))  # options that the SDK itself refuses
            return
        except Exception as error:  # noqa: BLE001 - whatever it is, the host raises it
            self.stop(describe_stream_end(error, found.codec, found.module, self._journal.stderr.text()))
            return
        self._journal.emit(
            "state", state="connected", sdk_version=found.version, same_version=host_version == found.version
        )
        self._connected.set()
        await self._pump(found)
        cli.cancel()

    def _make_files(self, owner: str | None) -> SecretFiles:
        self._files = SecretFiles(owner)
        return self._files

    async def _watch_cli(self) -> None:
        """When the CLI has ended, end what it left behind.

        A program that it started may hold its stdout open: the SDK would wait for it, perhaps for ever.
        """
        ended = asyncio.Event()
        with when_ended(await first_child(), ended.set):
            await ended.wait()
        await end_descendants(grace=KILL_GRACE_SECONDS)

    async def _pump(self, found: Sdk) -> None:
        """Move messages to the journal, at the pace of its reader, until the stream ends."""
        message: Any = None
        while True:
            try:
                async for message in self._client.receive_messages():
                    try:
                        text = found.dumps(message)
                    except ValueError as error:  # nested too deeply to cross
                        self._journal.emit("fault", error=describe(error))
                    else:
                        if self._journal.message(text):
                            await self._journal.wait_for_room()
                    if type(message).__name__ == "ResultMessage":
                        self._ledger.result(message)
                        self._tell_state()
                break
            except Exception as error:  # noqa: BLE001 - whatever it is, the host raises it
                if type(error).__name__ == "MessageParseError":
                    # One message that the SDK cannot read. Its stream goes on for those who ask again.
                    self._journal.emit("fault", error=describe(error, found.codec))
                    continue
                await self._settle_stderr()
                stderr = self._journal.stderr.text()
                self.stop(describe_stream_end(error, found.codec, found.module, stderr, message))
                return
        await self._settle_stderr()
        self.stop(self._incomplete())

    def _incomplete(self) -> Fault | None:
        if not len(self._ledger):
            return None
        return make_fault(
            "IncompleteTurnError",
            f"the claude CLI ended with exit code 0 before the result of {len(self._ledger)} prompt(s)",
            exit_code=0,
            stderr=self._journal.stderr.text(),
        )

    async def _settle_stderr(self) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + STDERR_LIMIT_SECONDS
        count = -1
        while count != self._journal.stderr.count and loop.time() < end:
            count = self._journal.stderr.count
            await asyncio.sleep(STDERR_QUIET_SECONDS)

    async def _stream_prompts(self) -> AsyncIterator[dict[str, Any]]:
        while (messages := await self._prompts.get()) is not None:
            for message in messages:
                yield message
            # Asked for the next one: those before have been written.
            async with self._progress:
                self._written += 1
                self._progress.notify_all()

    async def _call(self, operation: dict[str, Any], *, after: int) -> None:
        """Run one method. It overtakes other calls, but no prompt that was given before it."""
        number, method = operation["id"], str(operation["method"])
        assert self._sdk is not None
        try:
            found = await asyncio.shield(self._sdk)
            await self._connected.wait()
            async with self._progress:
                await self._progress.wait_for(lambda: self._written >= after)
            function = getattr(self._client, method, None) if method in METHODS else None
            if function is None:
                raise Refusal(
                    "UnsupportedError",
                    f"claude-agent-sdk {found.version} in the sandbox has no method {method!r}",
                )
            parameters = found.codec.decode(operation.get("params") or {})
            result = found.codec.encode(await function(**parameters))
        except Exception as error:  # noqa: BLE001 - whatever it is, the host raises it
            self._journal.emit("reply", id=number, ok=False, error=describe(error))
        else:
            self._journal.emit("reply", id=number, ok=True, result=result)

    # ---- the end

    async def _close(self, fault: Fault | None) -> None:
        """Interrupt, end the CLI's input, wait, and end what is left: never longer than 15 seconds."""
        if self._client is None:
            return
        if fault is None and self._connected.is_set() and not self._idle.is_set():
            await _bounded(self._client.interrupt(), INTERRUPT_SECONDS)
            await _bounded(self._idle.wait(), TURN_END_SECONDS)
        if fault is not None or not self._connected.is_set():
            # Nobody reads the CLI's output any more: it might wait for that and not see its input end. And
            # one that never got to work has nothing to save.
            await end_descendants(grace=KILL_GRACE_SECONDS)
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.wait({self._connecting}, timeout=CONNECT_CANCEL_SECONDS)
        leaving = asyncio.ensure_future(self._client.disconnect())
        await asyncio.wait({leaving}, timeout=DISCONNECT_SECONDS)
        await end_descendants(grace=KILL_GRACE_SECONDS)
        await _bounded(leaving, 1.0)


async def _bounded(work: Any, seconds: float) -> None:
    """Wait for something at most so long, and let its error be: the end goes on without it."""
    try:
        await asyncio.wait_for(work, seconds)
    except Exception as error:  # noqa: BLE001 - what could not be done gently is done by force next
        logger.debug("while ending: %r", error)
