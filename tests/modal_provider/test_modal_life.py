"""Finding, listing, keeping and ending sandboxes at Modal."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import anyio
import modal as vendor
import pytest
from modal_provider.accounts import BOOT, vendor_of
from support.boxes import own_box

from agenthost.adapter.cloud import mark
from agenthost.adapter.record import NAME_LABEL, NONCE_LABEL
from agenthost.errors import (
    SandboxGoneError,
    SandboxNotFoundError,
    UnsupportedError,
)
from agenthost.link.client import GuestSandbox
from agenthost.owners import CREATED_LABEL, END_LABEL
from agenthost.providers.modal.provider import ModalProvider
from agenthost.providers.modal.workarounds import MAIN
from agenthost.spec import SandboxSpec
from agenthost.supports import SupportsHeaderInjection, SupportsImages, SupportsSnapshot
from agenthost.testing.emulators.modal import ModalEmulator

LIMIT = 120
SANDBOX = cast("Any", vendor.Sandbox)  # typed in part


@pytest.fixture(scope="module")
async def provider(bare: ModalEmulator) -> AsyncIterator[ModalProvider]:
    async with ModalProvider(**bare.options) as opened:
        yield opened


@pytest.fixture(scope="module")
async def box(provider: ModalProvider) -> AsyncIterator[GuestSandbox]:
    async with own_box(provider) as sandbox:
        yield sandbox


@pytest.mark.full
async def test_more_than_a_page_of_sandboxes_is_listed_newest_first_and_only_ours(
    provider: ModalProvider, bare: ModalEmulator
) -> None:
    account = vendor_of(bare)
    app, client = await account.app(), await account.client()
    image = vendor.Image.debian_slim(python_version="3.13")
    foreign = await SANDBOX.create.aio(
        "sleep", "infinity", app=app, client=client, image=image, tags={"life": "1"}, timeout=600
    )
    nonsense = {NONCE_LABEL: "1", CREATED_LABEL: "yesterday", END_LABEL: "never", NAME_LABEL: "like-ours"}
    strange = await SANDBOX.create.aio(
        "sleep", "infinity", app=app, client=client, image=image, tags={"life": "1", **nonsense}, timeout=600
    )
    made = [await provider.create(SandboxSpec(labels={"life": "1"})) for _ in range(3)]
    try:
        listed = [one.id async for one in provider.list({"life": "1"})]
        assert listed == [one.id for one in reversed(made)]
        with pytest.raises(SandboxNotFoundError, match="not made by agenthost"):
            await provider.get(foreign.object_id)
        with pytest.raises(SandboxNotFoundError, match="not made by agenthost"):
            await provider.get(strange.object_id)
    finally:
        for one in made:
            await one.terminate()
        await foreign.terminate.aio()
        await strange.terminate.aio()
        await account.aclose()


@pytest.mark.parametrize("name", ["sb-0123456789ABCDEFGHIJKL", "sb-00000000000000000000000000", "no id", ""])
async def test_an_id_that_modal_does_not_know_is_not_found(provider: ModalProvider, name: str) -> None:
    with pytest.raises(SandboxNotFoundError):
        await provider.get(name)


async def test_what_has_ended_is_not_found_and_ends_again_without_a_word(
    provider: ModalProvider, bare: ModalEmulator
) -> None:
    box = await provider.create(SandboxSpec())
    bare.expire(box.id)
    await box.terminate()
    await box.terminate()
    with pytest.raises(SandboxNotFoundError):
        await provider.get(box.id)
    assert (await box.info()).state == "ended"


async def test_an_end_whose_answer_is_lost_is_asked_for_again(
    provider: ModalProvider, bare: ModalEmulator
) -> None:
    box = await provider.create(SandboxSpec())
    # Modal's client asks four times by itself.
    bare.faults.lose_answer("SandboxTerminateV2", "INTERNAL", times=5)
    before = bare.calls.count("SandboxTerminateV2")
    await box.terminate()
    assert box.id not in bare.running()
    assert bare.calls.count("SandboxTerminateV2") - before == 6
    assert (await box.info()).state == "ended"


async def test_another_working_directory_is_made_and_known_to_who_finds_the_sandbox(
    provider: ModalProvider,
) -> None:
    box = await provider.create(SandboxSpec(workdir="/root/some where"))
    try:
        assert (await box.exec(["pwd"])).stdout == b"/root/some where\n"
        found = await provider.get(box.id)
        assert found.workdir == "/root/some where"
    finally:
        await box.terminate()


async def test_the_guests_files_are_the_guests_alone(box: GuestSandbox) -> None:
    listed = await box.exec(["sh", "-c", f"stat -c '%a %n' {BOOT} {BOOT}/guest.pyz"])
    assert listed.stdout.decode().splitlines() == [f"700 {BOOT}", f"600 {BOOT}/guest.pyz"]


async def test_a_snapshot_is_an_image_that_begins_where_the_sandbox_stood(
    provider: ModalProvider, box: GuestSandbox
) -> None:
    await box.write_file("kept", b"as it was")
    await box.write_file("/root/also", b"kept")
    await box.write_file(f"{BOOT}/left", b"of the first guest")
    backend = box.backend
    assert isinstance(backend, SupportsSnapshot)
    with anyio.fail_after(LIMIT):
        image = await backend.snapshot()
        await box.write_file("kept", b"changed")
        again = await provider.create(SandboxSpec(image=image))
    try:
        assert await again.read_file("kept") == b"as it was"
        assert await again.read_file("/root/also") == b"kept"
        # The guest of the first is not that of the second.
        with pytest.raises(FileNotFoundError):
            await again.read_file(f"{BOOT}/left")
        assert (await again.info()).resources["image"] == image
    finally:
        await again.terminate()
    with pytest.raises(UnsupportedError, match="have no names"):
        await backend.snapshot("mine")


async def test_a_snapshot_of_what_has_ended_is_refused_as_gone(
    provider: ModalProvider, bare: ModalEmulator
) -> None:
    box = await provider.create(SandboxSpec())
    backend = box.backend
    assert isinstance(backend, SupportsSnapshot)
    await bare.lose(box.id)
    with pytest.raises(SandboxGoneError):
        await backend.snapshot()
    await box.terminate()


async def test_a_snapshot_holds_nothing_of_the_environment(
    provider: ModalProvider, bare: ModalEmulator
) -> None:
    box = await provider.create(SandboxSpec(env={"OF_THE_SPEC": "known-to-nobody"}))
    account = vendor_of(bare)
    try:
        assert (await box.exec(["printenv", "OF_THE_SPEC"])).stdout == b"known-to-nobody\n"
        backend = box.backend
        assert isinstance(backend, SupportsSnapshot)
        app, client = await account.app(), await account.client()
        image = vendor.Image.from_id(await backend.snapshot(), client=client)
        options = {"app": app, "client": client, "image": image, "timeout": 600}
        found = account.connections.keep(await SANDBOX.create.aio("sleep", "infinity", **options))
        look_for = f"ls {BOOT}; grep -rl known-to-nobody /root /workspace"
        look = await found.exec.aio("sh", "-c", look_for)
        said = (await look.stdout.read.aio()).split()
        assert "guest.pyz" in said
        assert not any(line.startswith("/") for line in said)
        await found.terminate.aio()
    finally:
        await box.terminate()
        await account.aclose()


async def test_a_sandbox_ends_with_its_guest(provider: ModalProvider, bare: ModalEmulator) -> None:
    box = await provider.create(SandboxSpec())
    with anyio.fail_after(LIMIT):
        await box.keep_for(0.1)
        await bare.ended(box.id)
        with pytest.raises(SandboxGoneError):
            await box.exec(["true"])
    assert (await box.info()).state == "ended"
    await box.terminate()


async def test_a_sandbox_whose_guest_was_killed_bills_nobody(
    provider: ModalProvider, bare: ModalEmulator
) -> None:
    box = await provider.create(SandboxSpec())
    machine = await bare.machine(box.id)
    with anyio.fail_after(LIMIT):
        await machine.sandbox.exec(["sh", "-c", f"kill -9 $(cat {BOOT}/guest.sock.pid)"])
        await bare.ended(box.id)
    await box.terminate()


async def test_a_guest_that_does_not_answer_is_gone_though_its_sandbox_runs(
    provider: ModalProvider, bare: ModalEmulator
) -> None:
    box = await provider.create(SandboxSpec())
    machine = await bare.machine(box.id)
    find_main = "grep -laz '^made-for' /proc/[0-9]*/cmdline | grep -v self"
    kill = (
        f"for found in $({find_main}); do found=${{found#/proc/}}; kill -STOP ${{found%/cmdline}}; done; "
        f"kill -9 $(cat {BOOT}/guest.sock.pid)"
    )
    with anyio.fail_after(LIMIT):
        await machine.sandbox.exec(["sh", "-c", kill])
        with pytest.raises(SandboxGoneError, match=r"guest of sandbox .* has ended"):
            await box.exec(["true"])
    assert box.id in bare.running()
    await box.terminate()


async def test_a_sandbox_to_which_no_guest_comes_ends_itself(bare: ModalEmulator) -> None:
    # As one would be that Modal makes when its host has given up and looked for it in vain.
    account = vendor_of(bare)
    app, client = await account.app(), await account.client()
    try:
        # A snapshot may hold the files of another sandbox's guest, whose number is somebody's here, too.
        stale = f"mkdir -p {BOOT}; echo $$ > {BOOT}/guest.sock.pid; touch {BOOT}/made-for-1"
        argv = ["sh", "-c", stale + MAIN, "sh", BOOT, mark("2"), "1"]
        image = vendor.Image.debian_slim(python_version="3.13")
        box = await SANDBOX.create.aio(*argv, app=app, client=client, image=image, timeout=600)
        with anyio.fail_after(LIMIT):
            await box.wait.aio()
        assert box.returncode == 1
    finally:
        await account.aclose()


async def program_below(pid: int) -> bytes:
    """Return the arguments of the program that a shell waits for; nothing where there is none now."""
    try:
        (child,) = (await anyio.Path(f"/proc/{pid}/task/{pid}/children").read_text()).split()
        return await anyio.Path(f"/proc/{child}/cmdline").read_bytes()
    except (ValueError, OSError):
        return b""


def test_what_the_capabilities_promise_is_there(provider: ModalProvider) -> None:
    assert isinstance(provider, SupportsImages)
    assert isinstance(provider, SupportsHeaderInjection)
    assert not provider.capabilities.lease
    assert provider.capabilities.networks == {"open", "none"}


async def test_a_main_program_that_does_not_see_the_guest_leaves_the_end_to_the_lifetime(
    tmp_path: Path,
) -> None:
    (tmp_path / "made").touch()
    (tmp_path / "guest.sock.pid").write_text("99999999")  # above the kernel's greatest
    async with await anyio.open_process(["sh", "-c", MAIN, "main", str(tmp_path), "made", "5"]) as main:
        try:
            with anyio.fail_after(LIMIT):
                while await program_below(main.pid) != b"sleep\0infinity\0":  # noqa: ASYNC110 - only a look shows it
                    await anyio.sleep(0.02)
                main.terminate()  # as Modal does first, long before it kills
                assert await main.wait() == 143
        finally:
            if main.returncode is None:
                main.kill()
