"""Make one sandbox, once: what has no answer is looked for by its name, and never tried again blindly."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, cast

import anyio
import modal
import modal.experimental

from agenthost.adapter.provider import NONCE_LABEL
from agenthost.errors import AgentHostError, ConfigError, SandboxNotFoundError
from agenthost.providers.modal import asked, paths, tags
from agenthost.providers.modal.account import Account
from agenthost.providers.modal.backend import ModalBackend, end_and_wait
from agenthost.providers.modal.errors import ModalError
from agenthost.providers.modal.images import find_image
from agenthost.sandbox import Boot
from agenthost.spec import SandboxSpec

_log = logging.getLogger("agenthost.modal")


async def make_sandbox(account: Account, spec: SandboxSpec, boot: Boot) -> ModalBackend:
    """Make a sandbox. Nothing is left when it raises.

    Raises:
        ConfigError: Its name is taken, or Modal has no such image, secret or environment.
        ModalError: Modal failed.
    """
    assert spec.name is not None
    client, app = await account.client(), await account.app()
    image = await find_image(account, spec.image)
    labels = {**spec.labels, **_told(account, spec, image)}
    wanted = await _arguments(account, spec)
    started = False
    make = cast("Any", modal.Sandbox).create.aio  # its keywords are typed in part

    async def create() -> modal.Sandbox:
        nonlocal started
        started = True
        made: modal.Sandbox = await make(
            "sh",
            "-c",
            paths.MAIN,
            "sh",
            paths.BOOT,
            paths.mark(labels[NONCE_LABEL]),
            str(paths.UNCLAIMED),
            app=app,
            name=spec.name,
            tags=labels,
            image=image,
            client=client,
            **wanted,
        )
        return made

    try:
        sandbox = await account.calls.once(f"make sandbox {spec.name}", account.times.create, create)
    except (ModalError, ConfigError) as error:
        sandbox = await _adopt(account, spec.name, labels[NONCE_LABEL], error)
    except SandboxNotFoundError as error:  # made, and it has ended while it was asked for
        await _undo(account, spec.name, labels[NONCE_LABEL])
        raise ModalError(str(error)) from error
    except BaseException:
        if started:
            await _undo(account, spec.name, labels[NONCE_LABEL])
        raise
    _log.info("sandbox %s is %s at Modal", spec.name, sandbox.object_id)
    return ModalBackend(account, account.keep(sandbox), labels, boot)


async def _arguments(account: Account, spec: SandboxSpec) -> dict[str, Any]:
    none = spec.network is not None and spec.network.mode == "none"
    wanted: dict[str, Any] = {
        "timeout": asked.timeout_of(spec),
        "cpu": asked.cpu_of(spec),
        "memory": asked.memory_of(spec),
        "region": spec.region,
        "runtime": account.settings.runtime,
        "block_network": none,
        "cloud": spec.provider_options.get(asked.CLOUD),
    }
    if (domains := asked.domains_of(spec.provider_options)) is not None:
        wanted["outbound_domain_allowlist"] = domains
    if spec.inject:
        wanted["_experimental_outbound_policy"] = await _policy(account, spec)
    return wanted


async def _policy(account: Account, spec: SandboxSpec) -> modal.experimental.OutboundPolicy:
    policy = modal.experimental.OutboundPolicy()
    for one in asked.replacements_of(spec.inject):
        secret = await account.secret(one.secret)
        policy = policy.with_header_replacement(
            domain=one.domain, secret=secret, headers={one.header: one.template}
        )
    return policy


def _told(account: Account, spec: SandboxSpec, image: modal.Image) -> Mapping[str, str]:
    assert spec.name is not None
    domains = spec.provider_options.get(asked.DOMAINS)
    mode = spec.network.mode if spec.network is not None else "open"
    told = {
        tags.NAME: spec.name,
        tags.RUNTIME: account.settings.runtime,
        tags.NETWORK: "open, domains by their TLS name" if domains is not None else mode,
        tags.CPU: f"{asked.cpu_of(spec):g}",
        tags.MEMORY: str(asked.memory_of(spec)),
        tags.IMAGE: image.object_id,
    }
    if spec.workdir is not None:
        told[tags.WORKDIR] = spec.workdir
    return told


async def _adopt(account: Account, name: str, nonce: str, error: Exception) -> modal.Sandbox:
    """Return the sandbox of a create that failed, if it was made: the nonce tells it from a namesake.

    That the name is taken can be the answer to our own request, which Modal's client sent again.
    """
    taken = isinstance(error.__cause__, modal.exception.AlreadyExistsError)
    if not taken and not (isinstance(error, ModalError) and error.may_have_happened):
        raise error
    found = None
    try:
        found = await _look(account, name, nonce, account.times.looks)
    except AgentHostError as unseen:
        _log.warning("sandbox %s: it is not known if it was made: %s", name, unseen)
    except BaseException:
        await _undo(account, name, nonce)
        raise
    if found is None:
        raise error
    _log.info("sandbox %s was made, though the answer was lost", name)
    return found


async def _undo(account: Account, name: str, nonce: str) -> None:
    """End what a cancelled create has made. What is made even later ends itself: no guest comes."""
    within = sum(account.times.looks) + account.times.end
    with anyio.move_on_after(within, shield=True) as scope:
        try:
            found = await _look(account, name, nonce, account.times.looks)
            if found is not None:
                doing = f"end sandbox {found.object_id}"
                await account.calls.repeatedly(doing, account.times.end, lambda: end_and_wait(found))
        except AgentHostError as error:
            _log.warning("sandbox %s: it is not known if anything is left of it: %s", name, error)
    if scope.cancelled_caught:
        _log.warning(
            "sandbox %s: it is not known if anything is left of it: no word within %g s",
            name,
            within,
        )


async def _look(account: Account, name: str, nonce: str, delays: tuple[float, ...]) -> modal.Sandbox | None:
    """Return the sandbox that has this name and nonce. It may appear a moment later."""
    for delay in delays:
        await anyio.sleep(delay)
        found = await account.by_name(name)
        if found is None:
            continue
        try:
            ours = (await account.tags(found)).get(NONCE_LABEL) == nonce
        except SandboxNotFoundError:
            continue
        return found if ours else None
    return None
