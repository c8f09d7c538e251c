"""What E2B's client raises is told as ours, row by row, and holds no secret."""

from __future__ import annotations

import sys

import anyio
import e2b
import httpx
import pytest

from agenthost.errors import (
    AgentHostError,
    ConfigError,
    MissingCredentialError,
    ProviderBusyError,
    ProviderError,
    QuotaError,
    SandboxGoneError,
    SandboxNotFoundError,
    UnsupportedError,
)
from agenthost.providers.e2b.client import E2BVendor
from agenthost.providers.e2b.provider import E2BProvider

REFUSED, UNKNOWN = "refused", "unknown"
QUOTA = "429: maximum number of concurrent E2B sandboxes reached"
FEATURE = "400: Network transform rules are not available for your team"

CASES: list[tuple[Exception, type[AgentHostError], str, str]] = [
    (e2b.AuthenticationException("401"), ProviderError, REFUSED, "refused the API key"),
    (e2b.RateLimitException("429"), ProviderBusyError, UNKNOWN, "too many requests"),
    (e2b.RateLimitException(QUOTA), QuotaError, REFUSED, "as many sandboxes as its plan allows; end some"),
    (e2b.ServiceBusyException("503"), ProviderBusyError, UNKNOWN, "no capacity"),
    (e2b.SandboxNotFoundException("gone"), SandboxNotFoundError, "", "no such sandbox"),
    (e2b.SandboxNotRunningException("502"), SandboxGoneError, "", "not running"),
    (e2b.SandboxUnreachableException("cut"), ProviderError, UNKNOWN, "could not be reached"),
    (e2b.TimeoutException("late"), ProviderError, UNKNOWN, "did not answer in time"),
    (e2b.InvalidArgumentException("no"), ConfigError, "", "client does not accept this"),
    (e2b.NotEnoughSpaceException("507"), ProviderError, REFUSED, "disk of the sandbox is full"),
    (e2b.GuestUnresponsiveException("409"), ProviderError, REFUSED, "does not wake up"),
    (e2b.TemplateException("old"), ProviderError, REFUSED, "template is not usable"),
    (e2b.BuildException("step 1"), ProviderError, REFUSED, "not built"),
    (e2b.NotFoundException("nothing"), ProviderError, REFUSED, "does not have this"),
    (httpx.ReadTimeout("slow"), ProviderError, UNKNOWN, "did not answer in time"),
    (httpx.ConnectError("refused"), ProviderError, REFUSED, "could not be reached"),
    (httpx.ReadError("cut"), ProviderError, UNKNOWN, "answer of E2B was lost"),
    (e2b.SandboxException(FEATURE, status_code=400), UnsupportedError, "", "not enabled added headers"),
    (e2b.SandboxException("400: no", status_code=400), ConfigError, "", "does not accept this"),
    (e2b.SandboxException("403: no", status_code=403), ProviderError, REFUSED, "does not allow this"),
    (e2b.SandboxException("404: no", status_code=404), ConfigError, "", "does not have this"),
    (e2b.SandboxException("409: no", status_code=409), ProviderBusyError, UNKNOWN, "cannot do this now"),
    (e2b.SandboxException("500: oh", status_code=500), ProviderError, UNKNOWN, "client failed"),
    (Exception("Command ended without an end event"), ProviderError, UNKNOWN, "client failed"),
]


@pytest.fixture
def vendor() -> E2BVendor:
    return E2BVendor(api_key="e2b_canary", domain=None, api_url=None, sandbox_url=None)


@pytest.mark.parametrize(
    ("error", "raises", "outcome", "meaning"),
    CASES,
    ids=[f"{type(one[0]).__name__}-{number}" for number, one in enumerate(CASES)],
)
def test_each_error_of_the_vendor_has_a_meaning(
    vendor: E2BVendor, error: Exception, raises: type[AgentHostError], outcome: str, meaning: str
) -> None:
    made = vendor.calls.translate(error, "doing something")
    assert type(made) is raises
    assert getattr(made, "outcome", "") == outcome
    assert meaning in str(made)
    assert str(made).startswith("doing something: ")


def test_a_secret_that_e2b_quotes_is_not_in_the_error(vendor: E2BVendor) -> None:
    error = e2b.SandboxException("400: header 'sk-1' of e2b_canary is wrong", status_code=400)
    text = str(vendor.calls.translate(error, "making", secrets=("sk-1",)))
    assert "sk-1" not in text
    assert "canary" not in text


def test_without_a_key_the_error_names_argument_and_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("E2B_API_KEY", raising=False)
    with pytest.raises(MissingCredentialError, match=r"api_key=.*E2B_API_KEY"):
        E2BProvider()


def test_the_key_is_shown_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("E2B_API_KEY", "e2b_canary")
    provider = E2BProvider()
    assert "canary" not in repr(provider) + repr(provider.vendor)


@pytest.mark.parametrize("anyio_backend", ["trio"], scope="module")
async def test_trio_is_refused_by_name_before_anything_is_asked(anyio_backend: str) -> None:
    del anyio_backend
    provider = E2BProvider(api_key="e2b_x", api_url="http://127.0.0.1:9", sandbox_url="http://127.0.0.1:9")
    with pytest.raises(UnsupportedError, match=r"cannot run on trio.*asyncio"):
        async with provider:
            pass
    with pytest.raises(UnsupportedError, match="trio"):
        async for _ in provider.list():
            pass
    with pytest.raises(UnsupportedError, match="trio"):
        await provider.reach("i1")


# Asks for what needs the vendor's package, and tells which thread imports it. Nobody listens at that port.
IMPORTS = """
import sys, threading, anyio
from agenthost.errors import AgentHostError
from agenthost.adapter.bake import plan_bake
from agenthost.supports import ImageRecipe
from agenthost.providers.e2b.provider import E2BProvider

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name.startswith("e2b."):
            seen.add(threading.current_thread() is threading.main_thread())

seen = set()
sys.meta_path.insert(0, Watch())

async def main():
    options = {"api_key": "e2b_x", "api_url": "http://127.0.0.1:9", "sandbox_url": "http://127.0.0.1:9"}
    async with E2BProvider(**options) as provider:
        try:
            if sys.argv[1] == "list":
                async for _ in provider.list():
                    pass
            else:
                await provider.images().find(plan_bake(ImageRecipe(), default_base="x"))
        except AgentHostError:
            pass
    # What is loaded late by the package itself is its own affair.
    print(min(seen), flush=True)

anyio.run(main)
"""


@pytest.mark.parametrize("what", ["list", "bake"])
async def test_the_vendors_package_is_not_imported_on_the_event_loop(what: str) -> None:
    # The vendor's runtime has been seen to abort when an interpreter ends: how it ends is not asked here.
    done = await anyio.run_process([sys.executable, "-c", IMPORTS, what], check=False)
    assert done.stdout == b"False\n", done.stderr.decode()
