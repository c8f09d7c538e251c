"""What models cost. Prices are the vendor's list prices in US dollars per million tokens.

Sources, both read on 2026-11-30: https://platform.claude.com/docs/en/about-claude/pricing with the models'
own pages there, as stored between September and November 2026, and the table that claude 2.1.332 (in
claude-agent-sdk 0.2.189) counts ``total_cost_usd`` by. They agree, except where a comment names a difference.
A bill may differ: discounts, taxes and batches are not counted, and another service at ANTHROPIC_BASE_URL
has prices of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_MILLION = 1_000_000
# Of a web search, for each request of the server tool.
SEARCH_USD = 10 / 1000
# ``inference_geo="us"`` costs 1.1 of the list price. Any other place than the default is taken to cost that.
_GEO = 1.1


@dataclass(frozen=True, slots=True)
class Price:
    """Dollars per million tokens.

    Attributes:
        input: Tokens of the prompt that no cache holds.
        output: Tokens of the answer.
        read: Tokens of the prompt that were read from the cache. Writing them costs 1.25 of ``input`` for 5
            minutes, and 2 for an hour, with every model.
        fast: What the faster way costs, as a multiple of all prices. 6 is the dearest there has been;
            models that have no faster way refuse it.
        long: Another price for requests with more than ``long_from`` tokens in their prompt.
        long_from: Tokens, all of them counted, cached or not.
    """

    input: float
    output: float
    read: float
    fast: float = 6.0
    long: Price | None = None
    long_from: int = 0


_TABLE: Mapping[str, Price] = {
    # In the CLI's table alone: no page of the vendor's was found that has them.
    "fable-5-2": Price(8, 40, 0.2, fast=2),
    "mythos-5-2": Price(8, 40, 0.2, fast=2),
    "fable-5-1": Price(10, 50, 0.25),
    "mythos-5-1": Price(10, 50, 0.25),
    "fable-5": Price(10, 50, 1),
    "mythos-5": Price(10, 50, 1),
    "opus-5-5": Price(4, 20, 0.2, fast=2),
    "opus-5": Price(5, 25, 0.5, fast=2),
    "opus-4-8": Price(5, 25, 0.5, fast=2),
    "opus-4-7": Price(5, 25, 0.5),
    "opus-4-6": Price(5, 25, 0.5),
    "opus-4-5": Price(5, 25, 0.5),
    "opus-4-1": Price(15, 75, 1.5),
    "opus-4": Price(15, 75, 1.5),
    "3-opus": Price(15, 75, 1.5),
    # The vendor's stored page has 0.2 for the cache; the CLI has 0.1.
    "sonnet-5-5": Price(2, 10, 0.1),
    "sonnet-5": Price(2, 10, 0.2),
    "sonnet-4-6": Price(3, 15, 0.3),
    "sonnet-4-5": Price(3, 15, 0.3),
    "sonnet-4": Price(3, 15, 0.3),
    "3-7-sonnet": Price(3, 15, 0.3),
    "3-5-sonnet": Price(3, 15, 0.3),
    # The longer price is in the CLI's table; the vendor's stored page has "from" 0.10 and 0.50.
    "haiku-5-5": Price(0.1, 0.5, 0.01, long=Price(0.5, 2.5, 0.05), long_from=100_000),
    "haiku-4-5": Price(1, 5, 0.1),
    "3-5-haiku": Price(0.8, 4, 0.08),
    "3-haiku": Price(0.25, 1.25, 0.03),  # of the vendor's page alone
}
# What the CLI counts a model as that it does not know. Such a model is asked only where the options name it,
# or where it is newer than this table.
UNKNOWN = Price(5, 25, 0.5)

# claude-opus-4-5-20251101, anthropic/claude-opus-4.5, claude-3-5-haiku-latest: family and version.
_FAMILY = "fable|mythos|opus|sonnet|haiku"
_NAME = re.compile(
    rf"(?:^|[./])claude-((?:[0-9]{{1,2}}[-.])*(?:{_FAMILY})(?:[-.][0-9]{{1,2}}(?![0-9]))*)(?:$|[^0-9a-z])"
)


def price_of(model: str) -> Price | None:
    """Return the price of a model by its name; None for one whose price is not known here."""
    found = _NAME.search(model.lower())
    return _TABLE.get(found[1].replace(".", "-").removesuffix("-0")) if found else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """Tokens of one request, as the API counts them.

    Attributes:
        input: Of the prompt, neither read from the cache nor written to it.
        output: Of the answer.
        read: Of the prompt, read from the cache.
        written: Written to the cache for 5 minutes.
        written_long: Written to it for an hour.
        searches: Requests of the server's web search.
    """

    input: int = 0
    output: int = 0
    read: int = 0
    written: int = 0
    written_long: int = 0
    searches: int = 0

    @property
    def prompt(self) -> int:
        """All tokens of the prompt."""
        return self.input + self.read + self.written + self.written_long

    @property
    def total(self) -> int:
        """All tokens, of the prompt and of the answer."""
        return self.prompt + self.output


def cost(price: Price, tokens: Tokens, *, fast: bool = False, geo: str = "") -> float:
    """Return the dollars that a request costs.

    Args:
        price: The model's.
        tokens: What was used.
        fast: Whether it took the faster way.
        geo: Where it asked the model to run; empty or ``global`` costs nothing more.
    """
    found = price.long if price.long is not None and tokens.prompt > price.long_from else price
    dollars = (
        found.input * (tokens.input + 1.25 * tokens.written + 2 * tokens.written_long)
        + found.read * tokens.read
        + found.output * tokens.output
    ) / _MILLION
    dollars *= (price.fast if fast else 1.0) * (1.0 if geo in ("", "global") else _GEO)
    return dollars + SEARCH_USD * tokens.searches
