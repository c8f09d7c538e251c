"""What the commands that speak with an agent share: where its messages and its files go."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from agenthost.agent import HostedAgent, message_to_json
from agenthost.cli.transcript import Transcript
from agenthost.errors import AgentError

if TYPE_CHECKING:
    from claude_agent_sdk import Message


def message_printer(transcript: Transcript, *, as_json: bool) -> Callable[[Message], None]:
    """Return what prints a message: for a person, or as one line of JSON on stdout."""
    if not as_json:
        return transcript.show
    import claude_agent_sdk

    def write(message: Message) -> None:
        print(message_to_json(message), flush=True)
        if isinstance(message, claude_agent_sdk.ResultMessage):
            transcript.result = message

    return write


async def download(agent: HostedAgent, target: Path, otherwise: str) -> None:
    """Bring the working directory here.

    Raises:
        AgentError: It cannot be read or written; the message ends with ``otherwise``.
    """
    try:
        await agent.download(target)
    except OSError as error:
        raise AgentError(
            f"what the agent made cannot be brought to {str(target)!r}: {error}. {otherwise}"
        ) from error


class _Notes(logging.Handler):
    def __init__(self, transcript: Transcript) -> None:
        super().__init__(logging.WARNING)
        self._transcript = transcript

    def emit(self, record: logging.LogRecord) -> None:
        """Print what the library warns of."""
        self._transcript.note("", record.getMessage())


@contextmanager
def warnings_to(transcript: Transcript) -> Generator[None, None, None]:
    """Have warnings of the library stand among the messages, while the block is open."""
    logger, handler = logging.getLogger("agenthost"), _Notes(transcript)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
