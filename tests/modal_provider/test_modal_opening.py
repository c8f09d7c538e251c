"""Opening the provider: credentials, trio, and Modal's client that is never the process's own."""

from __future__ import annotations

import os
import subprocess
import sys
import traceback
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import modal as vendor
import pytest
from modal_provider.accounts import assert_clean

from agenthost.errors import (
    ConfigError,
    ProviderError,
    UnsupportedError,
)
from agenthost.providers.modal.provider import ModalProvider
from agenthost.spec import SandboxSpec
from agenthost.testing.emulators.modal import ModalEmulator, emulator

TOKEN = "as-very-secret"
_OPEN = """
import anyio
from agenthost.providers.modal.provider import ModalProvider

async def main():
    async with ModalProvider(token_id="ak-1", token_secret="as-1", **{options!r}) as provider:
        try:
            await anext(provider.list(), None)
        except Exception as error:
            print(type(error).__name__, error)

anyio.run(main)
"""


@pytest.fixture(scope="module")
async def bare(anyio_backend: str) -> AsyncIterator[ModalEmulator]:
    del anyio_backend
    async with emulator(friendly=True) as served:
        yield served
        assert_clean(served)


def test_options_come_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"TOKEN_ID": "ak-1", "TOKEN_SECRET": TOKEN, "ENVIRONMENT": "dev"}.items():
        monkeypatch.setenv(f"MODAL_{name}", value)
    assert ModalProvider().vendor.environment == "dev"
    assert ModalProvider(environment="main").vendor.environment == "main"


def test_an_unknown_runtime_is_refused_and_a_known_one_tells_its_mechanism() -> None:
    with pytest.raises(ConfigError, match="gvisor"):
        ModalProvider(token_id="ak-1", token_secret=TOKEN, runtime="runc")  # type: ignore[arg-type]  # on purpose
    assert ModalProvider(token_id="ak-1", token_secret=TOKEN).capabilities.isolation == "gvisor"
    of_vm = ModalProvider(token_id="ak-1", token_secret=TOKEN, runtime="vm")
    assert of_vm.capabilities.isolation == "microvm"


def test_the_emulator_is_refused_on_trio() -> None:
    async def emulate() -> None:
        async with emulator():
            pass

    with pytest.raises(UnsupportedError, match="asyncio"):
        anyio.run(emulate, backend="trio")


def test_nothing_of_modals_is_loaded_before_it_is_needed() -> None:
    program = (
        "import sys; from agenthost.providers.modal.provider import ModalProvider; "
        "import agenthost.testing.emulators.modal; "
        "ModalProvider(token_id='ak-1', token_secret='as-1'); "
        "print('modal' in sys.modules, 'grpclib' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"


async def test_a_refused_credential_is_told_without_it(bare: ModalEmulator) -> None:
    options: dict[str, Any] = {**bare.options, "token_secret": TOKEN}
    async with ModalProvider(**options) as provider:
        with pytest.raises(ProviderError) as caught:
            await provider.create(SandboxSpec())
    told = f"{caught.value!r} {caught.value.__cause__!r} {''.join(traceback.format_exception(caught.value))}"
    assert "MODAL_TOKEN_SECRET" in told
    assert "is not valid: ak-" in told  # Modal's words, without the secret that was among them
    assert "***" in told
    assert TOKEN not in told
    assert bare.running() == []


async def test_a_credential_that_is_taken_back_ends_nothing_but_the_next_call(bare: ModalEmulator) -> None:
    async with ModalProvider(**bare.options) as provider:
        assert [one async for one in provider.list()] == []
        bare.faults.revoked = True
        with pytest.raises(ProviderError, match="token_id"):
            await anext(provider.list(), None)
        bare.faults.clear()
        assert [one async for one in provider.list()] == []


async def test_modals_client_of_the_whole_process_is_not_touched(bare: ModalEmulator) -> None:
    theirs = vars(vendor.client._Client)  # type: ignore[attr-defined]  # noqa: SLF001 - what it keeps
    assert theirs["_client_from_env"] is None
    async with ModalProvider(**bare.options) as provider:
        assert [one async for one in provider.list()] == []
        assert theirs["_client_from_env"] is None


async def test_two_accounts_in_one_process_see_only_their_own(bare: ModalEmulator) -> None:
    async with (
        emulator(friendly=True) as other,
        ModalProvider(**bare.options) as first,
        ModalProvider(**other.options) as second,
    ):
        sandbox = await first.create(SandboxSpec())
        try:
            assert [one.id async for one in first.list()] == [sandbox.id]
            assert [one async for one in second.list()] == []
        finally:
            await sandbox.terminate()


@pytest.mark.parametrize(
    ("profile", "environment", "options", "said"),
    [
        ("server_url = 'URL'", {}, {}, "ConfigError the active profile of ~/.modal.toml sets server_url"),
        ("environment = 'dev'", {"MODAL_SERVER_URL": "URL"}, {}, "ConfigError the active profile"),
        ("sandbox_v2 = false", {}, {"server_url": "URL"}, "ConfigError sandbox_v2 is off"),
        ("", {"MODAL_SANDBOX_V2": "0"}, {"server_url": "URL"}, "ConfigError sandbox_v2 is off"),
        # Who says it all may have any profile: the server is asked, which refuses this credential.
        (
            "server_url = 'http://127.0.0.1:9'\nenvironment = 'dev'\nloglevel = 'ERROR'",
            {"MODAL_ENVIRONMENT": "main"},
            {"server_url": "URL"},
            "ProviderError",
        ),
    ],
    ids=["server", "environment", "first-kind", "first-kind-by-variable", "said-otherwise"],
)
async def test_a_profile_decides_nothing_and_is_refused_where_it_would(
    bare: ModalEmulator,
    tmp_path: Path,
    profile: str,
    environment: dict[str, str],
    options: dict[str, str],
    said: str,
) -> None:
    url = bare.options["server_url"]
    before = len(bare.calls)
    (tmp_path / "modal.toml").write_text(f"[mine]\nactive = true\n{profile.replace('URL', url)}\n")
    env = {name: value for name, value in os.environ.items() if not name.startswith("MODAL_")}
    env |= {name: value.replace("URL", url) for name, value in environment.items()}
    program = _OPEN.format(options={name: value.replace("URL", url) for name, value in options.items()})
    done = await anyio.run_process(
        [sys.executable, "-c", program], env={**env, "MODAL_CONFIG_PATH": str(tmp_path / "modal.toml")}
    )
    assert done.stdout.decode().startswith(said)
    assert (len(bare.calls) > before) is (said == "ProviderError")


async def test_a_closed_provider_asks_nothing_any_more(bare: ModalEmulator) -> None:
    async with ModalProvider(**bare.options) as provider:
        assert [one async for one in provider.list()] == []
        vendor = provider.vendor
    with pytest.raises(ProviderError, match="is closed"):
        await anext(provider.list(), None)
    with pytest.raises(ProviderError, match="is closed"):
        await vendor.app()
    never = ModalProvider(**bare.options)
    await never.aclose()
    with pytest.raises(ProviderError, match="is closed"):
        await anext(never.list(), None)
