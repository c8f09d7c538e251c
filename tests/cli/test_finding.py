"""What a person types finds an agent, and a place in what it has written, or says why not."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli.detached import PLAIN, detached, happened

from agenthost import Cursor, SandboxSpec, open_provider
from agenthost.cli.finding import open_finder
from agenthost.cli.places import place_of
from agenthost.errors import AgentError, ConfigError
from agenthost.testing import FakeCLI

pytestmark = pytest.mark.usefixtures("host_key")


async def test_an_agent_is_found_by_its_name_a_beginning_its_sandbox_or_its_ref(tmp_path: Path) -> None:
    async with detached(tmp_path) as ref, open_finder() as finder:
        names = (ref.agent, ref.agent[:9], "agent-", ref.sandbox_name, ref.sandbox_name[:6], ref.to_json())
        for name in names:
            assert (await finder.agent(name)).name == ref.agent
        with pytest.raises(AgentError, match="there is no agent ''"):
            await finder.agent("")


async def test_of_many_a_name_must_mean_one(tmp_path: Path) -> None:
    async with open_provider(PLAIN) as provider, detached(tmp_path) as first:
        shared = await provider.create(SandboxSpec())
        try:
            with pytest.raises(AgentError, match=f"sandbox {shared.name} .* has no agent"):
                async with open_finder() as finder:
                    await finder.agent(shared.name)
            async with (
                detached(tmp_path, sandbox=shared) as second,
                detached(tmp_path, sandbox=shared) as third,
                open_finder() as finder,
            ):
                with pytest.raises(ConfigError, match="names more than one agent") as of_all:
                    await finder.agent("agent-")
                with pytest.raises(ConfigError, match="names more than one agent") as of_one:
                    await finder.agent(shared.name)
                with pytest.raises(AgentError, match="there is no agent 'agent-nope'") as none:
                    await finder.agent("agent-nope")
                for ref in (first, second, third):
                    assert (await finder.agent(ref.agent)).name == ref.agent
                    assert ref.agent in str(of_all.value)
                    assert ref.agent in str(none.value)
                assert first.agent not in str(of_one.value)
        finally:
            await shared.terminate()
    async with open_finder() as finder:
        for ref in (first, second):
            with pytest.raises(AgentError, match="any more"):
                await finder.agent(ref.to_json())


async def test_a_place_is_a_cursor_a_number_or_the_oldest(tmp_path: Path) -> None:
    async with detached(tmp_path, [FakeCLI.text("hi")]) as ref:
        await happened(ref, state="idle")
        async with open_finder() as finder:
            found = await finder.agent(ref.agent)
            assert await place_of("oldest", found) == await place_of("0", found) == Cursor()
            third = await place_of("3", found)
            assert third.seq == 3
            assert await place_of(str(third), found) == third
            end = Cursor(10**6, found.status.journal_end)  # nothing there can say otherwise
            assert await place_of(str(end), found) == end
            for text, why in (
                ("x", "no cursor"),
                ("3:7", "no place between two events"),
                (f"4:{third.offset}", "no place between two events"),
                ("99:99999999", "behind the end"),
                ("4711", "no event 4711 yet"),
            ):
                with pytest.raises(ConfigError, match=why):
                    await place_of(text, found)
