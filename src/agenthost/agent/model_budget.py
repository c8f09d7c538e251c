"""How much one agent may ask of the model: requests, tokens and dollars, counted on the host."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import anyio

from agenthost.agent.model_policy import Headers, ModelRequest, Refusal, RefusalKind
from agenthost.agent.model_prices import UNKNOWN, Price, Tokens, cost, price_of
from agenthost.agent.model_usage import UsageReader
from agenthost.spec import Limits

# Requests for each prompt, where ``max_turns`` bounds the agent's own: a turn is one request and the tools
# that its answer asks for, of which ten may be subagents with a hundred requests each; the rest are summaries
# of pages and of long conversations. Retries after errors of the service do not count.
_EACH_PROMPT, _EACH_TURN = 1000, 100
# Requests for each prompt that ask no model; the CLI makes one when it starts.
_GREETINGS = 100
# Tokens in a second, more than any model writes: what an answer that the agent hangs up on may have cost.
_FASTEST = 300
# Statuses by which a service asks for the same request again.
_REPEATED = (408, 409, 429)
# Bytes of a request for each token in its worst case; plain text has about 4.
_WORST_BYTES = 2
# Tokens of the largest image, whose file may have a thousand bytes; and of the longest prompt, which the
# pages of one small document may fill.
_WORST_IMAGE = 5_000
_LONGEST_PROMPT = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What one agent may use in its life. None bounds nothing.

    Attributes:
        requests: Requests to the model.
        turns: Turns of one prompt, ``max_turns``: bounds the requests by the number of prompts.
        tokens: Tokens, of prompts and answers, cached or not.
        usd: Dollars, by the table in ``model_prices``.
        budget: Dollars, too: ``max_budget_usd``, which the CLI counts from the last ``/clear``.
    """

    requests: int | None = None
    turns: int | None = None
    tokens: int | None = None
    usd: float | None = None
    budget: float | None = None

    @classmethod
    def of(cls, limits: Limits, *, max_turns: object, max_budget_usd: object) -> Bounds:
        """Return what ``Limits`` and the options bound together."""
        turns = _number(max_turns) if limits.model_requests is None else None
        return cls(
            requests=limits.model_requests,
            turns=None if turns is None else int(turns),
            tokens=limits.model_tokens,
            usd=limits.model_usd,
            budget=_number(max_budget_usd),
        )


@dataclass(slots=True, kw_only=True)
class Used:
    """What one agent has used.

    Attributes:
        requests: Requests to the model, without those that the service asked to repeat.
        tokens: Tokens, of prompts and answers, cached or not.
        usd: Dollars.
        usd_before: Dollars before the last ``/clear``.
        prompts: Prompts that the host has sent.
        greetings: Requests that ask no model: whether the service is there.
    """

    requests: int = 0
    tokens: int = 0
    usd: float = 0.0
    usd_before: float = 0.0
    prompts: int = 0
    greetings: int = 0


class Hold:
    """What one request may cost at most, kept until it is known what it has cost."""

    def __init__(self, request: ModelRequest, size: int) -> None:
        self.request = request
        self.size = size
        # A request may name several models: each part of it is counted like the dearest.
        self.price = max((_price(model) for model in request.models), key=lambda price: price.output)
        worst = Tokens(written_long=_worst_prompt(request, size), output=request.max_tokens)
        if not request.spends:
            worst = Tokens()
        self.tokens = worst.total
        self.usd = cost(self.price, worst, fast=request.fast, geo=request.geo)
        self.reader: UsageReader | None = None  # set when a good answer has come
        self.failed = False
        self.counts = True
        self.sent_at = anyio.current_time()
        self.begun_at: float | None = None

    def answer(self, status: int, headers: Headers) -> None:
        """Take the head of the answer."""
        kind = next((value for name, value in headers if name.lower() == "content-type"), "")
        if 200 <= status < 300:
            self.reader = UsageReader(streams="event-stream" in kind)
        else:
            self.fail(counts=status < 500 and status not in _REPEATED)

    def fail(self, *, counts: bool) -> None:
        """Note that the service has done nothing. ``counts``: whether the agent is to blame for it."""
        self.failed, self.counts = True, counts

    def end(self) -> None:
        """The answer is complete."""
        if self.reader is not None:
            self.reader.end()

    def take(self, data: bytes) -> None:
        """Take the next bytes of the answer."""
        if self.reader is not None:
            self.reader.take(data)
            if self.begun_at is None and self.reader.begun:
                self.begun_at = anyio.current_time()

    def used(self) -> tuple[int, float]:
        """Return the tokens and dollars that the request has cost, by what is known of it."""
        if self.failed or not self.request.spends:
            return 0, 0.0
        found = self._found()
        tokens, dollars = found.total, self._cost(self.price, found)
        if self.reader is not None:
            for model, more in self.reader.models.items():
                if model != self.request.models[0]:
                    tokens += more.total
                    dollars += self._cost(_price(model), more)
        return tokens, dollars

    def _cost(self, price: Price, tokens: Tokens) -> float:
        return cost(price, tokens, fast=self.request.fast, geo=self.request.geo)

    def _found(self) -> Tokens:
        reader = self.reader
        if reader is not None and reader.tokens is not None and reader.is_final:
            return reader.tokens
        # The agent has hung up, or the answer broke off, before it stated its usage. What was written until
        # then is paid for: at most as much as a model can write in that time.
        begun = self.begun_at if self.begun_at is not None else None if self.request.streams else self.sent_at
        written = 0 if begun is None else int((anyio.current_time() - begun) * _FASTEST)
        known = reader.tokens if reader is not None and reader.tokens is not None else None
        if known is None:
            known = Tokens(input=self.size // _WORST_BYTES)
        return Tokens(
            input=known.input,
            output=max(known.output, min(written, self.request.max_tokens)),
            read=known.read,
            written=known.written,
            written_long=known.written_long,
            searches=known.searches,
        )


class ModelBudget:
    """Counts what one agent uses, and lets a request go or not.

    A request goes while what was used and what the requests on the way may cost at most is below each bound,
    as the CLI itself lets that request go which crosses ``max_budget_usd``. Where only those on the way stand
    against it, it waits for them. So the bound is passed by one request's cost at most.
    """

    def __init__(self, bounds: Bounds, used: Used | None = None) -> None:
        """Begin, with what was used before."""
        self.bounds = bounds
        self.used = used or Used()
        self._holds: set[Hold] = set()
        self._settled = anyio.Event()

    def so_far(self) -> Used:
        """Return what was used, with what the requests on the way have cost until now."""
        found = replace(self.used)
        for hold in self._holds:
            tokens, dollars = hold.used()
            found.tokens += tokens
            found.usd += dollars
        return found

    def begin_again(self) -> None:
        """Count ``max_budget_usd`` from here on, as the CLI does after ``/clear``."""
        self.used.usd_before = self.used.usd

    async def admit(self, request: ModelRequest, size: int) -> Hold | Refusal:
        """Wait until a request may go; the hold that is returned must be settled. Cancelled, it takes none.

        Args:
            request: What is asked.
            size: Bytes of its body.
        """
        while True:
            refusal = self._refusal()
            if refusal is not None:
                return refusal
            if not self._holds or not request.spends or self._has_room():
                hold = Hold(request, size)
                self._holds.add(hold)
                self.used.requests += 1
                return hold
            await self._settled.wait()

    def admit_greeting(self) -> Refusal | None:
        """Count a request that asks no model, and refuse it where there were too many."""
        most = _GREETINGS * max(1, self.used.prompts)
        if self.used.greetings >= most:
            return _over("requests", f"{most} requests that ask no model", "it has no setting")
        self.used.greetings += 1
        return None

    @contextmanager
    def settling(self, hold: Hold) -> Generator[None]:
        """Count what a request has used when the block is left, however it is left."""
        try:
            yield
        finally:
            self._holds.discard(hold)
            tokens, dollars = hold.used()
            self.used.tokens += tokens
            self.used.usd += dollars
            if not hold.counts:
                self.used.requests -= 1
            self._settled.set()
            self._settled = anyio.Event()

    def _has_room(self) -> bool:
        """Return whether what is on the way leaves room for one request more."""
        tokens = sum(hold.tokens for hold in self._holds)
        dollars = sum(hold.usd for hold in self._holds)
        return self._spending(tokens, dollars) is None

    def _spending(self, tokens: int, dollars: float) -> Refusal | None:
        """Return which bound of tokens or dollars is met, with so many more than were used."""
        bounds, used = self.bounds, self.used
        if bounds.tokens is not None and used.tokens + tokens >= bounds.tokens:
            return _over("tokens", f"{bounds.tokens} tokens", "Limits.model_tokens")
        if bounds.usd is not None and used.usd + dollars >= bounds.usd:
            return _over("dollars", f"{bounds.usd:g} dollars", "Limits.model_usd")
        if bounds.budget is not None and used.usd - used.usd_before + dollars >= bounds.budget:
            return _over("dollars", f"{bounds.budget:g} dollars", "options.max_budget_usd")
        return None

    def _refusal(self) -> Refusal | None:
        bounds, used = self.bounds, self.used
        if bounds.requests is not None and used.requests >= bounds.requests:
            return _over("requests", f"{bounds.requests} requests", "Limits.model_requests")
        if bounds.turns is not None:
            most = max(1, used.prompts) * (_EACH_PROMPT + _EACH_TURN * bounds.turns)
            if used.requests >= most:
                setting = (
                    f"what options.max_turns={bounds.turns} implies; Limits.model_requests sets another bound"
                )
                return _over("requests", f"{most} requests", setting)
        return self._spending(0, 0.0)


def _worst_prompt(request: ModelRequest, size: int) -> int:
    """Return the most tokens that a request's prompt may have."""
    if request.documents:
        return _LONGEST_PROMPT
    return min(size // _WORST_BYTES + request.images * _WORST_IMAGE, _LONGEST_PROMPT)


def _over(kind: RefusalKind, what: str, setting: str) -> Refusal:
    return Refusal(kind, f"the agent has used {what}, its bound ({setting})", 402, "billing_error")


def _price(model: str) -> Price:
    return price_of(model) or UNKNOWN


def _number(value: object) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
