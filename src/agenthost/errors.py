"""Every error that agenthost raises.

The errors of the Claude Agent SDK (``ProcessError``, ``CLIJSONDecodeError`` ...) pass through as the
SDK's own classes. File operations raise the builtins (``FileNotFoundError``, ``PermissionError``,
``IsADirectoryError`` ...) or an OSError of agenthost's. A program that cannot be started raises the
``OSError`` that the kernel gave.

    AgentHostError
    +-- ConfigError (ValueError)            what was asked for makes no sense; nothing was made
    |   +-- UnknownProviderError
    |   +-- MissingExtraError (ImportError)
    |   +-- MissingCredentialError
    |   +-- NameTakenError                  a sandbox of this name exists already
    +-- UnsupportedError                    this provider, or this version, cannot do that; nothing was made
    +-- ProviderError                       the provider refused or failed
    |   +-- ProviderBusyError               it refuses for now; the same request may succeed later
    |   +-- QuotaError                      a limit of the account is reached
    |   +-- IsolationUnavailableError       no working isolation on this machine
    +-- SandboxError
    |   +-- SandboxNotFoundError (LookupError)
    |   +-- SandboxGoneError                it existed and has ended, or another machine answers for it
    |   +-- SandboxPausedError
    |   +-- SandboxStartError               it did not come up in time; what was made has been ended
    |   +-- FileTooLargeError (OSError)     a file is larger than is read at once
    +-- ResourceExhaustedError (OSError)    this machine has no descriptor, process, thread or memory left
    +-- ExecError
    |   +-- ExecTimeoutError (TimeoutError) carries the partial output
    +-- LinkError
    |   +-- LinkLostError                   the sandbox could not be reached in time; it may still run
    |   +-- GuestLostError                  the program inside the sandbox has ended
    |   +-- OutcomeUnknownError             a call was sent, its answer is lost; it was not run again
    |   +-- ReplayGapError                  what was asked for is no longer kept
    |   +-- SupersededError                 another driver has taken the agent
    |   +-- AccessDeniedError               a token was refused, or an impostor answers
    |   +-- WireVersionError                the guest speaks another wire version
    +-- AgentError
        +-- BootstrapError                  the agent could not be started; says what is missing
        +-- IncompleteTurnError             a turn ended without a ResultMessage
        +-- AgentEndedError                 the agent has ended already
        +-- CallTimeoutError (TimeoutError) the agent did not answer a call in time
        +-- DownloadError                   what the sandbox sent is no archive, or more than is accepted
"""

from __future__ import annotations

import errno
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal


class AgentHostError(Exception):
    """Base of every error of agenthost."""


class ConfigError(AgentHostError, ValueError):
    """What was asked for makes no sense. Nothing was made."""


class UnknownProviderError(ConfigError):
    """No provider has this name."""


class MissingExtraError(ConfigError, ImportError):
    """The provider needs a package that is not installed. The message holds the command."""


class MissingCredentialError(ConfigError):
    """A credential is missing, or another option that a provider requires. The message names it."""


class NameTakenError(ConfigError):
    """A sandbox of this name exists already."""


class UnsupportedError(AgentHostError):
    """This provider, engine or version cannot do what was asked. Nothing was made."""


class ProviderError(AgentHostError):
    """The provider refused or failed.

    Attributes:
        outcome: ``refused`` when the provider did not do what was asked; ``unknown`` when the request may
            have been carried out, because the answer was lost or came too late.
        retry_after: Seconds after which the provider accepts the request again, where the provider gave a
            number; else None.
    """

    def __init__(
        self,
        *args: object,
        outcome: Literal["refused", "unknown"] = "refused",
        retry_after: float | None = None,
    ) -> None:
        super().__init__(*args)
        self.outcome = outcome
        self.retry_after = retry_after


class ProviderBusyError(ProviderError):
    """The provider refuses for now: too many requests, or no capacity. The same request may succeed later."""


class QuotaError(ProviderError):
    """A limit of the account is reached, such as the number of running sandboxes."""


class IsolationUnavailableError(ProviderError):
    """This machine cannot isolate a sandbox. The message says why and how to mend it."""


class SandboxError(AgentHostError):
    """Something about one sandbox."""


class SandboxNotFoundError(SandboxError, LookupError):
    """No sandbox has this id."""


class SandboxGoneError(SandboxError):
    """The sandbox has ended, or another machine answers in its place."""


class SandboxPausedError(SandboxError):
    """The sandbox was paused through agenthost; resume it first."""


class SandboxStartError(SandboxError):
    """The sandbox did not come up. What was made of it has been ended."""


class FileTooLargeError(SandboxError, OSError):
    """A file of a sandbox has more bytes than ``max_bytes``; ``errno`` is EFBIG. Nothing of it is kept.

    The message holds the size, the bound and what to do.
    """


class ResourceExhaustedError(AgentHostError, OSError):
    """This machine has no file descriptor, process, thread or memory left for agenthost.

    The message says what ran out and what to do; ``errno`` is the kernel's.
    """


class ExecError(AgentHostError):
    """Something about one program run in a sandbox."""


class ExecTimeoutError(ExecError, TimeoutError):
    """A program ran longer than its timeout. Its whole process group was killed.

    Attributes:
        stdout: What it had printed, in bytes.
        stderr: What it had printed to stderr, in bytes.
        timeout: The timeout, in seconds.
    """

    def __init__(self, message: str, *, stdout: bytes, stderr: bytes, timeout: float) -> None:
        super().__init__(message)
        self.stdout = stdout
        self.stderr = stderr
        self.timeout = timeout

    def __reduce__(self) -> tuple[Any, ...]:
        """Keep the keywords in copies: an error that does not unpickle hangs a pool of processes."""
        make = partial(type(self), stdout=self.stdout, stderr=self.stderr, timeout=self.timeout)
        return make, self.args, vars(self)


class LinkError(AgentHostError):
    """Something about the connection between host and sandbox."""


class LinkLostError(LinkError):
    """The sandbox could not be reached within the budget. It may still be running.

    Attributes:
        ref: Of a hosted agent: what ``HostedAgent.attach`` needs to reach it later, as JSON.
    """

    ref: str | None = None


class GuestLostError(LinkError):
    """The program inside the sandbox has ended, and with it every process it kept."""


class OutcomeUnknownError(LinkError):
    """A call reached the sandbox, its answer is lost. It may have been done; it was not done twice."""


class ReplayGapError(LinkError):
    """The stream no longer holds what was asked for.

    Attributes:
        wanted: What was asked for.
        oldest: The oldest that is still kept.
        unit: What both are: the offset of a ``byte``, or the number of an ``event`` of an agent's journal.
    """

    def __init__(
        self, message: str, *, wanted: int, oldest: int, unit: Literal["byte", "event"] = "byte"
    ) -> None:
        super().__init__(message)
        self.wanted = wanted
        self.oldest = oldest
        self.unit: Literal["byte", "event"] = unit

    def __reduce__(self) -> tuple[Any, ...]:
        """Keep the keywords in copies."""
        return (
            partial(type(self), wanted=self.wanted, oldest=self.oldest, unit=self.unit),
            self.args,
            vars(self),
        )


class SupersededError(LinkError):
    """Another driver has taken over the agent. This one will not retry."""


class AccessDeniedError(LinkError):
    """The guest refused a token, or what answers in its place cannot prove that it is the guest."""


class WireVersionError(LinkError):
    """The guest was put into its sandbox by another version of agenthost and speaks another wire.

    Use the version that made the sandbox, or make a new sandbox.
    """


class AgentError(AgentHostError):
    """Something about one agent."""


class BootstrapError(AgentError):
    """The agent could not be started in the sandbox. The message says what is missing."""


class IncompleteTurnError(AgentError):
    """A turn ended without a ResultMessage."""


class AgentEndedError(AgentError):
    """The agent has ended already."""


class CallTimeoutError(AgentError, TimeoutError):
    """The agent did not answer a call within ``Limits.call_timeout``. It may still do what was asked."""


class DownloadError(AgentError):
    """What the sandbox sent is no archive, or exceeds a limit that the message names.

    The target directory is as it was before.
    """


_NO_THREAD = "can't start new thread"  # the text of the RuntimeError of Python's own
_RAN_OUT = {
    errno.EMFILE: "this process has no file descriptor left: raise its limit (ulimit -n, or LimitNOFILE= of "
    "a systemd unit), or run fewer sandboxes and agents in it",
    errno.ENFILE: "this machine has no file descriptor left: raise fs.file-max, or end what holds so many",
    errno.EAGAIN: "no process or thread can be started: raise the limit of processes (ulimit -u, or "
    "TasksMax= of a systemd unit), or run fewer sandboxes at once",
    errno.ENOMEM: "this machine has no memory left: end what takes it, or run fewer sandboxes at once",
}


@contextmanager
def naming_what_ran_out(what: str) -> Generator[None]:
    """Do something on this machine; what runs out meanwhile is told by a ResourceExhaustedError.

    Args:
        what: What is done, for the error: "make a sandbox".
    """
    try:
        yield
    except (OSError, RuntimeError, MemoryError, AgentHostError) as error:
        named = exhausted(error, what)
        if named is None:
            raise
        raise named from error


def exhausted(error: BaseException, what: str) -> ResourceExhaustedError | None:
    """Return the error that tells what ran out on this machine; None where nothing did."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ResourceExhaustedError):
            return cause
        number = _number_of(cause)
        if number in _RAN_OUT:
            return ResourceExhaustedError(number, f"cannot {what}: {_RAN_OUT[number]}")
        cause = cause.__cause__
    return None


def _number_of(error: BaseException) -> int:
    if isinstance(error, MemoryError):
        return errno.ENOMEM
    if isinstance(error, RuntimeError) and _NO_THREAD in str(error):
        return errno.EAGAIN
    return (error.errno or 0) if isinstance(error, OSError) else 0
