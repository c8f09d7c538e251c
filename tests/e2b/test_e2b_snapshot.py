"""The files of a sandbox of E2B as a template: what begins there is another one, with no secret of it."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator

import anyio
import anyio.lowlevel
import e2b as vendor
import pytest

from agenthost.errors import (
    ConfigError,
    ProviderError,
    SandboxGoneError,
    SandboxPausedError,
    UnsupportedError,
)
from agenthost.link.client import GuestSandbox
from agenthost.providers.e2b import snapshot
from agenthost.providers.e2b.backend import E2BBackend
from agenthost.providers.e2b.provider import E2BProvider
from agenthost.spec import SandboxSpec
from agenthost.supports import SupportsSnapshot
from agenthost.testing.emulators.e2b import Emulator, Fault

BOOT = "/home/user/.agenthost"
LIMIT = 120


def backend_of(box: GuestSandbox) -> E2BBackend:
    assert isinstance(box.backend, E2BBackend)
    assert isinstance(box.backend, SupportsSnapshot)
    return box.backend


def snapshots_of(box: GuestSandbox) -> str:
    """Return the call that makes a snapshot, for faults."""
    return f"POST /sandboxes/{box.id}/snapshots"


@pytest.fixture
async def templates(e2b: Emulator) -> AsyncIterator[set[str]]:
    """Give the names of the templates that were there before; others are removed behind the test."""
    before = set(e2b.templates.all)
    yield before
    for name in set(e2b.templates.all) - before:
        e2b.templates.all.pop(name)


async def test_a_snapshot_is_where_a_sandbox_begins_when_the_first_has_long_ended(
    provider: E2BProvider, e2b: Emulator, templates: set[str]
) -> None:
    first = await provider.create(SandboxSpec(labels={"of": "the first"}))
    try:
        await first.write_file("kept", b"as it was")
        await first.exec(["sh", "-c", "mkdir -p d/e; chmod 700 d; ln -s ../kept d/link; echo rc > ~/.rc"])
        image = await backend_of(first).snapshot()
        await first.write_file("kept", b"changed")
        assert await first.read_file("kept") == b"changed"  # it goes on
    finally:
        await first.terminate()
    second = await provider.create(SandboxSpec(image=image))
    try:
        assert await second.read_file("kept") == b"as it was"
        said = await second.exec(["sh", "-c", "cat d/link ~/.rc; stat -c '%a %U' d"])
        assert said.stdout == b"as it wasrc\n700 user\n"
        info = await second.info()
        assert info.id != first.id
        assert "of" not in info.labels
        (made,) = set(e2b.templates.all) - templates
        assert made.startswith("agenthost-snapshot-")
        assert info.resources["template"] == made
        assert e2b.box(second.id).memory_mib == 2048  # the size of what it was made of
    finally:
        await second.terminate()


async def test_the_guest_of_the_first_is_not_taken_for_that_of_the_second(
    provider: E2BProvider, e2b: Emulator, templates: set[str]
) -> None:
    del e2b, templates
    spec = SandboxSpec(env={"OF": "the-first"})
    first = await provider.create(spec)
    second: GuestSandbox | None = None
    try:
        await first.exec(["sh", "-c", f"echo left > {BOOT}/spool/left; echo 1 > {BOOT}/guest.sock.left"])
        image = await backend_of(first).snapshot()
        second = await provider.create(SandboxSpec(image=image))  # while the first one is still there
        said = await second.exec(["sh", "-c", f"echo $OF; ls {BOOT}/spool {BOOT}"])
        assert said.stdout.startswith(b"\n")
        assert b"left" not in said.stdout
        await first.write_file("mine", b"1")
        with pytest.raises(FileNotFoundError):
            await second.read_file("mine")
        assert (await first.exec(["sh", "-c", "echo $OF"])).stdout == b"the-first\n"
    finally:
        await first.terminate()
        if second is not None:
            await second.terminate()


@pytest.mark.full
async def test_a_snapshot_holds_nothing_of_the_environment(
    provider: E2BProvider, e2b: Emulator, templates: set[str]
) -> None:
    del templates
    first = await provider.create(SandboxSpec(env={"OF_THE_SPEC": "known-to-nobody"}))
    try:
        assert (await first.exec(["printenv", "OF_THE_SPEC"])).stdout == b"known-to-nobody\n"
        image = await backend_of(first).snapshot()
    finally:
        await first.terminate()
    # By the vendor's client alone: agenthost would put things in order first.
    raw = await vendor.AsyncSandbox.create(image, timeout=600, **e2b.options)
    try:
        look = f"ls -A {BOOT}; grep -rl known-to-nobody /home/user /workspace"
        said = (await raw.commands.run(f"{look}; true")).stdout.split()
        assert "guest.pyz" in said
        assert "boot.json" not in said
        assert not any(line.startswith(("/home", "/workspace")) for line in said)
    finally:
        await raw.kill()


@pytest.mark.full
async def test_a_name_is_a_templates_and_another_snapshot_of_it_is_its_newest_build(
    provider: E2BProvider, box: GuestSandbox, templates: set[str]
) -> None:
    del templates
    images: list[str] = []
    for what, name in ((b"1", "Of-Today:noon"), (b"2", "of-today"), (b"3", "of-today")):
        await box.write_file("which", what)
        images.append(await backend_of(box).snapshot(name))
    assert images == ["emulated/of-today:noon", "emulated/of-today:default", "emulated/of-today:default"]
    for image, found in (("of-today:noon", b"1"), (images[1], b"3")):
        again = await provider.create(SandboxSpec(image=image))
        try:
            assert await again.read_file("which") == found
        finally:
            await again.terminate()


@pytest.mark.full
@pytest.mark.parametrize("name", ["no name", "someone-elses/name", "name:no tag"])
async def test_a_name_that_e2b_does_not_take_is_refused(
    box: GuestSandbox, e2b: Emulator, templates: set[str], name: str
) -> None:
    with pytest.raises(ConfigError, match=name.partition("/")[0]):
        await backend_of(box).snapshot(name)
    assert set(e2b.templates.all) == templates


async def test_an_account_that_cannot_leave_the_memory_out_is_refused_and_none_is_made_with_it(
    box: GuestSandbox, e2b: Emulator, templates: set[str]
) -> None:
    said = (
        "Snapshots without memory (memory: false) are not enabled for this team; a full snapshot still works"
    )
    e2b.faults.add(Fault(snapshots_of(box), status=400, message=said))
    with pytest.raises(UnsupportedError, match="secrets among it"):
        await backend_of(box).snapshot()
    assert e2b.calls.count(snapshots_of(box)) == 1
    assert set(e2b.templates.all) == templates


@pytest.mark.full
async def test_what_has_ended_or_is_paused_has_no_snapshot_and_stays_so(
    e2b: Emulator, box: GuestSandbox
) -> None:
    await backend_of(box).pause()
    with pytest.raises(SandboxPausedError):
        await backend_of(box).snapshot()
    assert e2b.box(box.id).state == "paused"
    await backend_of(box).resume()
    e2b.faults.add(Fault(snapshots_of(box), status=404))
    with pytest.raises(ProviderError, match="no such sandbox"):  # it runs: it was resumed meanwhile
        await backend_of(box).snapshot()
    await e2b.lose(box.id)
    with pytest.raises(SandboxGoneError):
        await backend_of(box).snapshot()


@pytest.mark.full
@pytest.mark.parametrize("status", [429, 502, 503])
async def test_a_busy_e2b_is_asked_again_for_the_same_snapshot(
    box: GuestSandbox, e2b: Emulator, templates: set[str], status: int
) -> None:
    e2b.faults.add(Fault(snapshots_of(box), status=status, after=True, headers={"retry-after": "0"}))
    image = await backend_of(box).snapshot()
    (made,) = set(e2b.templates.all) - templates
    assert image == f"emulated/{made}:default"


@pytest.mark.full
@pytest.mark.parametrize(
    ("status", "words"), [(429, "too many requests"), (503, "no capacity"), (409, "cannot do this now")]
)
async def test_an_e2b_that_goes_on_to_refuse_leaves_nothing(
    box: GuestSandbox, e2b: Emulator, templates: set[str], status: int, words: str
) -> None:
    # The first try was done: only the name tells.
    e2b.faults.add(Fault(snapshots_of(box), status=502, after=True, headers={"retry-after": "0"}))
    e2b.faults.add(Fault(snapshots_of(box), status=status, headers={"should-retry": "false"}))
    with pytest.raises(ProviderError, match=words):
        await backend_of(box).snapshot()
    assert set(e2b.templates.all) == templates


async def test_a_snapshot_whose_answer_is_lost_is_removed_where_nobody_named_it(
    box: GuestSandbox, e2b: Emulator, templates: set[str], caplog: pytest.LogCaptureFixture
) -> None:
    e2b.faults.add(Fault(snapshots_of(box), lose=True))
    with pytest.raises(ProviderError, match="answer of E2B was lost"):
        await backend_of(box).snapshot()
    assert set(e2b.templates.all) == templates
    e2b.faults.add(Fault(snapshots_of(box), lose=True))
    with pytest.raises(ProviderError, match="answer of E2B was lost"):
        await backend_of(box).snapshot("mine")
    assert set(e2b.templates.all) == templates | {"mine"}
    e2b.faults.add(Fault(snapshots_of(box), lose=True))
    e2b.faults.add(Fault("DELETE /templates/", status=500))
    with pytest.raises(ProviderError, match="answer of E2B was lost"):
        await backend_of(box).snapshot()
    assert set(e2b.templates.all) == templates | {"mine"}  # it was asked for again
    assert caplog.text == ""


@pytest.mark.full
@pytest.mark.parametrize(
    ("status", "why"), [(404, "does not have it yet"), (500, "client failed")], ids=["late", "failing"]
)
async def test_a_snapshot_that_may_come_later_is_looked_for_several_times_and_told_of_then(
    box: GuestSandbox,
    e2b: Emulator,
    templates: set[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    why: str,
) -> None:
    monkeypatch.setattr(snapshot, "_PAUSE", 0.0)
    caplog.set_level(logging.WARNING, logger="agenthost.providers.e2b")
    before = len(e2b.calls)
    for _ in range(4):
        e2b.faults.add(Fault("DELETE /templates/", status=status))
    e2b.faults.add(Fault(snapshots_of(box), lose=True))
    with pytest.raises(ProviderError, match="answer of E2B was lost"):
        await backend_of(box).snapshot()
    assert sum(call.startswith("DELETE /templates/") for call in e2b.calls[before:]) == 4
    (left,) = set(e2b.templates.all) - templates
    assert left in caplog.text
    assert why in caplog.text


async def test_a_machine_that_is_too_old_is_said_to_want_a_pause_and_a_resume(
    box: GuestSandbox, e2b: Emulator, templates: set[str]
) -> None:
    said = "Snapshots without memory are not supported on this sandbox's node; take a full snapshot"
    e2b.faults.add(Fault(snapshots_of(box), status=409, message=said))
    before = len(e2b.calls)
    with pytest.raises(ProviderError, match="Pause the sandbox, resume it"):
        await backend_of(box).snapshot()
    assert not any(call.startswith("DELETE") for call in e2b.calls[before:])
    assert set(e2b.templates.all) == templates


@pytest.mark.full
async def test_a_template_that_a_sandbox_runs_of_is_not_removed(
    provider: E2BProvider, box: GuestSandbox, e2b: Emulator, templates: set[str]
) -> None:
    image = await backend_of(box).snapshot()
    second = await provider.create(SandboxSpec(image=image))
    try:
        with pytest.raises(vendor.SandboxException, match="400"):
            await vendor.AsyncSandbox.delete_snapshot(image, **e2b.options)
    finally:
        await second.terminate()
    assert await vendor.AsyncSandbox.delete_snapshot(image, **e2b.options)
    assert set(e2b.templates.all) == templates


@pytest.mark.full
async def test_a_cancelled_snapshot_that_was_made_is_removed(
    box: GuestSandbox, e2b: Emulator, templates: set[str]
) -> None:
    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(backend_of(box).snapshot)
            while set(e2b.templates.all) == templates:
                await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
        await e2b.settled()
    assert set(e2b.templates.all) == templates


@pytest.mark.full
async def test_the_emulator_keeps_no_memory_and_says_so(
    box: GuestSandbox, e2b: Emulator, templates: set[str]
) -> None:
    with pytest.raises(vendor.SandboxException, match=r"501.*no memory"):
        await vendor.AsyncSandbox.create_snapshot(box.id, **e2b.options)
    with pytest.raises(vendor.SandboxException, match=r"501.*was there before"):
        await vendor.AsyncSandbox.create_snapshot(box.id, "base", mode="filesystem", **e2b.options)
    unnamed = await vendor.AsyncSandbox.create_snapshot(box.id, mode="filesystem", **e2b.options)
    assert unnamed.names == []
    assert await vendor.AsyncSandbox.delete_snapshot(unnamed.snapshot_id, **e2b.options)
    assert not await vendor.AsyncSandbox.delete_snapshot(unnamed.snapshot_id, **e2b.options)
    assert set(e2b.templates.all) == templates
