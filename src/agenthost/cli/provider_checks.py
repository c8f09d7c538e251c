"""What ``agenthost doctor`` finds out about providers: briefly about all, and all about one."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import TYPE_CHECKING

import anyio

from agenthost.adapter.cloud import CloudProvider
from agenthost.cli.checks import Check, State
from agenthost.cli.configured_providers import Names
from agenthost.cli.providers import look_at
from agenthost.errors import AgentHostError, MissingCredentialError, MissingExtraError
from agenthost.registry import open_provider
from agenthost.spec import SandboxSpec
from agenthost.supports import SupportsPlanLimits

if TYPE_CHECKING:
    from agenthost.adapter.prices import Prices
    from agenthost.sandbox import SandboxProvider

_PATIENCE = 60.0  # seconds that a provider may take to answer
_BAKING = 10  # minutes that a first bake is taken to last
_KINDS = {"local", "docker"}  # have checks of their own
UNISOLATED = "local-unisolated"


def check_providers(names: Names) -> list[Check]:
    """Report on each installed provider, without a call to its vendor and without importing its client."""
    found: list[Check] = []
    for name in sorted({*names.names, *names.wrong} - _KINDS):
        try:
            if name in names.wrong:
                raise names.wrong[name]
            provider = open_provider(names.named(name))
        except MissingExtraError:
            continue
        except MissingCredentialError as error:
            found.append(_row(name, "optional", "installed, not set up", str(error)))
        except AgentHostError as error:
            found.append(_row(name, "optional", "cannot be used", str(error)))
        except Exception as error:  # noqa: BLE001 - code of a third party, which must not hide the others
            found.append(_row(name, "optional", f"fails: {type(error).__name__}: {error}", ""))
        else:
            if name == UNISOLATED:
                found.append(_row(name, "optional", "runs programs without isolation: for tests", ""))
            elif _is_remote(provider):
                detail = f"set up, not contacted: agenthost doctor --provider {name}"
                found.append(_row(name, "ok", detail, ""))
            else:
                found.append(_row(name, "ok", "set up", ""))
    return found


async def check_docker(names: Names) -> Check:
    """Report whether a container engine answers, for the docker provider with its options."""
    row = await look_at(names.named("docker"))
    if row.state == "usable":
        return _row("docker", "ok", "a container engine answers", "")
    return _row("docker", "optional", "for the docker provider", row.remedy)


async def check_one(names: Names, name: str) -> AsyncGenerator[Check]:
    """Yield what there is to know before the first sandbox of one provider, in the order to put it right.

    The vendor is asked for the sandboxes and the image of the account; nothing is made.

    Args:
        names: The known providers, with their options.
        name: The one to look at.

    Raises:
        UnknownProviderError: There is no such provider; the message lists those that exist.
        ConfigError: Its options in the config are not valid.
    """
    try:
        opened = open_provider(names.named(name))
    except MissingExtraError as error:
        yield _row("package", "missing", "not installed", str(error))
        return
    except MissingCredentialError as error:
        yield _row("package", "ok", "installed")
        yield _row("credentials", "missing", "not found", str(error))
        return
    yield _row("package", "ok", "installed")
    yield _row("credentials", "ok", "found" if _is_remote(opened) else "none needed")
    async with opened as provider:
        reached = await _reach(provider)
        yield reached
        yield await _limits(provider, reached.state)
        if reached.state == "ok":
            yield await _image(provider)
    yield _first_run(provider)


async def _reach(provider: SandboxProvider) -> Check:
    began, count = time.monotonic(), 0
    try:
        with anyio.fail_after(_PATIENCE):
            async for _ in provider.list():
                count += 1
    except TimeoutError:
        return _row(
            "API", "missing", f"no answer within {_PATIENCE:g} s", "look whether this host reaches it"
        )
    except (AgentHostError, OSError) as error:
        return _row("API", "missing", "cannot be used", str(error))
    except Exception as error:  # noqa: BLE001 - code of a third party
        return _row("API", "missing", f"the provider fails: {type(error).__name__}: {error}")
    there = {0: "no sandbox of agenthost is there", 1: "one sandbox of agenthost is there"}
    detail = f"answers; {there.get(count, f'{count} sandboxes of agenthost are there')}"
    facts = {"seconds": f"{time.monotonic() - began:.2f}", "sandboxes": str(count)}
    return _row("API", "ok", detail, facts=facts)


async def _limits(provider: SandboxProvider, reached: State) -> Check:
    able = provider.capabilities
    parts = [f"networks: {', '.join(sorted(able.networks))}"]
    reported: Mapping[str, str] = {}
    if isinstance(provider, SupportsPlanLimits) and reached == "ok":
        try:
            with anyio.fail_after(_PATIENCE):
                reported = await provider.plan_limits()
        except (AgentHostError, OSError) as error:
            detail = "what the account may have cannot be asked for"
            return _row("limits", "optional", detail, str(error) or "the vendor did not answer")
        parts += [f"{name}: {value}" for name, value in reported.items()]
    elif isinstance(provider, CloudProvider):
        longest = provider.longest / 3600
        most = "as long as you ask for" if math.isinf(longest) else f"{longest:g} hours at most"
        parts.insert(0, f"a sandbox lives {most}, or less by your plan")
        parts.append("the API does not report your plan: a limit is known when a sandbox is refused")
    return _row("limits", "ok", "; ".join(parts), facts=reported)


async def _image(provider: SandboxProvider) -> Check:
    if not provider.capabilities.images:
        return _row("image", "ok", "this provider builds no images: an agent starts from its own image")
    find: Callable[[], Awaitable[str | None]] | None = getattr(provider, "baked", None)  # see ImagesProvider
    if find is None:
        detail = "not looked for: `agenthost bake` finds one that is there"
        return _row("image", "optional", detail, f"agenthost bake {provider.name}")
    try:
        with anyio.fail_after(_PATIENCE):
            image = await find()
    except (AgentHostError, OSError) as error:
        return _row("image", "optional", "cannot be looked for", str(error) or "the vendor did not answer")
    if image is not None:
        return _row("image", "ok", f"{image} is baked")
    detail = "not baked: a first agent installs its SDK when it starts, which takes minutes and a network"
    return _row("image", "optional", detail, f"agenthost bake {provider.name}")


def _first_run(provider: SandboxProvider) -> Check:
    """Report what a first run costs and leaves: an estimate from published prices."""
    name = "first run"
    if not _is_remote(provider):
        return _row(name, "ok", "costs nothing, and leaves nothing when it has ended")
    prices: Prices | None = getattr(provider, "prices", None)
    lifetime: float = getattr(provider, "default_lifetime", SandboxSpec().max_lifetime or 3600.0)
    hours = f"{lifetime / 3600:g} hour{'s' * (lifetime != 3600)}"
    end = f"a sandbox ends with its agent, and after {hours} in any case"
    if prices is None:
        return _row(name, "ok", f"the price is not known here; {end}")
    size = f"{prices.cores:g} cores and {prices.memory_gib:g} GiB"
    detail = f"about ${prices.per_hour:.3f} an hour for {size} ({prices.read}); {end}"
    if provider.capabilities.images:
        baking = prices.per_hour * _BAKING / 60
        detail += f"; a bake costs up to about ${baking:.2f} and leaves an image: {prices.kept}"
    else:
        detail += "; agenthost leaves no image"
    facts = {"usd_per_hour": f"{prices.per_hour:.4f}", "prices_read": prices.read}
    return _row(name, "ok", f"{detail}. The model's tokens are not in it", facts=facts)


def _is_remote(provider: SandboxProvider) -> bool:
    return provider.name not in (*_KINDS, UNISOLATED)


def _row(
    name: str, state: State, detail: str, remedy: str = "", facts: Mapping[str, str] | None = None
) -> Check:
    return Check(name=name, state=state, detail=detail, remedy=remedy, facts=facts or {})
