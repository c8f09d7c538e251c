"""An agent's life: everything that must be opened for it, in order, and closed again."""

from __future__ import annotations

import contextlib
import importlib.metadata
import logging
import sys
import uuid
from collections.abc import AsyncGenerator, AsyncIterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import anyio.abc

from agenthost.agent.answering import Answers
from agenthost.agent.attachment import Attachment
from agenthost.agent.audit.opening import open_trail
from agenthost.agent.audit.trail import AuditTrail
from agenthost.agent.audit.workdir import WorkdirWatch
from agenthost.agent.errors import rebuild, rebuild_refusal
from agenthost.agent.journal import Journal
from agenthost.agent.model_serving import serve_model
from agenthost.agent.names import new_agent_id
from agenthost.agent.place import Place
from agenthost.agent.plan import Plan, check_isolation, close_model
from agenthost.agent.preparing import prepare
from agenthost.agent.progress import Reporter
from agenthost.agent.ref import AgentRef, Cursor
from agenthost.agent.sdk import import_sdk, sdk_codec
from agenthost.agent.sender import LineSender
from agenthost.agent.tool_authority import TELLING_OPTIONS, ToolAuthority
from agenthost.background import start_detached
from agenthost.errors import (
    AgentError,
    AgentHostError,
    BootstrapError,
    CallTimeoutError,
    ConfigError,
    GuestLostError,
    LinkLostError,
    ReplayGapError,
    SandboxGoneError,
    SandboxStartError,
    UnsupportedError,
    exhausted,
)
from agenthost.log_once import shortened
from agenthost.sandbox import Sandbox
from agenthost.wire.codec import Codec

if TYPE_CHECKING:
    from agenthost.link.channel import AgentChannel
    from agenthost.link.client import GuestSandbox

_log = logging.getLogger("agenthost.agent")

_SEND_END_SECONDS = 2.0


class AgentLife:
    """Opens, holds and closes. Runs in a task of its own; ``start`` and ``finish`` may be called in any."""

    def __init__(self, plan: Plan) -> None:
        self.sandbox: GuestSandbox | None = None
        self.journal: Journal | None = None
        self.sender: LineSender | None = None
        self.authority = ToolAuthority(plan.options.callbacks.hooks)
        self.agent_id = ""
        self.sdk: Any = None
        self.codec: Codec = Codec({})
        self.error: Exception | None = None
        self._plan = plan
        self._report = Reporter(plan.on_progress)
        self._scope = anyio.CancelScope()
        self._is_ready = False
        self._leaving = False
        self._ready = anyio.Event()
        self._leave = anyio.Event()
        self._done = anyio.Event()
        self._imported = anyio.Event()
        self._import_error: Exception | None = None
        self._late = False
        self._tasks: anyio.abc.TaskGroup | None = None
        self._place = Place(plan, self._report)
        self._driven: AgentChannel | None = None
        self.audit = AuditTrail()
        # The agent runs on when this process leaves it. One that is attached to is taken over only when all
        # is ready: an attach that fails or is cancelled ends nothing.
        self._staying = plan.attachment is not None
        # Somebody else may know of it, and may drive it when this process cannot look.
        self._is_known = plan.attachment is not None
        self._lent = False  # the sandbox is no provider of ours: the guest goes with this process
        self._lease = anyio.CancelScope()

    @property
    def call_timeout(self) -> float:
        """Seconds in which the agent answers a call."""
        return self._plan.limits.call_timeout

    # ---- for the owner

    async def start(self) -> None:
        """Return when the agent is connected. When it raises or is cancelled, nothing is left."""
        start_detached(self._run)
        try:
            await self._ready.wait()
        except BaseException:
            await self.finish()
            raise
        if self.error is not None:
            raise self.error

    async def stay(self, keep_for: float | None) -> None:
        """Have the agent run on when ``finish`` is called: return when it has all that was sent.

        Args:
            keep_for: Seconds after which the sandbox ends without a driver; None: its own end.

        Raises:
            UnsupportedError: It cannot be kept, or not for so long; nothing has changed.
        """
        self._check_lasting("detach")
        driven = self._driven
        if driven is not None and self.journal is not None and not self.journal.ended:
            if keep_for is not None:
                from agenthost.agent.lease import live_for

                assert self.sandbox is not None
                await live_for(self.sandbox, keep_for, stop_renewing=self._lease.cancel)
            try:
                await self.answers.settle()
                await self._flush(driven)
                if keep_for is not None:
                    assert self.sandbox is not None
                    await self.sandbox.keep_for(keep_for)
            except LinkLostError as error:
                self._lead_back(error)
                raise
        self.leave_running()

    async def _flush(self, driven: AgentChannel) -> None:
        try:
            with anyio.fail_after(self.call_timeout):
                await driven.flushed()
        except BrokenPipeError:
            return  # it has ended meanwhile and reads no more
        except TimeoutError as error:
            raise CallTimeoutError(
                f"the sandbox did not take all that was sent within {self.call_timeout:g} s; this process "
                "still drives the agent. Call detach again, or leave the block, which ends the agent"
            ) from error

    def _check_lasting(self, what: str) -> None:
        if self._lent:
            raise UnsupportedError(
                f"{what}: the sandbox is of no provider of agenthost's, where the agent ends with the block"
            )

    def leave_running(self) -> None:
        """Have the agent run on when ``finish`` is called."""
        self._staying = True
        if self._driven is not None:
            self._driven.lasting = True
        self._place.leave()

    def take_over(self) -> None:
        """End with this life the agent that was attached to. Before, an attach that fails ends nothing."""
        if self._driven is not None and self._plan.attachment is not None:
            self._staying = self._driven.lasting = False
            self._place.take()

    def ref(self) -> AgentRef:
        """Return what another process needs to attach. AgentError before the sandbox is there."""
        if self.sandbox is None or not self.agent_id:
            raise AgentError("the sandbox is not there yet")
        self._check_lasting("ref")
        self._is_known = True
        attachment = self._plan.attachment
        journal = self.journal
        return AgentRef(
            provider=self.sandbox.provider,
            sandbox=self.sandbox.id,
            sandbox_name=self.sandbox.name,
            agent=self.agent_id,
            owned=self._plan.sandbox is None if attachment is None else attachment.ref.owned,
            credentials=self._plan.credentials,
            session_id=(journal.session_id if journal else None)
            or (attachment.ref.session_id if attachment else None),
            cursor=journal.cursor if journal else Cursor(),
            model=self._plan.guard.to_json() if self._plan.access is not None else None,
        )

    async def finish(self) -> None:
        """End the agent and return when nothing is left. Not cut short by cancellation; bounded in time."""
        self._leaving = True
        if self._is_ready:
            self._leave.set()
        else:
            self._scope.cancel()
        cancelled: BaseException | None = None
        with anyio.CancelScope(shield=True):
            while not self._done.is_set():
                try:
                    await self._done.wait()
                except anyio.get_cancelled_exc_class() as error:
                    # asyncio's own cancel() knows no shield. It is obeyed when nothing is left.
                    cancelled = error
        if cancelled is not None:
            raise cancelled

    # ---- the task

    async def _run(self) -> None:
        try:
            with self._scope:
                async with anyio.create_task_group() as tasks:
                    try:
                        await self._live(tasks)
                    except Exception as error:  # noqa: BLE001 - raised again by ``start`` or its owner
                        self.error = exhausted(error, "run an agent") or error
                    tasks.cancel_scope.cancel()
        except Exception as error:  # noqa: BLE001 - a defect beside; nothing may leave this task
            _log.exception("an agent's task failed")
            self.error = self.error or error
        finally:
            if not self._is_ready and self.error is None:
                self.error = (
                    SandboxStartError(f"the agent was not ready within {self._plan.limits.start:g} s")
                    if self._late
                    else AgentHostError("the agent was closed before it was ready")
                )
            self._done.set()
            self._ready.set()

    async def _live(self, tasks: anyio.abc.TaskGroup) -> None:
        self._tasks = tasks
        tasks.start_soon(self._limit_start)
        tasks.start_soon(self._import)
        async with self._place.open() as sandbox, guest_of(sandbox) as guest:
            self.sandbox, self._lent = guest, guest is not sandbox
            plan = self._plan
            if plan.attachment is None:
                check_isolation(plan, guest.capabilities.isolation, f"provider {guest.provider!r}")
            if plan.attachment is not None and plan.attachment.role == "observer":
                await self._observe(tasks, guest, plan.attachment)
            else:
                await self._drive(tasks, guest)
            self._report.tell("end", "the agent runs on" if self._staying else "the agent has ended")

    async def _observe(self, tasks: anyio.abc.TaskGroup, guest: GuestSandbox, attachment: Attachment) -> None:
        self.agent_id = attachment.ref.agent
        async with guest.observe_agent(self.agent_id, after=_offset(attachment)) as observation:
            callbacks = self._plan.options.callbacks
            self.journal = Journal(observation, stderr=callbacks.stderr, manual_ack=True)
            self.journal.begin(attachment)
            tasks.start_soon(self.journal.run)
            await self.sdk_ready()
            await self._hold()

    async def _drive(self, tasks: anyio.abc.TaskGroup, guest: GuestSandbox) -> None:
        channel: AgentChannel | None = None
        try:
            async with self._channel(guest) as channel:
                await self._with_channel(tasks, guest, channel)
        finally:
            if channel is not None:
                self._settle_ownership(channel)

    async def _watch(self, channel: AgentChannel) -> None:
        """Give the sandbox up as soon as another driver has come."""
        assert self.journal is not None
        journal = self.journal
        await journal.until(lambda: journal.ended)
        if channel.superseded:
            self._place.leave()

    def _settle_ownership(self, channel: AgentChannel) -> None:
        if channel.superseded:
            self._place.leave()  # ownership has gone to the driver that came
        elif isinstance(channel.error, SandboxGoneError | GuestLostError):
            pass  # nothing is there that could be another's
        elif self._is_known and not channel.released and not channel.lasting:
            # The guest could not be asked who drives: another host may, which was told of it.
            self._place.leave()
            _log.error(
                "agent %s could not be reached to be ended; its sandbox %s is left to its own end",
                *(channel.agent, self.sandbox.name if self.sandbox else ""),
            )
        elif self._plan.attachment is not None and channel.epoch and not self._is_ready:
            _log.warning("agent %s was taken from its driver, and nobody drives it now", channel.agent)

    def _channel(self, guest: GuestSandbox) -> AbstractAsyncContextManager[AgentChannel]:
        attachment, begun = self._plan.attachment, self._place.begun
        if attachment is not None:
            self.agent_id = attachment.ref.agent
            self._report.tell("agent", f"taking over {self.agent_id}")
            return guest.drive_agent(self.agent_id, after=_offset(attachment), lasting=True)
        self._report.tell("agent", "taking its runner" if self._place.is_warm else "starting the runner")
        self.agent_id = begun or new_agent_id()
        if begun is not None:
            return guest.drive_agent(begun)
        mcp = bool(self._plan.options.callbacks.servers)
        return guest.agent(self.agent_id, env={}, model=self._plan.access is not None, mcp=mcp)

    async def _with_channel(
        self, tasks: anyio.abc.TaskGroup, guest: GuestSandbox, channel: AgentChannel
    ) -> None:
        plan = self._plan
        callbacks = plan.options.callbacks
        self._driven = channel
        audit = self.audit = await open_trail(plan, guest, channel)
        self.authority.on_decision, plan.guard.on_refusal = audit.on_decision, audit.on_refusal
        self.sender = LineSender(channel)
        self.answers = Answers(
            callbacks,
            send=self.sender.send,
            codec=self._ready_codec,
            authority=self.authority,
            audit=audit,
        )
        self.journal = Journal(
            channel, stderr=callbacks.stderr, answers=self.answers, audit=audit, manual_ack=plan.manual_ack
        )
        if plan.attachment is not None:
            self.answers.wait_for(channel.epoch)
            self.journal.begin(plan.attachment)
        self.answers.start(tasks)
        tasks.start_soon(self.journal.run)
        tasks.start_soon(self.sender.run)
        if plan.access is not None:
            await close_model(plan, guest)
            size = plan.limits.request_bytes
            tasks.start_soon(partial(serve_model, channel, plan.access, plan.guard, request_bytes=size))
        tasks.start_soon(self._renew_lease, guest)
        tasks.start_soon(self._watch, channel)
        watch = WorkdirWatch(audit, guest)
        try:
            if plan.attachment is None:
                await prepare(plan, guest, self._report)
                tasks.start_soon(watch.run)
                await self._connect()
                await watch.begun()
            else:
                tasks.start_soon(watch.run)
                await self._attach()
            await self._hold()
        finally:
            # Killed before it has ended its sandbox, this process leaves one that a ref still leads to.
            channel.remembered = self._place.owned
            if not self._staying:
                with anyio.move_on_after(plan.limits.close, shield=True):
                    await self._end()
                    await watch.finish()
            audit.finish(channel.superseded, self._staying, self.journal.failure)

    async def _renew_lease(self, guest: GuestSandbox) -> None:
        # Beside the sandbox's start, as all that needs the guest's code.
        from agenthost.agent.lease import renew_lease

        def works() -> bool:
            journal = self.journal
            if journal is None or journal.ended:
                return False
            # What an agent that was attached to does is known only when its word on that was read.
            return not self._is_ready or self.answers.waits or journal.busy or self.answers.open > 0

        with self._lease:
            await renew_lease(guest, works)

    async def _hold(self) -> None:
        journal = self.journal
        if self._driven is not None and self._plan.attachment is not None and journal is not None:
            # One whose cursor leads nowhere takes nothing over.
            await journal.until(lambda: journal.begun)
            if isinstance(journal.failure, ReplayGapError | ConfigError):
                raise journal.failure
        self._is_ready = True
        self._report.tell("ready", "the agent is ready")
        self._ready.set()
        await self._leave.wait()

    async def _limit_start(self) -> None:
        await anyio.sleep(self._plan.limits.start)
        if not self._is_ready:
            self._late = True
            self._scope.cancel()

    async def _import(self) -> None:
        try:
            self.sdk = await import_sdk()
            self.codec = sdk_codec(self.sdk)
        except ImportError as error:
            self._import_error = ConfigError(f"claude-agent-sdk cannot be imported here: {error}")
        finally:
            self._imported.set()

    async def _attach(self) -> None:
        """Tell the agent that this process answers from now on. Its word on it lies behind what is unread."""
        assert self.sender is not None
        fields = self._plan.options.fields
        if not TELLING_OPTIONS.isdisjoint(fields):
            self.authority.take_options({"setting_sources": [], **fields})
        try:
            await self.sender.send({"op": "attach"})
        except BrokenPipeError:
            _log.info("the agent has ended: what it left is read")
        await self.sdk_ready()

    async def sdk_ready(self) -> None:
        """Return when the SDK has been imported on the host."""
        await self._imported.wait()
        if self._import_error is not None:
            raise self._import_error

    async def _ready_codec(self) -> Codec:
        await self.sdk_ready()
        return self.codec

    # ---- the way to a connected agent

    async def _connect(self) -> None:
        assert self.journal is not None
        assert self.sender is not None
        journal, version = self.journal, _sdk_version()
        self._report.tell("agent", "connecting")
        options, limits = self._plan.options, self._plan.limits
        self.authority.take_options(options.fields)
        if options.callbacks.store is not None:
            await self.sdk_ready()  # what a store lacks is told by the SDK's own class
        line = {
            "op": "connect",
            "options": options.encode(self.codec),
            "callbacks": options.callbacks.describe(),
            "hook_timeout": limits.host_away,
            "decision_wait": limits.decision_wait,
            "sdk_version": version,
        }
        with contextlib.suppress(BrokenPipeError):  # the runner has ended already; the journal tells why
            await self.sender.send(line)
        connected = await journal.until(lambda: journal.connected)
        await self.sdk_ready()
        if not connected:
            raise self.end_error() or BootstrapError("the agent ended before it was connected")
        if (journal.ready or {}).get("managed_settings") and options.callbacks.servers:
            # The sandbox says so itself, and so this loosens nothing.
            _log.warning(
                "the sandbox has managed settings: what they allow does not count for tools of this process; "
                "name these in allowed_tools"
            )
        inside = (journal.ready or {}).get("sdk_version")
        if inside != version:
            shown = shortened(inside)
            _log.warning("the sandbox has claude-agent-sdk %s, this host %s", shown, version)

    def end_error(self) -> Exception | None:
        """Return why the agent has ended, None when there is nothing to blame."""
        assert self.journal is not None
        failure = self.journal.failure
        if isinstance(failure, LinkLostError):
            self._lead_back(failure)
        if failure is not None:
            return failure
        if self.journal.fault is not None:
            # Before it is connected, the options of this process may be what a TypeError is about.
            read = rebuild if self.journal.connected else rebuild_refusal
            return read(self.journal.fault, self.sdk, self.codec)
        return None

    def _lead_back(self, error: LinkLostError) -> None:
        if error.ref is None and not self._lent:
            error.ref = self.ref().to_json()

    def feed(self, prompt: AsyncIterable[dict[str, Any]], session_id: str) -> None:
        """Send a stream of prompts beside everything else, and announce its end."""
        assert self._tasks is not None
        self._tasks.start_soon(self._feed, prompt, session_id)

    async def _feed(self, prompt: AsyncIterable[dict[str, Any]], session_id: str) -> None:
        try:
            async for message in prompt:
                await self.send_prompt([{"session_id": session_id, **message}], session_id)
        except (AgentHostError, OSError) as error:
            _log.debug("a prompt could not be sent: %s", error)
            return  # the journal tells why
        except Exception:  # noqa: BLE001 - as in the SDK: the stream ends where the iterable broke
            _log.exception("the stream of prompts raised; it ends here")
        with contextlib.suppress(AgentHostError, OSError):
            await self.finish_input()

    async def send_prompt(self, prompt: str | list[dict[str, Any]], session_id: str) -> None:
        """Send one prompt."""
        assert self.sender is not None
        encoded = self.codec.encode(prompt)
        self._plan.guard.note_prompt(prompt)
        # A prompt with a name of its own is taken once, however often it is sent.
        own = prompt[0].get("uuid") if isinstance(prompt, list) and len(prompt) == 1 else None
        name = str(own or uuid.uuid4())
        await self.sender.send({"op": "query", "uuid": name, "prompt": encoded, "session_id": session_id})

    def allow_model(self, model: str | None) -> None:
        """Allow requests to a model from now on; None is the CLI's default."""
        self._plan.guard.allow_model(model)

    async def send_call(self, number: int, method: str, params: Any) -> None:
        """Have a method of the client called."""
        assert self.sender is not None
        self.audit.called(method, params)
        await self.sender.send({"op": "call", "id": number, "method": method, "params": params})

    async def finish_input(self) -> None:
        """Announce that no prompt will follow: the agent ends when all are answered."""
        assert self.sender is not None
        await self.sender.send({"op": "finish"})

    # ---- the end

    async def _end(self) -> None:
        assert self.journal is not None
        assert self.sender is not None
        journal = self.journal
        journal.drain()
        if not journal.ended:
            with anyio.move_on_after(_SEND_END_SECONDS), contextlib.suppress(AgentHostError, OSError):
                await self.sender.send({"op": "end"})
            await journal.until(lambda: journal.ended)
        await self.answers.settle()


@asynccontextmanager
async def guest_of(sandbox: Sandbox) -> AsyncGenerator[GuestSandbox]:
    """Yield a guest in this sandbox. Its code is imported here, beside the sandbox's start."""
    from agenthost.adapter.on_sandbox import guest_on

    async with guest_on(sandbox) as guest:
        yield guest


def _offset(attachment: Attachment) -> int | None:
    return None if attachment.start is None else attachment.start.offset


def _sdk_version() -> str:
    module = sys.modules.get("claude_agent_sdk")
    version = getattr(module, "__version__", None)
    return str(version) if version else importlib.metadata.version("claude-agent-sdk")
