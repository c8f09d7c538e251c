"""What a request to the model may be. Pure: a request goes in, what is sent of it or a refusal comes out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from agenthost.agent.model_json import BodyError, parse_body
from agenthost.agent.model_names import ModelNames

Headers = Sequence[tuple[str, str]]
RefusalKind = Literal["path", "body", "field", "model", "egress", "requests", "tokens", "dollars"]

MESSAGES = "/v1/messages"
# What the CLI asks for. The rest of the API (files, batches, keys, billing) is out of an agent's reach.
_PATHS = {("POST", MESSAGES), ("POST", f"{MESSAGES}/count_tokens"), ("HEAD", "/api/hello")}
_QUERIES = ("", "beta=true")

# The headers of the CLI (2.1.332: recorded, or read in it), and those of a trace. Any other is dropped: a
# proxy on the way may obey ``x-original-url`` or ``x-http-method-override``, and ``x_api_key`` is
# ``x-api-key`` to a server that turns names into variables.
_HEADERS = frozenset(
    {
        "accept",
        "anthropic-beta",
        "anthropic-dangerous-direct-browser-access",
        "anthropic-version",
        "traceparent",
        "tracestate",
        "user-agent",
        "x-anthropic-additional-protection",
        "x-app",
        "x-claude-1p-request-class",
        "x-claude-code-agent-id",
        "x-claude-code-agent-type",
        "x-claude-code-auxiliary-type",
        "x-claude-code-compaction",
        "x-claude-code-context-compacted",
        "x-claude-code-parent-agent-id",
        "x-claude-code-prev-tool-durations",
        "x-claude-code-prompt-id",
        "x-claude-code-request-class",
        "x-claude-code-session-id",
        "x-claude-remote-container-id",
        "x-claude-remote-session-id",
        "x-client-app",
        "x-client-request-id",
    }
)
_HEADER_FAMILY = "x-stainless-"
_LONGEST_HEADER = 8192

# Fields of a request, from the reference of the Messages API and from the CLI, which has more. A new one may
# reach further than those that are known, or name a model in a new place: it waits until it was looked at.
_FIELDS = frozenset(
    {
        "cache_control",
        "compaction",
        "betas",
        "context_management",
        "data_flow",
        "diagnostics",
        "fallback_credit_token",
        "fallbacks",
        "inference_geo",
        "max_tokens",
        "messages",
        "metadata",
        "model",
        "output_config",
        "output_format",
        "program_use_case_id",
        "safeguards",
        "service_tier",
        "speed",
        "stop_sequences",
        "stream",
        "system",
        "tags",
        "temperature",
        "thinking",
        "thread",
        "tool_choice",
        "tools",
        "top_k",
        "top_p",
    }
)
# What reaches out of the API: containers with files and skills, and servers that the API connects to.
_REACHING_FIELDS = frozenset({"container", "mcp_servers"})

# Values that are data and not part of a request's grammar, by the name that leads to them. What stands in
# them is never followed by the API: inputs and schemas of tools, the user's id, what a safeguard judges by.
_DATA = frozenset({"classifier_context", "input", "input_schema", "input_examples", "metadata", "schema"})

# Kinds of objects (their ``type``) that reach nothing. Where the network is closed any other is refused:
# sources ``url`` and ``file``, ``container_upload``, server tools (web_search_20250305, web_fetch...,
# code_execution...), tools of MCP servers, and what the API will learn next.
_KINDS = re.compile(
    r"""
    text | image | document | base64 | content | search_result | tool_reference
    | thinking | redacted_thinking | enabled | disabled | adaptive | between_tools
    | custom | tool_use | tool_result | direct | auto | any | tool | none
    | server_tool_use | advisor_(?:tool_)?(?:redacted_)?result | advisor_tool_result_error
    | tool_search_tool_(?:result|result_error|search_result)
    | (?:web_search|web_fetch)_tool_result | web_search_result | web_fetch_result
    | (?:web_search|web_fetch)_tool_result_error
    | (?:char|page|content_block|search_result|web_search_result)_location
    | ephemeral | json_schema | tokens | input_tokens | tool_uses | all | thinking_turns
    | clear_tool_uses_[0-9]+ | clear_thinking_[0-9]+ | compact(?:_[0-9]+)? | compaction
    | tool_addition | tool_removal | tool_definition | mid_conv_system | connector_text | fallback
    | create | continue | dangerous_tool_use
    | (?:bash|text_editor|memory|computer|advisor)_[0-9]+ | tool_search_tool_(?:bm25|regex)(?:_[0-9]+)?
    """,
    re.VERBOSE,
)
# Names by which an object points at what a service would fetch, whatever its kind. ``url`` may only quote.
_POINTER = re.compile(r"(?:\w+_)?(?:file_ids?|skill_ids?|urls|uris?)|\w+_url")
# Kinds that state where a page was found. Any other object with a ``url`` is something to fetch.
_QUOTING = frozenset({"web_search_result", "web_search_result_location", "web_fetch_result"})
# A proxy that reads names without regard to case reads these otherwise than the host.
_TELLING = _REACHING_FIELDS | {"model", "source", "type", "url", "file_id", "server_url"}
# Tokens of the longest answer that the API has given; more than that it refuses.
_LONGEST_ANSWER = 300_000
_SHOWN = 80  # characters of what an agent asked for, in messages and logs


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRequest:
    """A request as it is sent.

    Attributes:
        headers: Without the credential.
        models: Each model that the request names; the first is the one that answers. Empty where a
            request asks no model.
        spends: Whether the answer costs anything.
        streams: Whether the answer comes in events.
        max_tokens: Most tokens of the answer.
        fast: Whether it asks for the dearer, faster way (``speed``).
        geo: Where it asks the model to run (``inference_geo``).
        images: How many images it holds: what one costs does not rest on its bytes.
        documents: How many documents it holds that are no text. The same goes for their pages.
    """

    method: str
    target: str
    headers: Headers
    body: bytes = field(repr=False)
    models: tuple[str, ...] = ()
    spends: bool = False
    streams: bool = False
    max_tokens: int = 0
    fast: bool = False
    geo: str = ""
    images: int = 0
    documents: int = 0


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is not sent.

    Attributes:
        kind: What it runs against.
        message: For the agent, whose CLI shows it. It names the setting that allows the request.
        status: The HTTP status of the answer. 451 is one that the CLI (2.1.332, tried) shows with its message
            and does not repeat. It repeats 400 and 422 five times, and takes 403 for a failed login.
        error: The ``type`` of the API's error.
    """

    kind: RefusalKind
    message: str
    status: int = 451
    error: str = "permission_error"


class _RefusedError(Exception):
    def __init__(self, kind: RefusalKind, message: str) -> None:
        super().__init__(message)
        self.refusal = Refusal(kind, message)


@dataclass(slots=True)
class ModelPolicy:
    """What one agent may ask.

    Attributes:
        names: The models that it may ask.
        is_closed: Whether requests may reach nothing but the model: no addresses, no files, no server
            tools, no MCP servers.
        fields: Names of further fields: those of the CLI's variable CLAUDE_CODE_EXTRA_BODY, and
            ``SafeDefaults.other_fields``. None: any.
    """

    names: ModelNames = field(default_factory=ModelNames)
    is_closed: bool = True
    fields: frozenset[str] | None = frozenset()

    def judge_head(self, method: str, target: str) -> Refusal | None:
        """Return why nothing with this method and target (path and query) is sent, before a body is read."""
        path, _, query = target.partition("?")
        if (method, path) in _PATHS and query in _QUERIES:
            return None
        return Refusal("path", f"{shorten(method)} {shorten(target)} is not open to an agent", 403)

    def judge(self, method: str, target: str, headers: Headers, body: bytes) -> ModelRequest | Refusal:
        """Return what is sent of a request, or why nothing is."""
        refusal = self.judge_head(method, target)
        if refusal is not None:
            return refusal
        sent = _open_headers(headers)
        if method == "HEAD":
            return ModelRequest(method=method, target=target, headers=sent, body=b"")
        try:
            asked = parse_body(body)
            models = self._judge_body(asked)
        except BodyError as error:
            return Refusal("body", str(error))
        except _RefusedError as error:
            return error.refusal
        images, documents = _count_media(asked)
        return ModelRequest(
            method=method,
            target=target,
            # The body was checked as JSON: it must not be read as anything else.
            headers=[*sent, ("content-type", "application/json")],
            body=body,
            models=models,
            spends=target.partition("?")[0] == MESSAGES,
            streams=asked.get("stream") is True,
            max_tokens=_most_tokens(asked.get("max_tokens")),
            fast=asked.get("speed") not in (None, "standard"),
            geo=str(asked.get("inference_geo") or ""),
            images=images,
            documents=documents,
        )

    def _judge_body(self, asked: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the models that the body names, the first one first. Raises _RefusedError."""
        for name in asked:
            if name in _REACHING_FIELDS:
                if self.is_closed:
                    raise _egress(f"the field {name!r}")
            elif self.is_closed and not self._knows(name):
                raise _RefusedError(
                    "field",
                    f"the field {shorten(name)!r} of a request is not known to this version of agenthost, "
                    "and not sent where the network is closed. If a newer CLI sends it, update agenthost, or "
                    f"allow the field with defaults=SafeDefaults(other_fields=({shorten(name)!r},))",
                )
        fallbacks: object = asked.get("fallbacks")
        # "default" are the models that the service recommends in the place of one that declines.
        if fallbacks not in (None, "default") and not isinstance(fallbacks, list):
            raise _RefusedError("model", "'fallbacks' is not a list of models")
        models: list[str] = [self._named(asked.get("model"))]
        if isinstance(fallbacks, list):
            named = (one for one in cast("list[object]", fallbacks) if not isinstance(one, dict))
            models += map(self._named, named)  # the objects are looked at below
        for one in _grammar(asked):
            self._judge_object(one, is_body=one is asked)
            if "model" in one and one is not asked:
                models.append(self._named(one["model"]))
        return tuple(models)

    def _knows(self, name: str) -> bool:
        return name in _FIELDS or self.fields is None or name in self.fields

    def _judge_object(self, one: Mapping[str, Any], *, is_body: bool) -> None:
        for name in one:
            lower = name.lower()
            if lower != name and lower in _TELLING:
                raise _RefusedError("body", f"the name {shorten(name)!r} is not written as the API writes it")
            if self.is_closed and (_POINTER.fullmatch(name) or (not is_body and name in _REACHING_FIELDS)):
                raise _egress(f"the field {name!r}")
        kind = one.get("type")
        if self.is_closed and kind is not None and not _is_harmless(kind):
            raise _egress(f"{shorten(kind)!r}")
        if self.is_closed and "url" in one and kind not in _QUOTING:
            raise _egress("an address")

    def _named(self, model: object) -> str:
        if not isinstance(model, str):
            raise _RefusedError(
                "model", f"a model's name is text, and the request has a {type(model).__name__}"
            )
        if not self.names.allow(model):
            raise _RefusedError(
                "model",
                f"the model {shorten(model)!r} is not one that the agent's options name or imply; "
                "agent.set_model and SafeDefaults(other_models=...) allow others",
            )
        return model


def shorten(value: object) -> str:
    """Return a text from inside as it may stand in a message or a log; of anything else what it is."""
    if not isinstance(value, str):
        return type(value).__name__
    shown = value[:_SHOWN].encode("ascii", "backslashreplace").decode()
    return "".join(one if one.isprintable() else "?" for one in shown) + (
        "..." if len(value) > _SHOWN else ""
    )


def _most_tokens(given: object) -> int:
    """Return how long an answer may be. The API may read what is not a number as one."""
    if isinstance(given, int | float) and 0 <= given <= _LONGEST_ANSWER:
        return int(given)
    return _LONGEST_ANSWER


def _egress(what: str) -> _RefusedError:
    return _RefusedError(
        "egress",
        f"{what} in a request makes the model's service reach further than the sandbox, whose network is "
        "closed; spec=SandboxSpec(network=NetworkPolicy.open()) opens it, and "
        "SafeDefaults(refuse_model_egress=None) opens this way alone",
    )


def _is_harmless(kind: object) -> bool:
    return isinstance(kind, str) and _KINDS.fullmatch(kind) is not None


def _grammar(asked: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield every object that the API reads as part of a request, and not as data."""
    waiting: list[object] = [asked]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            found = cast("dict[str, Any]", value)
            yield found
            waiting.extend(inner for name, inner in found.items() if name not in _DATA)
        elif isinstance(value, list):
            waiting.extend(cast("list[object]", value))


def _count_media(asked: Mapping[str, Any]) -> tuple[int, int]:
    """Return how many images a body holds, and how many documents that are no text."""
    images = documents = 0
    for one in _grammar(asked):
        kind = one.get("type")
        if kind == "image":
            images += 1
        elif kind == "document":
            source = one.get("source")
            kind_of_source = cast("dict[str, Any]", source).get("type") if isinstance(source, dict) else None
            documents += kind_of_source not in ("text", "content")
    return images, documents


def _open_headers(headers: Headers) -> list[tuple[str, str]]:
    given = ((name.lower(), value) for name, value in headers if len(value) <= _LONGEST_HEADER)
    return [(name, value) for name, value in given if name in _HEADERS or name.startswith(_HEADER_FAMILY)]
