"""The calls that start, signal, await and give up processes, and the children that have ended."""

from __future__ import annotations

import contextlib
import os
import signal
from base64 import b64decode
from collections.abc import Callable
from typing import Any

from agenthost.guest.agent_user import as_agent, is_separate
from agenthost.guest.calls import CallError, Calls, Reply, Sinks
from agenthost.guest.first_agent import FirstAgent
from agenthost.guest.launcher import Launcher, LauncherEndedError
from agenthost.guest.model import ModelEndpoint
from agenthost.guest.news import News
from agenthost.guest.processes import GuestProcess
from agenthost.guest.spawning import Spawned, model_env
from agenthost.guest.spool import DiskSpool
from agenthost.wire.guest import GuestHub, GuestLink
from agenthost.wire.streams import RecvStream, SendStream


class ProcessCalls:
    """Every process of this guest, by the name that the host gave it."""

    def __init__(
        self,
        hub: GuestHub,
        sinks: Sinks,
        model: ModelEndpoint,
        launcher: Launcher,
        *,
        env: dict[str, str],
        workdir: str,
        spool_dir: str,
    ) -> None:
        self._hub = hub
        self._sinks = sinks
        self._model = model
        self._launcher = launcher
        self._env = env
        self._workdir = workdir
        self._spool_dir = spool_dir
        self._news = News(hub, model)
        self._named: dict[str, GuestProcess] = {}
        self._living: dict[int, GuestProcess] = {}

    def register(self, calls: Calls) -> None:
        """Add the methods."""
        calls.add("start", self._start)
        calls.add("signal", self._signal)
        calls.add("wait", self._wait)
        calls.add("release", self._release)
        calls.add("dismiss", self._dismiss)
        calls.add("agents", self._agents)

    def reap(self) -> None:
        """Collect every child that has ended, adopted orphans too, and end those that wait to be traced.

        A child that asks for it (PTRACE_TRACEME) is traced by this process, unasked. When it then stops,
        waitpid reports that like an end, and the child would wait for its tracer for ever.
        """
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if os.WIFSTOPPED(status):
                with as_agent(), contextlib.suppress(PermissionError):  # it has changed its user
                    os.kill(pid, signal.SIGKILL)
                continue
            process = self._living.pop(pid, None)
            if process is not None:
                process.exited(status)

    def link_forgotten(self, link_id: str) -> None:
        """Kill what a host that never came back had started; agents stay."""
        for name, process in list(self._named.items()):
            if process.link == link_id:
                process.kill()
                self._forget(name, process)

    def driver_changed(self, agent: str) -> None:
        """Tell the agent of its new driver, or the driver at once that the agent has ended."""
        self._news.driver_changed(agent)
        process = self._named.get(agent)
        if process is not None and process.exit_code is not None:
            for link in self._hub.links.values():
                link.refuse(f"a/{agent}/in")

    def tick(self) -> None:
        """Tell the agents whose driver went away or came back."""
        self._news.tick()

    @property
    def is_driven(self) -> bool:
        """Whether any agent has a driver whose link is up."""
        return any(self._news.is_driven(name) for name in self._named)

    def kill_all(self) -> None:
        """Kill every process."""
        for process in self._living.values():
            process.kill()

    def adopt(self, first: FirstAgent) -> None:
        """Take over the agent that was started before the host asked for any."""
        self._keep(first.params, None, lambda _env: first.spawned)

    def _start(self, reply: Reply, params: dict[str, Any]) -> None:
        name = str(params["id"])
        if name in self._named:
            raise CallError("Taken", f"there is an agent {name!r} already")
        if params.get("user") and (os.getuid() != 0 or is_separate()):
            raise CallError("Unsupported", "a program can run as another user only where the guest is root")

        def spawn(env: dict[str, str]) -> Spawned:
            cwd = os.path.join(self._workdir, params.get("cwd") or "")
            launcher = self._launcher if params.get("agent") else None
            return Spawned(list(params["argv"]), cwd=cwd, env=env, user=params.get("user"), launcher=launcher)

        try:
            process = self._keep(params, reply.link, spawn)
        except LauncherEndedError as error:
            raise CallError("Bootstrap", str(error)) from None
        reply.ok({"pid": process.pid})

    def _keep(
        self, params: dict[str, Any], link: GuestLink | None, spawn: Callable[[dict[str, str]], Spawned]
    ) -> GuestProcess:
        """Start a process with its streams. An agent belongs to whoever drives it, others to their link."""
        name, agent = str(params["id"]), params.get("agent")
        settings = self._hub.settings
        prefix = f"a/{name}" if agent else f"p/{name}"
        out_bound = settings.journal_bound if agent else settings.output_bound
        # Only an agent's streams have readers that may ask for acknowledged bytes again; the output of
        # another process belongs to one link, and what that has taken need not go through the disk.
        keep = None if agent else 0
        out, err = (
            SendStream(f"{prefix}/{suffix}", bound=bound, keep=keep, spool=DiskSpool(self._spool_dir))
            for suffix, bound in (("out", out_bound), ("err", settings.output_bound))
        )
        env = dict(self._env)
        if agent:
            source: RecvStream = self._hub.add_agent(name, dict(agent["verifiers"])).input
            if agent.get("model_key"):
                self._model.add_agent(name, str(agent["model_key"]))
                env.update(model_env(self._model.port, str(agent["model_key"])))
        else:
            source = RecvStream(f"{prefix}/in", offset=0, window=settings.window)
        env.update(params.get("env") or {})
        try:
            process = GuestProcess(
                spawn(env),
                out=out,
                err=err,
                on_written=lambda count: self._hub.consumed(source, count),
                on_broken=lambda: self._sinks.remove(source.sid),
            )
        except BaseException:
            self._model.remove_agent(name)
            self._hub.remove_agent(name)
            raise
        self._named[name] = self._living[process.pid] = process
        self._sinks.add(source.sid, process.stdin.write, process.stdin.end)
        process.is_agent = bool(agent)
        if agent and agent.get("news"):
            self._news.add(name, process.stdin.insert, out)
        if link is not None and not agent:
            process.link = link.link_id
            link.expect(source)
        if "input" in params:  # all of stdin is here already
            process.stdin.write(b64decode(params["input"]))
            process.stdin.end()
        for stream in (out, err):
            self._hub.add_stream(stream, agent=name if agent else None, link=process.link)
        return process

    def _signal(self, reply: Reply, params: dict[str, Any]) -> None:
        process = self._named.get(_name(params))
        if process is not None:
            process.signal(int(params["signum"]))
        reply.ok()

    def _wait(self, reply: Reply, params: dict[str, Any]) -> None:
        process = self._named.get(_name(params))
        if process is None:
            raise CallError("NoProcess", f"there is no process {_name(params)!r}")
        process.when_done(reply.ok)

    def _release(self, reply: Reply, params: dict[str, Any]) -> None:
        """Kill what is left of a process, and forget it unless told to ``keep``. Answered at its end."""
        name = _name(params)
        process = self._named.get(name)
        if process is None:
            reply.ok(0)  # it never started
            return
        epoch = params.get("epoch")
        if epoch is not None and self._hub.doors[name].epoch != epoch:
            raise CallError("Superseded", f"another driver has taken agent {name}")
        process.when_done(reply.ok)
        process.kill()
        if not params.get("keep"):
            self._forget(name, process)

    def _dismiss(self, reply: Reply, params: dict[str, Any]) -> None:
        """Forget a process that has ended. What it left in the background runs on."""
        name = _name(params)
        process = self._named.get(name)
        if process is not None:
            self._forget(name, process)
        reply.ok()

    def _agents(self, reply: Reply, _params: dict[str, Any]) -> None:
        """Tell of every agent: its process, its journal, and whether a driver is there."""
        reply.ok(
            [
                {
                    "agent": name,
                    "pid": process.pid,
                    "exit_code": process.exit_code,
                    "driven": self._news.is_driven(name),
                    "model": self._model.serves(name),
                    "journal": process.kept_output,
                }
                for name, process in self._named.items()
                if process.is_agent
            ]
        )

    def _forget(self, name: str, process: GuestProcess) -> None:
        del self._named[name]
        process.drop()
        prefix = f"a/{name}" if process.is_agent else f"p/{name}"
        self._sinks.remove(f"{prefix}/in")
        if process.is_agent:
            self._news.remove(name)
            self._model.remove_agent(name)
            self._hub.remove_agent(name)
        for suffix in ("out", "err"):
            self._hub.remove_stream(f"{prefix}/{suffix}")


def _name(params: dict[str, Any]) -> str:
    return str(params.get("agent") or params["id"])
