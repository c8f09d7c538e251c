"""Requests to the model that the environment names, as often as the CLI makes them."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import urllib.parse
from collections.abc import Iterable
from typing import Any

from agenthost.testing.fake_program.session import Session

_RETRIED = (401, 408, 409, 429)  # and all from 500
_RETRY_SECONDS = 0.02  # the CLI waits half a second and more
_TRIES = 10
_FAILED = "Connection error."


class ModelFailedError(Exception):
    """The model gave no answer, however often it was asked."""

    def __init__(self, status: int | None, text: str) -> None:
        super().__init__(text)
        self.status = status


def ask_model(session: Session, messages: list[Any]) -> list[Any]:
    """Return the blocks of the model's answer. What comes of it is passed on as it comes.

    Raises:
        ModelFailedError: It could not be had.
    """
    most = int(os.environ.get("CLAUDE_CODE_MAX_RETRIES") or _TRIES)
    attempt = 0
    while True:
        attempt += 1
        status: int | None = None
        told, blocks, final = _FAILED, None, False
        with contextlib.suppress(OSError, http.client.HTTPException):  # it was cut: asked again below
            status, told, blocks, final = _exchange(session, messages)
        session.check()
        if blocks is not None:
            for block in blocks:
                session.assistant(block)
            return blocks
        final = final or (status is not None and status not in _RETRIED and status < 500)
        if final or attempt > most:
            raise ModelFailedError(status, f"{status} {told}" if status else told)
        retry = {"attempt": attempt, "max_retries": most, "retry_delay_ms": _RETRY_SECONDS * 1000}
        session.emit("system", subtype="api_retry", **retry, error_status=status, error="unknown")
        session.interrupted.wait(_RETRY_SECONDS)
        session.check()


def _exchange(session: Session, messages: list[Any]) -> tuple[int | None, str, list[Any] | None, bool]:
    """Return an error's status and text, the blocks of a whole answer, and whether to ask no more."""
    base = urllib.parse.urlsplit(os.environ["ANTHROPIC_BASE_URL"])
    kind = http.client.HTTPSConnection if base.scheme == "https" else http.client.HTTPConnection
    connection = kind(base.netloc, timeout=float(os.environ.get("API_TIMEOUT_MS") or 600_000) / 1000)
    body = {"model": session.model, "max_tokens": 1000, "stream": True, "messages": messages}
    headers = {
        "x-api-key": os.environ.get("ANTHROPIC_API_KEY", ""),
        "anthropic-version": "2023-06-01",
        "content-type": "application/json",
        "user-agent": "claude-cli/2.1.330 (fake)",
    }
    try:
        connection.connect()
        opened = connection.sock
        session.hang_up = lambda: _shut(opened)
        session.check()  # an interrupt before there was anything to hang up
        path = base.path.rstrip("/") + "/v1/messages?beta=true"
        connection.request("POST", path, json.dumps(body), headers)
        answer = connection.getresponse()
        if answer.status != 200:
            final = answer.getheader("x-should-retry") == "false"
            return answer.status, answer.read().decode("utf-8", "replace"), None, final
        return None, _FAILED, _whole(session, answer), False
    finally:
        session.hang_up = None
        connection.close()


def _shut(opened: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it has ended by itself
        opened.shutdown(socket.SHUT_RDWR)


def _whole(session: Session, lines: Iterable[bytes]) -> list[Any] | None:
    """Pass the events of an answer on; return its blocks, None where it was cut."""
    blocks: list[Any] = []
    given = ""
    for line in lines:
        if not line.startswith(b"data:") or not line.endswith(b"\n"):
            continue  # an event's name, or half of one before the end
        event = json.loads(line[5:])
        if event["type"] == "error":
            return None
        session.stream(event)
        if event["type"] == "content_block_start":
            blocks.append(event["content_block"])
            given = ""
        elif event["type"] == "content_block_delta":
            for key, piece in event["delta"].items():
                if key == "partial_json":
                    given += piece
                elif key != "type":
                    blocks[-1][key] = blocks[-1].get(key, "") + piece
        elif event["type"] == "content_block_stop" and blocks[-1]["type"] == "tool_use":
            blocks[-1]["input"] = json.loads(given or "{}")
        elif event["type"] == "message_stop":
            return blocks
    return None
