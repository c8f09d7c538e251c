"""Hosts at a guest's port: vendors' headers, refusals, renewals, and what is not the guest."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest
from http_carrier.conftest import Behind
from http_carrier.port_provider import HEADER, PortProvider, upstream_of
from support.old_python import old_python
from support.waiting import until_true

from agenthost.errors import LinkLostError, ProviderError, SandboxGoneError
from agenthost.link.client import GuestSandbox
from agenthost.spec import Limits, SandboxSpec
from agenthost.testing.edge import Edge, EdgeFault, EdgeRules

SECONDS = 60.0  # until a test is taken to hang
EXPIRED = EdgeFault("refuse", status=401)


async def test_the_vendors_headers_are_asked_for_at_each_dial(behind: Behind) -> None:
    with anyio.fail_after(SECONDS):
        async with behind(EdgeRules()) as (edge, provider, sandbox):
            provider.headers = {"authorization": "Bearer second"}
            edge.plan(EXPIRED)
            assert (await sandbox.exec(["echo", "on"])).stdout == b"on\n"
            assert [request.headers.get("authorization") for request in edge.requests][:2] == [None, None]
            assert edge.requests[-1].headers["authorization"] == "Bearer second"
            assert provider.asked == 2


@pytest.mark.parametrize("refusal", [SandboxGoneError("gone"), ProviderError("no token at the moment")])
async def test_a_vendor_that_refuses_ends_the_link_or_has_it_dial_again(
    behind: Behind, refusal: Exception
) -> None:
    with anyio.fail_after(SECONDS):
        async with behind(EdgeRules()) as (edge, provider, sandbox):
            provider.refusal = refusal
            edge.plan(EXPIRED)
            if isinstance(refusal, SandboxGoneError):
                with pytest.raises(SandboxGoneError, match="gone"):
                    await sandbox.exec(["true"])
                return
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(sandbox.exec, ["true"])
                await until_true(lambda: provider.asked >= 3)
                provider.refusal = None


async def test_a_host_that_had_to_poll_polls_at_once_when_it_dials_again(behind: Behind) -> None:
    with anyio.fail_after(SECONDS):
        async with behind(EdgeRules(complete=True)) as (edge, provider, sandbox):
            first = len(edge.requests)
            edge.plan(EXPIRED)
            assert (await sandbox.exec(["echo", "on"])).stdout == b"on\n"
            asked = [request.target for request in edge.requests[first:] if request.method == "GET"]
            assert all("mode=poll" in target for target in asked)
            assert provider.asked == 2


async def test_a_page_of_an_edge_is_not_taken_for_the_guest(direct: PortProvider, box: GuestSandbox) -> None:
    del direct
    with anyio.fail_after(SECONDS):
        async with Edge() as edge, edge.serve(upstream_of) as url, PortProvider(edge=url) as provider:
            edge.plan(EdgeFault("refuse", status=200))
            sandbox = await provider.get(box.id)
            assert (await sandbox.exec(["echo", "on"])).stdout == b"on\n"
            assert provider.asked == 2


async def test_a_host_with_another_secret_is_not_answered(box: GuestSandbox) -> None:
    with anyio.fail_after(SECONDS):
        async with PortProvider(
            secret="another secret of the deployment", limits=Limits(link_budget=0.3)
        ) as other:
            with pytest.raises(LinkLostError, match=r"404.*another deployment secret"):
                await other.get(box.id)


async def test_an_answer_that_the_guest_renews_costs_no_carrier() -> None:
    with anyio.fail_after(SECONDS):
        async with Edge() as edge, edge.serve(upstream_of) as url, PortProvider(edge=url) as provider:
            provider.options = {"renew": 0.1}
            sandbox = await provider.create(SandboxSpec())
            dialled = provider.asked
            try:
                async with sandbox.spawn(["cat"]) as process:
                    await until_true(lambda: any("request=2" in each.target for each in edge.requests))
                    await process.send_stdin(b"on and on")
                    assert await process.receive_stdout() == b"on and on"
                    assert provider.asked == dialled
            finally:
                await sandbox.terminate()


@pytest.mark.full
async def test_a_guest_that_listens_at_every_address_of_ipv6_is_reached_by_ipv4() -> None:
    with anyio.fail_after(SECONDS):
        async with PortProvider() as provider:
            provider.address = "::"
            sandbox = await provider.create(SandboxSpec())
            try:
                assert (await sandbox.exec(["echo", "on"])).stdout == b"on\n"
            finally:
                await sandbox.terminate()


@pytest.mark.full
async def test_a_port_works_on_the_oldest_python(monkeypatch: pytest.MonkeyPatch) -> None:
    python = old_python()
    monkeypatch.setattr("agenthost.providers.local.local_unisolated.host_interpreter", lambda: python)
    with anyio.fail_after(SECONDS):
        async with PortProvider() as provider:
            provider.same_python = False
            sandbox = await provider.create(SandboxSpec())
            try:
                assert (await sandbox.exec(["head", "-c", "1000000", "/dev/zero"])).stdout == bytes(1_000_000)
            finally:
                await sandbox.terminate()


async def test_batches_share_a_connection(direct: PortProvider, box: GuestSandbox) -> None:
    number = int((await direct.endpoint((await box.info()).labels)).headers[HEADER])

    def connections() -> set[str]:
        """Return the hosts' ends of all connections to the guest's port, those that have just ended, too."""
        lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        return {line[1] for line in lines if line[2].endswith(f":{number:04X}")}

    await box.exec(["true"])
    before = connections()
    for _ in range(10):
        await box.exec(["true"])
    assert connections() <= before
