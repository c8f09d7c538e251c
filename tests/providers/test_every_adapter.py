"""What every adapter does, whichever vendor's it is. A row of ``providers.rows`` is one adapter."""

from __future__ import annotations

import importlib.util
import math
import re
import socket
import sys
import traceback
from collections.abc import Awaitable, Callable, Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import anyio
import pytest
from providers.row import Example, Row, World, every
from providers.rows import ROWS, USUAL
from support.planned_answers import PlannedApi
from support.waiting import until, until_true

from agenthost.adapter.bake import BakePlan
from agenthost.adapter.bootstrap import host_sdk_version
from agenthost.adapter.calls import Calls
from agenthost.adapter.provider import GuestProvider
from agenthost.adapter.rest import RestClient, RestError
from agenthost.errors import (
    AgentHostError,
    ConfigError,
    MissingCredentialError,
    MissingExtraError,
    NameTakenError,
    ProviderError,
    SandboxNotFoundError,
    UnsupportedError,
)
from agenthost.spec import SandboxSpec, generate_name
from agenthost.supports import ImageRecipe, SupportsImages

LIMIT = 120  # seconds for what has to happen; nothing waits that long
ODD = {"team": "a b", "ünï/cödé": "100 % _5F\n\\", "empty": "", "UPPER.dot-dash_": "=,;:\"'", "_": "_"}
# Every name under which agenthost itself keeps something.
RESERVED = ("name", "provider", "workdir", "nonce", "owner", "created", "end", "lease")


def has_credential(row: Row) -> object:
    return row.credentials


def is_asyncio_only(row: Row) -> bool:
    return row.asyncio_only


def is_remote(row: Row) -> bool:
    return row.create is not None


def calls_of(row: Row) -> Calls:
    found: Any = row.make(**row.wrong)
    assert isinstance(found.vendor.calls, Calls)
    return found.vendor.calls


# ---- credentials and packages


@every(ROWS, has_credential, loops=False)
def test_a_credential_that_is_missing_is_named_with_every_argument_and_variable(
    row: Row, monkeypatch: pytest.MonkeyPatch
) -> None:
    for missing in row.credentials:
        with monkeypatch.context() as patch:
            for name, variable in row.credentials.items():
                if name != missing:
                    patch.setenv(variable, row.wrong[name])
            with pytest.raises(MissingCredentialError) as caught:
                row.make()
        for word in (row.name, *(f"{name}=" for name in row.credentials), *row.credentials.values()):
            assert word in str(caught.value)
        for secret in row.wrong.values():
            assert secret not in str(caught.value)


@every(ROWS, has_credential)
async def test_a_credential_is_the_given_one_and_else_that_of_the_environment(
    row: Row, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    rest = {name: value for name, value in world.options.items() if name not in row.credentials}
    for name, variable in row.credentials.items():
        monkeypatch.setenv(variable, row.wrong[name])
    async with row.make(**world.options) as provider:
        assert [info async for info in provider.list()] == []
    async with row.make(**rest) as provider:
        with pytest.raises(ProviderError):
            await anext(aiter(provider.list()), None)
    for name, variable in row.credentials.items():
        monkeypatch.setenv(variable, world.options[name])
    async with row.make(**rest) as provider:
        assert [info async for info in provider.list()] == []


@every(ROWS, has_credential)
async def test_a_credential_that_is_refused_is_in_no_error_and_no_repr(row: Row, world: World) -> None:
    async with row.make(**{**world.options, **row.wrong}) as provider:
        shown = f"{provider!r} {cast('Any', provider).vendor!r}"
        with pytest.raises(ProviderError) as caught:
            await provider.create(SandboxSpec())
    shown += "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    assert caught.value.outcome == "refused"
    assert [name for name in row.secrets if row.wrong[name] in shown] == []
    assert await world.running() == []


@every(ROWS, lambda row: row.package, loops=False)
def test_without_the_vendors_package_the_error_holds_the_command_that_installs_it(
    row: Row, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec

    def find_others(name: str, package: str | None = None) -> object:
        hidden = name.partition(".")[0] in (row.package, row.former)
        return None if hidden else find(name, package)

    monkeypatch.setattr("importlib.util.find_spec", find_others)
    with pytest.raises(MissingExtraError, match=rf"pip install 'agenthost\[{row.name}\]'"):
        row.make(**row.wrong)


@every(ROWS, lambda row: row.package)
async def test_the_vendors_package_is_not_imported_before_it_is_needed(row: Row) -> None:
    module = row.make.__module__
    program = (
        f"import sys, {module}; sys.modules[{module!r}].{row.make.__name__}(**{dict(row.wrong)!r}); "
        f"print({row.package!r} in sys.modules)"
    )
    done = await anyio.run_process([sys.executable, "-c", program])
    assert done.stdout == b"False\n", done.stderr


# ---- event loops


@contextmanager
def unanswered() -> Generator[tuple[str, Callable[[], bool]]]:
    """Yield a URL at which nothing is answered, and whether somebody has tried to connect to it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)

        def was_called() -> bool:
            try:
                server.accept()[0].close()
            except BlockingIOError:
                return False
            return True

        yield f"http://127.0.0.1:{server.getsockname()[1]}", was_called


def run_on_trio(main: Callable[[], Awaitable[None]]) -> None:
    """Run a program on trio in a thread of its own: this one has the event loop of the fixtures."""
    with ThreadPoolExecutor(1) as threads:
        threads.submit(partial(anyio.run, main, backend="trio")).result()


@every(ROWS, is_asyncio_only, loops=False)
@pytest.mark.parametrize("step", ["connect", "create", "get", "list", "build"])
def test_trio_is_refused_by_name_before_any_call(row: Row, step: str) -> None:
    async def main(address: str) -> None:
        provider = row.make(**row.wrong, **dict.fromkeys(row.address, address))
        steps: Mapping[str, Callable[[], Awaitable[object]]] = {
            "connect": provider.connect,
            "create": partial(provider.create, SandboxSpec()),
            "get": partial(provider.get, "sb-1"),
            "list": lambda: anext(aiter(provider.list())),
            "build": partial(cast("SupportsImages", provider).build, ImageRecipe()),
        }
        with pytest.raises(UnsupportedError, match=f"the {row.name} provider cannot run on trio.*asyncio"):
            await steps[step]()

    with unanswered() as (address, was_called):
        run_on_trio(partial(main, address))
        assert not was_called()


@every(ROWS, lambda row: not row.asyncio_only, loops=False)
def test_it_works_on_trio_where_the_vendors_client_does(row: Row, needed: Mapping[str, Any]) -> None:
    async def main() -> None:
        with anyio.fail_after(LIMIT):
            async with row.serve(needed) as world, row.make(**world.options) as provider:
                box = await provider.create(SandboxSpec())
                try:
                    assert (await box.exec(["echo", "here"])).stdout == b"here\n"
                finally:
                    await box.terminate()
                assert await world.running() == []

    run_on_trio(main)


# ---- the vendor's errors


@every(ROWS, lambda row: row.errors, loops=False)
def test_each_error_of_the_vendor_has_its_meaning(row: Row) -> None:
    assert row.errors is not None
    calls = calls_of(row)
    for example in row.errors()[1]:
        made = calls.translate(example.error, "doing something")
        assert type(made) is example.raises, example
        assert getattr(made, "outcome", "") == example.outcome, example
        assert example.words in str(made), example
        assert str(made).startswith("doing something: "), example


def is_refusal(example: Example) -> bool:
    """Return whether an example is an answer over REST, to any call."""
    return type(example.error) is RestError and example.error.status_code >= 300


@every(ROWS, lambda row: row.errors and any(map(is_refusal, row.errors()[1])))
async def test_each_refusal_over_rest_has_its_meaning_as_it_comes(row: Row) -> None:
    assert row.errors is not None
    calls = calls_of(row)
    with PlannedApi.serving() as api:
        client = RestClient(api.url, lambda: ({}, {}))
        for example in filter(is_refusal, row.errors()[1]):
            error = cast("RestError", example.error)
            message = str(error).partition(": ")[2]
            api.answer(error.status_code, {"error": {"code": error.code, "message": message}})
            with pytest.raises(example.raises, match=re.escape(example.words)):
                async with calls.bounded("doing something"):
                    await client.ask("GET", "/sandboxes")
        await client.aclose()


@every(ROWS, lambda row: row.errors, loops=False)
def test_each_row_of_the_table_of_errors_is_the_first_that_fits_an_example(row: Row) -> None:
    assert row.errors is not None
    table, examples = row.errors()
    reached = [next((one for one in table if one.fits(example.error)), None) for example in examples]
    assert [one for one in table if not any(found is one for found in reached)] == []


@every(ROWS, lambda row: row.errors)
async def test_no_error_holds_a_secret_that_the_vendor_quotes(row: Row) -> None:
    assert row.errors is not None
    calls, canary = calls_of(row), "canary-of-one-call"
    for example in row.errors()[1]:
        error = example.error
        quoted = [*(row.wrong[name] for name in row.secrets), canary]
        error.args = (f"{error} {' '.join(quoted)}",)
        assert canary in str(error)
        with pytest.raises(AgentHostError) as caught:
            async with calls.bounded("making", secrets=(canary,)):
                raise error
        shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
        assert [secret for secret in quoted if secret in shown] == [], example


# ---- one create, one sandbox


@every(ROWS, is_remote, normal=USUAL)
async def test_a_create_whose_answer_is_lost_is_found_and_used(
    row: Row, world: World, provider: GuestProvider
) -> None:
    del row
    world.lose_answer()
    with anyio.fail_after(LIMIT):
        box = await provider.create(SandboxSpec())
    try:
        assert await world.running() == [box.id]
        assert (await box.exec(["echo", "once"])).stdout == b"once\n"
    finally:
        await box.terminate()


@every(ROWS, is_remote)
async def test_a_create_that_made_nothing_is_an_error_and_not_tried_again(
    row: Row, world: World, provider: GuestProvider
) -> None:
    before = world.calls.count(str(row.create))
    world.drop(math.inf)
    with anyio.fail_after(LIMIT), pytest.raises(ProviderError) as caught:
        await provider.create(SandboxSpec())
    assert caught.value.outcome == "unknown"
    assert world.calls.count(str(row.create)) - before == row.tries
    assert await world.running() == []


@every(ROWS, is_remote, normal=USUAL)
async def test_what_is_found_is_found_by_name_and_nonce(
    row: Row, world: World, provider: GuestProvider
) -> None:
    name = generate_name()
    raised: list[AgentHostError] = []

    async def create() -> None:
        try:
            await provider.create(SandboxSpec(name=name))
        except AgentHostError as error:
            raised.append(error)
        else:
            pytest.fail("the namesake was taken")

    async with row.make(**world.options) as other, anyio.create_task_group() as tasks:
        with anyio.fail_after(LIMIT):
            gate = world.hold(then_drop=True)
            tasks.start_soon(create)
            await gate.struck.wait()
            namesake = await other.create(SandboxSpec(name=name))
            try:
                world.drop(math.inf)  # where the vendor's client tries again by itself
                gate.release()
                await until_true(lambda: raised)
                assert await world.running() == [namesake.id]
                assert (await namesake.exec(["echo", "mine"])).stdout == b"mine\n"
            finally:
                world.clear()
                await namesake.terminate()


@every(ROWS, is_remote, normal=USUAL)
async def test_a_create_that_is_cancelled_leaves_nothing(
    row: Row, world: World, provider: GuestProvider
) -> None:
    before = world.calls.count(str(row.create))
    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:
            gate = world.hold()
            tasks.start_soon(provider.create, SandboxSpec())
            await gate.struck.wait()
            tasks.cancel_scope.cancel()
            gate.release()
        await until(world.running, lambda found: not found)
    assert world.calls.count(str(row.create)) - before == 1
    assert [info async for info in provider.list()] == []


@every(ROWS, normal=USUAL)
async def test_a_name_that_is_taken_is_refused_and_the_one_that_has_it_lives_on(
    world: World, provider: GuestProvider
) -> None:
    name = generate_name()
    box = await provider.create(SandboxSpec(name=name))
    try:
        before = await world.running()
        with pytest.raises(NameTakenError, match=name):
            await provider.create(SandboxSpec(name=name))
        assert await world.running() == before
        assert (await box.exec(["echo", "mine"])).stdout == b"mine\n"
    finally:
        await box.terminate()
    again = await provider.create(SandboxSpec(name=name))  # of one that has ended
    await again.terminate()


# ---- images


@every(ROWS, lambda row: row.bakes, loops=False)
def test_an_image_is_named_by_all_that_goes_into_it(row: Row) -> None:
    def name(recipe: ImageRecipe, **options: object) -> str:
        plan: BakePlan = cast("Any", row.make(**row.wrong, **options)).plan(recipe)
        return plan.name

    usual = name(ImageRecipe())
    assert usual.startswith(f"agenthost-sdk-{host_sdk_version().replace('.', '-')}-")
    others = [
        name(ImageRecipe(base="mine")),
        name(ImageRecipe(packages=("a", "b"))),
        name(ImageRecipe(packages=("a",))),
        name(ImageRecipe(sdk_version="0.1")),
        *(name(ImageRecipe(), **{option: value}) for option, value in (row.bakes or {}).items()),
    ]
    assert len({usual, *others}) == 1 + len(others)
    assert usual == name(ImageRecipe(sdk_version=host_sdk_version()))
    assert name(ImageRecipe(packages=("b", "a"))) == name(ImageRecipe(packages=("a", "b")))


# ---- labels


@every(ROWS, normal=USUAL)
async def test_labels_come_back_as_they_were_given_and_find_their_sandbox(
    world: World, provider: GuestProvider
) -> None:
    del world
    box = await provider.create(SandboxSpec(labels=ODD))
    other = await provider.create(SandboxSpec(labels={**ODD, "team": "a_b"}))
    try:
        (listed,) = [info async for info in provider.list(ODD)]
        for info in (listed, await box.info()):
            assert {name: info.labels[name] for name in ODD} == ODD
            assert info.name == box.name
        for name, value in ODD.items():
            assert box.id in [info.id async for info in provider.list({name: value})]
            assert [info async for info in provider.list({name: f"{value}x"})] == []
    finally:
        await box.terminate()
        await other.terminate()


@every(ROWS)
async def test_names_of_labels_that_are_agenthosts_own_are_refused_before_any_call(
    world: World, provider: GuestProvider
) -> None:
    before = len(world.calls)
    for name in RESERVED:
        with pytest.raises(ConfigError, match=f"'agenthost-{name}' is reserved"):
            await provider.create(SandboxSpec(labels={f"agenthost-{name}": "1"}))
    assert len(world.calls) == before


@every(ROWS, lambda row: row.disown, normal=USUAL)
async def test_a_sandbox_that_agenthost_did_not_make_is_neither_listed_nor_taken(
    row: Row, world: World, provider: GuestProvider
) -> None:
    assert row.disown is not None
    box = await provider.create(SandboxSpec(labels={"team": "a"}))
    try:
        assert [info.id async for info in provider.list({"team": "a"})] == [box.id]
        row.disown(world, box.id)
        assert [info async for info in provider.list({"team": "a"})] == []
        with pytest.raises(SandboxNotFoundError, match="not made by agenthost"):
            await provider.get(box.id)
    finally:
        await box.terminate()


# ---- what cannot be


@every(ROWS, lambda row: row.longest)
async def test_a_lifetime_above_the_longest_is_refused_before_any_call(
    row: Row, world: World, provider: GuestProvider
) -> None:
    assert row.longest is not None
    before = len(world.calls)
    with pytest.raises(UnsupportedError, match=rf"max_lifetime=.*{row.longest / 3600:g} hours"):
        await provider.create(SandboxSpec(max_lifetime=row.longest + 1))
    assert len(world.calls) == before
    box = await provider.create(SandboxSpec(max_lifetime=row.longest))
    await box.terminate()


@every(ROWS)
async def test_an_option_that_the_provider_does_not_know_is_refused_before_any_call(
    row: Row, world: World, provider: GuestProvider
) -> None:
    before = len(world.calls)
    with pytest.raises(ConfigError, match=f"no_such_option.*{row.name}"):
        await provider.create(SandboxSpec(provider_options={"no_such_option": 1}))
    assert len(world.calls) == before
