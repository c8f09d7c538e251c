"""The row of the docker provider, whose engine is a real one behind a proxy that loses answers."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, cast
from urllib.parse import quote

import anyio
import pytest
from docker.docker_engine import DockerEngine, ask
from docker.engine_proxy import Fault, engine_proxy
from providers.row import Gate, Row

from agenthost.adapter.provider import GuestProvider
from agenthost.providers.docker.provider import DockerProvider
from agenthost.threads import in_thread

CREATE = "POST /containers/create"
_OURS = quote(json.dumps({"label": ["agenthost.kind=sandbox"]}))


class DockerWorld:
    """An engine."""

    unknown: Sequence[str] = ()  # it is a real one, which knows every call

    def __init__(self, address: str, host: str, plan: list[Fault], calls: list[str]) -> None:
        self.options = {"host": address}
        self.calls: Sequence[str] = calls
        self._host = host
        self._plan = plan
        self._gates: list[anyio.Event] = []

    async def running(self) -> list[str]:
        """See World."""
        path = f"/containers/json?all=1&filters={_OURS}"
        found: list[dict[str, str]] = json.loads((await in_thread(partial(ask, self._host, "GET", path)))[1])
        return [one["Id"] for one in found]

    def lose_answer(self) -> None:
        """See World."""
        self._plan.append(Fault(CREATE, "lose"))

    def drop(self, times: float) -> None:
        """See World. One create is one call here: the client does not try again."""
        del times
        self._plan.append(Fault(CREATE, "drop"))

    def hold(self, *, then_drop: bool = False) -> Gate:
        """See World."""
        fault = Fault(CREATE, "drop-later" if then_drop else "hold")
        self._plan.append(fault)
        self._gates.append(fault.release)
        return _Held(fault)

    def clear(self) -> None:
        """See World."""
        self._plan.clear()
        for gate in self._gates:
            gate.set()


class _Held:
    def __init__(self, fault: Fault) -> None:
        self.struck = fault.struck
        self._fault = fault

    def release(self) -> None:
        self._fault.release.set()


@asynccontextmanager
async def serve(needed: Mapping[str, Any]) -> AsyncGenerator[DockerWorld]:
    """Run the proxy."""
    engine = cast("DockerEngine", needed["docker_engine"])
    plan: list[Fault] = []
    calls: list[str] = []
    async with engine_proxy(engine.host, plan=plan, calls=calls) as address:
        yield DockerWorld(address, engine.host, plan, calls)


def hurry(provider: GuestProvider, patch: pytest.MonkeyPatch) -> None:
    """Look twice for a container whose making was not answered."""
    del provider
    patch.setattr("agenthost.providers.docker.making._LOOKS", (0.0, 0.05))


DOCKER = Row(
    name="docker",
    make=DockerProvider,
    serve=serve,
    needs=("docker_engine", "baked"),
    marks=(pytest.mark.full,),  # the normal run has no engine
    create=CREATE,
    hurry=hurry,
)
