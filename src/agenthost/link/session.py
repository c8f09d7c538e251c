"""The link with I/O: dials, sends, receives, dials again; calls and streams that survive it."""

from __future__ import annotations

import json
import logging
import secrets
from typing import Any

import anyio

from agenthost.errors import (
    AccessDeniedError,
    AgentHostError,
    ConfigError,
    GuestLostError,
    LinkError,
    LinkLostError,
    OutcomeUnknownError,
    ProviderError,
    ReplayGapError,
    SandboxGoneError,
    SandboxNotFoundError,
    SandboxPausedError,
    SupersededError,
    WireVersionError,
    exhausted,
)
from agenthost.link.answers import CALL_SECONDS, Patience, Waiter, call_error
from agenthost.link.flows import Failure, Inflow, Outflow
from agenthost.link.listener import AgentListener
from agenthost.log_once import LogOnce, shortened
from agenthost.sandbox import Backend, Carrier
from agenthost.wire import events
from agenthost.wire.frames import ProtocolError
from agenthost.wire.host import HostLink
from agenthost.wire.settings import WIRE_VERSION, WireSettings

_log = logging.getLogger("agenthost.link")
_BUDGET = 512 * 1024  # bytes handed to a carrier at once
_FIRST_DELAY = 0.05  # seconds between the first two dials, doubled each time
_LAST_DELAY = 2.0  # and the longest
_CLOSING = 5.0  # seconds that closing a carrier may take
_BREACHES = 64  # carriers in a row that ended because the guest broke the rules of the wire
_RENEW_AFTER = 64  # calls; the guest keeps the answers of all that come behind a call without an answer
_CARRIER_ERRORS = (OSError, anyio.ClosedResourceError, anyio.BrokenResourceError, anyio.EndOfStream)


class Session:
    """One link from this process to one sandbox. ``run`` must be running in a task group.

    ``channels`` are told what happens to their agents, by the agent's name.

    Args:
        backend: Whom to dial.
        name: The sandbox's, for errors.
        guest_key: What proves the guest; None where nothing is sealed.
        settings: Sizes and times.
        budget: Seconds spent on reconnecting.
        start: Seconds until the guest has answered for the first time; None is ``budget``.
        call_timeout: Seconds in which ``call`` and ``grant`` are answered while the link is up. See
            ``Limits.call_timeout``.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        name: str,
        guest_key: bytes | None,
        settings: WireSettings | None = None,
        budget: float = 60.0,
        start: float | None = None,
        call_timeout: float = CALL_SECONDS,
    ) -> None:
        self.link = HostLink(secrets.token_hex(16), settings, guest_key=guest_key)
        self.failure = Failure()
        self.name = name
        self.channels: dict[str, AgentListener] = {}
        self._backend = backend
        self._budget = budget
        self._wait_for_link = budget if start is None else max(start, budget)
        self.patience = Patience(self.link, name, call_timeout)
        self._breaches = 0
        self._looking = False
        self._warnings = LogOnce(_log)
        self._wake = anyio.Event()
        self._ready = anyio.Event()
        self.was_up = False  # the guest has answered, once at least
        self._waiters: dict[int, Waiter] = {}  # by the call's first number
        self._lasting: dict[int, tuple[int, str, dict[str, Any]]] = {}  # by the call's number of now
        self._granting: dict[tuple[str, str], Waiter] = {}
        self._inflows: dict[str, Inflow] = {}
        self._outflows: dict[str, Outflow] = {}
        self._names = 0
        # Who is cancelled from outside still has to kill what it started, over this link: ``close`` ends it.
        self._scope = anyio.CancelScope(shield=True)
        self.link.wake = self._wake_writer

    # ---- life

    async def run(self) -> None:
        """Keep the link up until it cannot be kept up. Never raises; only ``close`` cancels it."""
        error: Exception = LinkError(f"the link to sandbox {self.name} was closed")
        try:
            await self._run()
        finally:  # however it ended: by asyncio's own cancel() too, which knows no shield
            self._fail(error)

    async def _run(self) -> None:
        with self._scope:
            error: Exception
            try:
                error = await self._keep_up()
            except AgentHostError as exc:
                error = exc
            except Exception as exc:  # noqa: BLE001 - raised, it would cancel all else in the provider's block
                _log.exception("sandbox %s: the link broke", self.name)
                error = LinkError(f"the link to sandbox {self.name} broke: {exc!r}")
                error.__cause__ = exc
            self._fail(error)

    def close(self, error: Exception | None = None) -> None:
        """End the link; what waits on it gets ``error``."""
        self._fail(error or LinkError(f"the link to sandbox {self.name} was closed"))
        self._scope.cancel()

    async def wait_ready(self) -> None:
        """Return when the guest has answered for the first time."""
        while not self._ready.is_set():
            self.failure.check()
            await self._ready.wait()
        self.failure.check()

    async def _keep_up(self) -> Exception:
        deadline = anyio.current_time() + self._wait_for_link
        delay = _FIRST_DELAY
        while True:
            error: Exception | None = None
            try:
                with anyio.fail_after(max(deadline - anyio.current_time(), _LAST_DELAY)):
                    carrier = await self._backend.dial()
            except (OSError, ProviderError) as exc:
                error = exc
            else:
                served = await self._serve(carrier)
                if self.failure.error is not None:
                    return self.failure.error
                if served:
                    self._wait_for_link = self._budget
                    deadline = anyio.current_time() + self._budget
                    delay = _FIRST_DELAY
            with anyio.move_on_after(max(deadline - anyio.current_time(), _LAST_DELAY)):
                await self._look_for_sandbox()
            if anyio.current_time() + delay > deadline:
                return LinkLostError(
                    f"sandbox {self.name} could not be reached for {self._wait_for_link:g} s"
                    + (f" ({exhausted(error, 'reach a sandbox') or error})" if error else "")
                )
            await anyio.sleep(delay)
            delay = min(delay * 2, _LAST_DELAY)

    async def _look_for_sandbox(self) -> None:
        """Raise when there is nothing left to dial."""
        try:
            info = await self._backend.info()
        except SandboxNotFoundError as exc:
            raise SandboxGoneError(f"sandbox {self.name} has ended") from exc
        except (OSError, ProviderError) as exc:
            _log.debug("sandbox %s: the provider does not say how it is: %r", self.name, exc)
            return
        if info.state == "ended":
            raise SandboxGoneError(info.resources.get("ended") or f"sandbox {self.name} has ended")
        if info.state == "paused":
            raise SandboxPausedError(f"sandbox {self.name} is paused: resume it first")

    async def _serve(self, carrier: Carrier) -> bool:
        """Use one carrier to its end; True when the link was up."""
        self.link.attach(binary=carrier.binary, now=anyio.current_time())
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._write, carrier, tasks.cancel_scope)
                tasks.start_soon(self._tick, tasks.cancel_scope)
                await self._read(carrier)
                tasks.cancel_scope.cancel()
            return self.link.flowing
        finally:
            self.link.detach()
            with anyio.move_on_after(_CLOSING, shield=True):
                await carrier.aclose()

    async def _read(self, carrier: Carrier) -> None:
        while True:
            try:
                data = await carrier.receive()
                if not data:
                    return
                self.link.receive(data, anyio.current_time())
            except _CARRIER_ERRORS as exc:
                _log.debug("sandbox %s: the carrier ended: %r", self.name, exc)
                self._breaches = 0
                return
            except ProtocolError as exc:
                self._breach(exc)
                return
            self._look()
            if self.failure.error is not None:
                return

    def _breach(self, error: ProtocolError) -> None:
        """End this carrier, on which the guest broke the wire's rules; the link, where that goes on."""
        self._warnings.warning("breach", "sandbox %s: the carrier was closed: %s", self.name, error)
        self._look()
        self._breaches += 1
        if self._breaches >= _BREACHES:
            self._fail(
                LinkError(
                    f"the guest of sandbox {self.name} broke the rules of the wire on {_BREACHES} carriers "
                    f"in a row ({shortened(error)}): what runs inside may have taken its place: end it"
                )
            )

    async def _write(self, carrier: Carrier, scope: anyio.CancelScope) -> None:
        while True:
            data = self.link.take(_BUDGET, anyio.current_time())
            if not data:
                self._wake = anyio.Event()
                if not self.link.has_output:
                    await self._wake.wait()
                continue
            try:
                await carrier.send(data)
            except _CARRIER_ERRORS as exc:
                _log.debug("sandbox %s: the carrier takes no more: %r", self.name, exc)
                scope.cancel()
                return

    async def _tick(self, scope: anyio.CancelScope) -> None:
        while True:
            due = self.link.next_tick()
            now = anyio.current_time()
            await anyio.sleep(max(0.01, (due if due is not None else now) - now))
            if not self.link.tick(anyio.current_time()):
                _log.info("sandbox %s: the carrier was silent for too long", self.name)
                scope.cancel()
                return

    def _wake_writer(self) -> None:
        self._wake.set()

    def _fail(self, error: Exception) -> None:
        if self.failure.error is None:
            self.failure.error = error
        self._ready.set()
        for waiter in (*self._waiters.values(), *self._granting.values()):
            waiter.event.set()
        for inflow in self._inflows.values():
            inflow.wake()
        for outflow in self._outflows.values():
            outflow.wake()
        for channel in tuple(self.channels.values()):
            channel.fail(self.failure.error)

    # ---- what happened

    def _look(self) -> None:
        if self._looking:
            return  # what is called for an event: the later ones come in their turn
        self._looking = True
        try:
            queue = self.link.events
            while queue:
                self._happened(queue.popleft())
        finally:
            self._looking = False

    def _happened(self, event: events.Event) -> None:
        match event:
            case events.Received(sid, data):
                if sid in self._inflows:
                    self._inflows[sid].feed(data)
            case events.Ended(sid):
                if sid in self._inflows:
                    self._inflows[sid].end()
            case events.Answered(call, ok, value):
                first = self._lasting.pop(call, (call,))[0]
                waiter = self._waiters.get(first)
                if waiter is not None:
                    waiter.ok, waiter.value = ok, value
                    waiter.event.set()
            case events.Granted(agent, role, epoch, offset):
                waiter = self._granting.pop((agent, role), None)
                if waiter is not None:
                    waiter.ok, waiter.value = True, (epoch, offset)
                    waiter.event.set()
            case events.Ready():
                self.was_up = True
                self.patience.link_is_up()
                self._ready.set()
            case events.Opened(sid, agent, meta):
                if agent in self.channels:
                    self.channels[agent].opened(sid, str(meta["answer"]))
            case events.Shut(sid):
                for channel in self.channels.values():
                    channel.shut(sid)
            case events.Hello(boot_id):
                if self.link.boot_id not in (None, boot_id):
                    self._fail(SandboxGoneError(f"another machine answers for sandbox {self.name}"))
            case events.Unproven():
                self._fail(
                    AccessDeniedError(
                        f"what answers in sandbox {self.name} cannot prove that it is the guest: the sandbox "
                        "was made with another secret, or a program inside has taken the guest's place"
                    )
                )
            case events.WireVersion(version):
                self._fail(
                    WireVersionError(
                        f"the guest of sandbox {self.name} speaks wire {version!r}, this agenthost wire "
                        f"{WIRE_VERSION}: use the version of agenthost that made it, or make a new sandbox"
                    )
                )
            case events.Refused(agent, role, reason):
                self._refused(agent, role, reason)
            case events.Forgotten(calls):
                self._forgotten(calls)
            case events.Missing(sid):
                if sid in self._inflows:
                    inflow = self._inflows[sid]
                    inflow.fail(inflow.missing or GuestLostError(f"the guest has no stream {sid}"))
            case events.Gap(sid, wanted, oldest):
                if sid in self._inflows:
                    is_ahead = wanted > oldest
                    has = "has not come so far" if is_ahead else f"begins at byte {oldest} by now"
                    message = f"stream {sid} {has}, byte {wanted} was asked for"
                    self._inflows[sid].fail(ReplayGapError(message, wanted=wanted, oldest=oldest))
            case events.Stopped() | events.Called() | events.LinkForgotten() | events.DriverChanged():
                pass  # told to a stream's writer by the stream itself, or the guest's own

    def _refused(self, agent: str, role: str, reason: str) -> None:
        error: AgentHostError
        if reason == "superseded":
            error = SupersededError(f"another driver has taken agent {agent}")
        elif reason == "unknown":
            error = GuestLostError(f"sandbox {self.name} has no agent {agent}")
        else:
            error = AccessDeniedError(f"sandbox {self.name} refused the {role} token")
        waiter = self._granting.pop((agent, role), None)
        if waiter is not None:
            waiter.value = error
            waiter.event.set()
        elif reason == "token":
            self._fail(error)
        elif agent in self.channels:
            self.channels[agent].fail(error)

    def _forgotten(self, calls: tuple[int, ...]) -> None:
        for call in calls:
            waiter = self._waiters.get(call)
            if call in self._lasting:
                self._renew(call)
            elif waiter is not None:
                waiter.value = OutcomeUnknownError(
                    f"sandbox {self.name} was away for too long: whether a call was done is not known"
                )
                waiter.event.set()

    # ---- for sandbox and agent

    def unique(self) -> str:
        """Return a name that no other process or stream of this sandbox has."""
        self._names += 1
        return f"{self.link.link_id[:12]}-{self._names}"

    def is_large(self, params: dict[str, Any]) -> bool:
        """Return whether a call with these parameters travels as a stream."""
        return len(json.dumps(params)) > self.link.settings.inline_body

    def post(self, method: str, params: dict[str, Any]) -> None:
        """Have a call done, without waiting for its answer."""
        if self.failure.error is None:
            self.link.call(method, params)

    async def call(self, method: str, params: dict[str, Any]) -> Any:
        """Have a call done, once, and return its answer.

        Raises:
            OSError: The kernel's own error inside.
            OutcomeUnknownError: It was sent; whether it was done is not known. Also where the guest has not
                answered for ``call_timeout`` seconds of a link that is up.
        """
        number = self.begin(method, params)
        try:
            await self.patience.wait(self._waiters[number].event, method)
        except BaseException:
            self.forget(number)
            raise
        return await self.answer(number)

    async def see_to(self, method: str, params: dict[str, Any], *, within: float) -> Any:
        """Have a call done although whoever asks is cancelled; return its answer, None if none came in time.

        It is done also when the link is down now and comes back later. When it does not come back, what was
        to be ended has ended with the sandbox, or the next call tells.

        Raises:
            SupersededError: It is another driver's to ask for.
        """
        if self.failure.error is not None:
            return None
        number = self.begin(method, params)
        with anyio.move_on_after(within, shield=True):
            try:
                return await self.answer(number, keep=True)
            except SupersededError:
                raise
            except AgentHostError as exc:
                _log.info("sandbox %s: %s was not answered: %s", self.name, method, shortened(exc))
        self._waiters.pop(number, None)
        return None

    def begin(self, method: str, params: dict[str, Any], *, lasting: bool = False) -> int:
        """Send a call; ``answer`` waits for it. A ``lasting`` one may take hours, and is harmless twice."""
        self.failure.check()
        flow: Outflow | None = None
        text = json.dumps(params)
        if len(text) > self.link.settings.inline_body:
            flow = self.outflow(f"c/{self.unique()}")
            params = {"$body": flow.sid}
        number = self.link.call(method, params)
        self._waiters[number] = Waiter(number, flow)
        if flow is not None:
            flow.write_now(text.encode())
            flow.end()
        if lasting:
            self._lasting[number] = (number, method, params)
        oldest = next(iter(self._lasting), number)
        if number - oldest >= _RENEW_AFTER:
            self._renew(oldest)
        return number

    def _renew(self, call: int) -> None:
        first, method, params = self._lasting.pop(call)
        self.link.abandon(call)
        number = self._waiters[first].call = self.link.call(method, params)
        self._lasting[number] = (first, method, params)

    async def answer(self, number: int, *, keep: bool = False) -> Any:
        """Wait for an answer. Cancelled, it is not waited for any more; the call may still be done.

        With ``keep`` it may be waited for again after a cancellation.
        """
        waiter = self._waiters.get(number)
        if waiter is None:
            self.failure.check()
            raise anyio.ClosedResourceError
        try:
            await waiter.event.wait()
        finally:
            if waiter.event.is_set() or not keep:
                self.forget(number)
        if waiter.ok:
            return waiter.value
        if isinstance(waiter.value, Exception):
            raise waiter.value
        self.failure.check()
        raise call_error(waiter.value)

    def forget(self, number: int) -> None:
        """Care no more for a call's answer. One that the guest does not have whole will never be done."""
        waiter = self._waiters.pop(number, None)
        if waiter is None:
            return
        self._lasting.pop(waiter.call, None)
        self.link.abandon(waiter.call)
        if waiter.body is not None:
            self.close_outflow(waiter.body)
            if not waiter.ok:
                self.post("close", {"stream": waiter.body.sid})
        if not waiter.event.is_set():
            waiter.value = anyio.ClosedResourceError()
            waiter.event.set()

    async def grant(self, agent: str, role: str, token: str) -> tuple[int, int]:
        """Take a role; returns the epoch and how much of the agent's input has arrived."""
        self.failure.check()
        if (agent, role) in self._granting:
            raise ConfigError(f"this process asks for the {role}'s role of agent {agent} already")
        waiter = self._granting[agent, role] = Waiter()
        self.link.grant(agent, role, token)
        try:
            await self.patience.wait(waiter.event, f"grant {role}")
        finally:
            self._granting.pop((agent, role), None)
            if not waiter.ok:
                self.link.drop(agent, role)
        if waiter.ok:
            epoch, offset = waiter.value
            return epoch, offset
        if isinstance(waiter.value, Exception):
            raise waiter.value
        self.failure.check()
        raise LinkError(f"the link to sandbox {self.name} ended before a role was given")

    def inflow(self, sid: str, *, offset: int | None = 0, auto_ack: bool = True) -> Inflow:
        """Subscribe to a stream. Close it with ``close_inflow``. ConfigError: it is read already."""
        if sid in self._inflows:
            raise ConfigError(f"stream {sid} is read already; a second reader needs its own provider object")
        flow = self._inflows[sid] = Inflow(self.link, sid, self.failure, offset=offset, auto_ack=auto_ack)
        self._look()  # some of it may be there already
        return flow

    def outflow(self, sid: str, *, base: int = 0) -> Outflow:
        """Begin a stream to the guest. Close it with ``close_outflow``."""
        flow = self._outflows[sid] = Outflow(self.link, sid, self.failure, base=base)
        return flow

    def close_inflow(self, flow: Inflow) -> None:
        """Want no more of a stream."""
        if self._inflows.get(flow.sid) is flow:
            del self._inflows[flow.sid]
            flow.close()

    def close_outflow(self, flow: Outflow) -> None:
        """Send no more on a stream."""
        if self._outflows.get(flow.sid) is flow:
            del self._outflows[flow.sid]
            flow.close()
