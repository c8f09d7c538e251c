"""An agent that starts with the guest, before anybody asks for it: the host will."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from typing import Any

from agenthost.guest.config import BootConfig
from agenthost.guest.launcher import Launcher
from agenthost.guest.spawning import Spawned, model_env


@dataclass(frozen=True)
class FirstAgent:
    """A running agent, and the model port that it was told of: bound, but nobody listens yet."""

    params: dict[str, Any]
    spawned: Spawned
    model_socket: socket.socket


def start_first_agent(config: BootConfig, launcher: Launcher) -> FirstAgent | None:
    """Start the agent of the configuration, if it names one."""
    params = config.agent
    if params is None:
        return None
    model_socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    model_socket.bind(("127.0.0.1", 0))
    env = {**os.environ, **config.env}
    if params["agent"].get("model_key"):
        env.update(model_env(model_socket.getsockname()[1], params["agent"]["model_key"]))
    env.update(params.get("env") or {})
    spawned = Spawned(params["argv"], cwd=config.workdir, env=env, user=None, launcher=launcher)
    return FirstAgent(params, spawned, model_socket)
