"""What a CLI started by this process would inherit and a hosted one needs, too: no secrets, no addresses."""

from __future__ import annotations

import importlib
import logging
import os
import re
import sys
from typing import Any

_log = logging.getLogger("agenthost.agent")

# What is asked of the model. An endpoint of one's own, at ANTHROPIC_BASE_URL, may know other models only,
# refuse beta features or allow fewer tokens.
_OF_THE_MODEL = re.compile(
    r"ANTHROPIC_(?:SMALL_FAST_|DEFAULT_|DEFAULT_[A-Z0-9]+_)?MODEL(?:_SUPPORTED_CAPABILITIES)?"
    r"|ANTHROPIC_BETAS"
    r"|CLAUDE_CODE_(?:SUBAGENT_MODEL|MAX_OUTPUT_TOKENS|DISABLE_EXPERIMENTAL_BETAS)"
)
_TRACE = ("TRACEPARENT", "TRACESTATE")


def inherit(env: dict[str, str]) -> None:
    """Complete the agent's environment from this process: what is asked of the model, and the current trace.

    What ``env`` has already stays as it is.
    """
    for name, value in os.environ.items():
        if value and _OF_THE_MODEL.fullmatch(name):
            env.setdefault(name, value)
    if not any(name in env for name in _TRACE):
        env.update(_current_trace())


def _current_trace() -> dict[str, str]:
    """Return OpenTelemetry's current span as W3C trace context; without one, what the environment holds."""
    carrier: dict[str, str] = {}
    if "opentelemetry.trace" in sys.modules:  # else there is no span
        try:
            propagate: Any = importlib.import_module("opentelemetry.propagate")
            propagate.inject(carrier)
        except Exception:  # noqa: BLE001 - propagators are anyone's code; as in the SDK, tracing ends no start
            _log.debug("the current trace cannot be handed on", exc_info=True)
    found = {key.upper(): value for key, value in carrier.items()}
    source = found if "TRACEPARENT" in found else os.environ
    return {name: source[name] for name in _TRACE if source.get(name)}
