"""What may differ between the bare SDK and a hosted agent: each by name, with the reason."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

Path: TypeAlias = tuple[str | int, ...]
"""Where a value stands in a record: keys of dicts and fields of messages, and indices."""

# Stands for a key or an item that one side does not have.
MISSING = "(not there)"

# Ids are random on both sides. They are not masked, but must stand for each other: see compare.py.
ID_TEXTS = (
    r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
    r"msg_[0-9A-Za-z]{20,}",
    r"toolu_[0-9a-f]{24}",
    r"\b[0-9a-f]{64}\b",
    r"cc-socks(?:-[0-9]+)?/[0-9]+\.sock",
    r"blob-[0-9]{13}-[a-z0-9]+",
    r"/claude-[0-9]+/",
    r"plans/[a-z]+(?:-[a-z0-9]+)+\.md",
)
# Keys whose values are ids of no form of their own.
ID_KEYS = frozenset(
    {"task_id", "agent_id", "agentId", "run_id", "backgroundTaskId", "messageId", "message_id"}
)
TIMES = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|\+00:00)|duration_ms: \d+")


@dataclass(frozen=True, slots=True)
class Mask:
    """A difference that is meant to be.

    Attributes:
        name: What it is called.
        why: The reason.
        allows: Tells by the place and the two values whether this is that difference.
        everywhere: False when only a scenario that names it may differ so, and must.
    """

    name: str
    why: str
    allows: Callable[[Path, Any, Any], bool]
    everywhere: bool = False


def _numbers(*names: str) -> Callable[[Path, Any, Any], bool]:
    def allows(path: Path, bare: Any, hosted: Any) -> bool:
        return bool(path) and path[-1] in names and _is_number(bare) and _is_number(hosted)

    return allows


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _prompt_uuid(path: Path, bare: Any, hosted: Any) -> bool:
    if path[-1:] == ("file_size",):
        return _is_number(bare) and _is_number(hosted)
    if not path or bare not in (None, MISSING):
        return False
    if path[-1] in ("user_message_uuid", "turnAttributionKey"):
        return isinstance(hosted, str)
    return path[-1] == "user_message_uuids" and isinstance(hosted, list)


def _plain_exception(path: Path, bare: Any, hosted: Any) -> bool:
    return path[-1:] == ("$class",) and bare in ("Exception", "RuntimeError") and hosted == "AgentError"


def _stderr_told(path: Path, bare: Any, hosted: Any) -> bool:
    """Tell whether the SDK only points at stderr, where a hosted agent says what was there."""
    if "error" not in path:
        return False
    if path[-1] == "stderr":
        return bare in (None, MISSING, "Check stderr output for details") and isinstance(hosted, str)
    return (
        path[-1] == "$text"
        and isinstance(hosted, str)
        and re.fullmatch(
            r"Command failed with exit code (-?\d+) \(exit code: \1\)\nError output: Check stderr.*",
            str(bare),
        )
        is not None
        and re.match(r"The claude CLI ended(, killed as .*)? \(exit code: ", hosted) is not None
    )


def _told_again(path: Path, bare: Any, hosted: Any) -> bool:
    return path[-1:] == ("asked again",) and (bare, hosted) == ("nothing more", "the error again")


def _incomplete(path: Path, bare: Any, hosted: Any) -> bool:
    return path[-1:] == ("error",) and bare is None and _class(hosted) == "IncompleteTurnError"


def _after_death(path: Path, bare: Any, hosted: Any) -> bool:
    classes = (_class(bare), _class(hosted))
    return (
        path[-1:] == ("error",)
        and classes == ("CLIConnectionError", "ProcessError")
        and str(bare["$text"]).startswith("Cannot write to ")
    )


def _private_class(path: Path, bare: Any, hosted: Any) -> bool:
    public = {"MessageParseError": "ClaudeSDKError", "JSONDecodeError": "ValueError"}
    if path[-1:] == ("$class",):
        return hosted is not None and public.get(str(bare)) == hosted
    # What a JSONDecodeError has besides its text is the text that was no JSON, once more.
    return path[-2:-1] == ("original_error",) and path[-1] != "$text" and hosted == MISSING


def _no_such_place(path: Path, bare: Any, hosted: Any) -> bool:
    sdk_says = ("CLINotFoundError", "CLIConnectionError")
    return path[-1:] == ("error",) and _class(bare) in sdk_says and _class(hosted) == "ConfigError"


def _dropped_by_the_sdk(path: Path, _: Any, hosted: Any) -> bool:
    return path[-3:-1] == ("error", "data") and hosted == MISSING


def _class(value: Any) -> str | None:
    return cast("dict[str, Any]", value).get("$class") if isinstance(value, dict) else None


def _hook_timeout(path: Path, bare: Any, hosted: Any) -> bool:
    late = "PreToolUse hook did not respond before its timeout"
    if isinstance(bare, str) and isinstance(hosted, str) and late in bare:
        return re.sub(r"PreToolUse:\w+ hook error: ", "", hosted, count=1) == bare
    if path[-1:] == ("permission_denials",):
        return bare == [] and isinstance(hosted, list) and len(cast("list[Any]", hosted)) == 1
    return False


def _prompt_timeout(path: Path, bare: Any, hosted: Any) -> bool:
    if path[-1:] != ("prompt_submit_outcome",) or not isinstance(bare, dict) or not isinstance(hosted, dict):
        return False
    ours, theirs = cast("dict[str, Any]", bare), cast("dict[str, Any]", hosted)
    return ours.get("no_verdict_kind") == "callback_timed_out" and theirs.get("kind") == "blocked_by_hook"


def _warned_inside(path: Path, bare: Any, hosted: Any) -> bool:
    return path == ("warnings",) and bool(bare) and hosted == []


def _variable(*names: str) -> Callable[[Path, Any, Any], bool]:
    def allows(path: Path, *_: object) -> bool:
        return path[-2:-1] == ("environment",) and path[-1] in names

    return allows


def _header(*names: str) -> Callable[[Path, Any, Any], bool]:
    def allows(path: Path, *_: object) -> bool:
        return len(path) == 4 and path[2] == "headers" and path[3] in names

    return allows


MASKS = (
    Mask(
        "times",
        "no two runs take equally long",
        _numbers(
            "created_at",
            "duration_api_ms",
            "duration_ms",
            "end_time",
            "last_modified",
            "retry_delay_ms",
            "sentAtMs",
            "toolInputStreamMs",
            "totalDurationMs",
            "ttft_ms",
        ),
        everywhere=True,
    ),
    Mask("process ids", "they are the kernel's", _numbers("pid"), everywhere=True),
    Mask(
        "uuid of a prompt",
        "a hosted agent gives a uuid to a prompt that has none, so that it is taken once whatever happens to "
        "the link; the CLI then names it in the answer, and once more in the session's file",
        _prompt_uuid,
        everywhere=True,
    ),
    Mask(
        "headers of a connection",
        "the model's request is sent anew by the host: these belong to one connection, not to the request",
        _header("host", "connection", "content-length", "accept-encoding"),
        everywhere=True,
    ),
    Mask(
        "a refusal of the CLI",
        "the SDK raises a plain Exception or RuntimeError with the reason, a hosted agent an AgentError",
        _plain_exception,
    ),
    Mask(
        "stderr of a CLI that died",
        "the SDK's exception says that it stood on stderr; a hosted agent's holds what stood there",
        _stderr_told,
    ),
    Mask(
        "a place that is not there",
        "a path that the sandbox lacks is a ConfigError, which says whether it is on the host instead; the "
        "SDK raises what it stumbles over",
        _no_such_place,
    ),
    Mask(
        "an error is told to all who ask",
        "the SDK raises it once and is silent to those who ask again",
        _told_again,
    ),
    Mask(
        "no turn ends in silence",
        "the SDK's messages just end when the CLI leaves without a result; a hosted agent raises",
        _incomplete,
    ),
    Mask(
        "why an agent has ended",
        "a call on an agent whose CLI died raises what it died of; the SDK says that it cannot write",
        _after_death,
    ),
    Mask(
        "classes that are not the SDK's public ones",
        "an exception of a class that cannot be imported from claude_agent_sdk is its nearest public base",
        _private_class,
    ),
    Mask(
        "a PreToolUse hook that is late",
        "its time counts on the host, because it must not pass while no host is there; no answer of a hook "
        "does exactly what the CLI's own clock does. The tool is not used either way",
        _hook_timeout,
    ),
    Mask(
        "a UserPromptSubmit hook that is late",
        "the same; the prompt is blocked either way, with the same words",
        _prompt_timeout,
    ),
    Mask(
        "fields of a result that the SDK drops",
        "the CLI tells of a prompt with a uuid after the result, so that the SDK raises no ResultError; the "
        "one that is made in its place holds what the ResultMessage has",
        _dropped_by_the_sdk,
    ),
    Mask(
        "patience with the model",
        "API_TIMEOUT_MS is a day, because a request is held while the host is away; the CLI tells the API",
        _header("x-stainless-timeout"),
        everywhere=True,
    ),
    Mask(
        "the key is not inside",
        "the agent's key is good for its own model endpoint only; the host adds the real one",
        _variable("ANTHROPIC_API_KEY"),
    ),
    Mask(
        "how long a model request may take",
        "a request is held while the host is away: the CLI must not give it up before",
        _variable(
            "API_TIMEOUT_MS",
            "API_FORCE_IDLE_TIMEOUT",
            "CLAUDE_ENABLE_STREAM_WATCHDOG",
            "CLAUDE_ENABLE_BYTE_WATCHDOG",
            "CLAUDE_ASYNC_AGENT_STALL_TIMEOUT_MS",
        ),
    ),
    Mask(
        "warnings inside",
        "the SDK warns where it runs, and that is the sandbox",
        _warned_inside,
    ),
)
