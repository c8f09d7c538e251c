"""What another process needs to find an agent again: where it is, and how far it was read. No secrets."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any, Self, cast

from agenthost.errors import ConfigError

_VERSION = 1


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in an agent's journal, behind an event.

    Attributes:
        seq: The event's number; the first is 1. As an ``id:`` of server-sent events it is enough to resume.
        offset: How many bytes of the journal lie before. A journal is entered here at no cost, at a bare
            ``seq`` only by reading it from its beginning.
    """

    seq: int = 0
    offset: int = 0

    def __str__(self) -> str:
        return f"{self.seq}:{self.offset}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return what ``str`` made. ConfigError for anything else."""
        seq, colon, offset = text.partition(":")
        if not (colon and seq.isascii() and seq.isdigit() and offset.isascii() and offset.isdigit()):
            raise ConfigError(f"{text[:80]!r} is no cursor; str(agent.cursor) makes one, like '12:3456'")
        return cls(int(seq), int(offset))


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentRef:
    """An agent that another process can attach to. Whoever has it and the deployment's secret can drive it.

    Attributes:
        provider: The provider's name.
        sandbox: The sandbox's id.
        sandbox_name: Its name.
        agent: The agent's name in it.
        owned: Whether the sandbox ends with the agent: ownership travels with the ref.
        credentials: How the agent reaches the model.
        session_id: The session's id, once it is known.
        cursor: What had been read when the ref was made.
        model: What the agent may ask of the model and has used of it, as JSON. None: it is not known.
    """

    provider: str
    sandbox: str
    sandbox_name: str
    agent: str
    owned: bool = True
    credentials: str = "host"
    session_id: str | None = None
    cursor: Cursor = Cursor()
    model: str | None = field(default=None, repr=False)

    def to_json(self) -> str:
        """Return one line of JSON."""
        fields: dict[str, Any] = {"version": _VERSION, **dataclasses.asdict(self), "cursor": str(self.cursor)}
        return json.dumps(fields)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Return what ``to_json`` made.

        Raises:
            ConfigError: It is something else, or from a version that is not known here.
        """
        try:
            fields: Any = json.loads(text)
        except ValueError:
            fields = None
        if not isinstance(fields, dict):
            raise ConfigError(
                "this is not the JSON of a ref: `agenthost run --detach` and agent.ref.to_json() make one"
            )
        given = cast("dict[str, Any]", fields)
        version = given.pop("version", None)
        if version != _VERSION:
            raise ConfigError(
                f"a ref of version {version!r}; this agenthost knows version {_VERSION}: use the agenthost "
                "that made it"
            )
        known = {one.name: one for one in dataclasses.fields(cls)}
        required = {name for name, one in known.items() if one.default is dataclasses.MISSING}
        if not required <= given.keys() <= known.keys():
            raise ConfigError(f"a ref holds {', '.join(sorted(required))} and no unknown fields")
        for name, value in given.items():
            kind = bool if name == "owned" else str
            if not (isinstance(value, kind) or (name in ("session_id", "model") and value is None)):
                raise ConfigError(f"a ref's {name} is a {type(value).__name__}; it must be a {kind.__name__}")
        cursor = Cursor.parse(str(given.pop("cursor", Cursor())))
        return cls(**given, cursor=cursor)
