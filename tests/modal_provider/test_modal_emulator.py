"""The emulator does what Modal does to its own client, the traps among that."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import AsyncIterator
from typing import Any, cast

import anyio
import modal as vendor
import modal.exception as theirs
import pytest
from modal.stream_type import StreamType
from modal_provider.accounts import vendor_of

from agenthost.errors import ConfigError, UnsupportedError
from agenthost.providers.modal.client import ModalVendor
from agenthost.testing.emulators.modal import Fault, ModalEmulator, emulator

LIMIT = 120
SANDBOX = cast("Any", vendor.Sandbox)  # typed in part


@pytest.fixture(scope="module")
async def common(bare: ModalEmulator) -> AsyncIterator[dict[str, Any]]:
    """Give what every call of Modal's client gets."""
    account = vendor_of(bare)
    try:
        # The client's own default image is one object for the whole process: it knows one server's id of it.
        image = vendor.Image.debian_slim(python_version="3.13")
        yield {"app": await account.app(), "client": await account.client(), "image": image}
    finally:
        await account.aclose()


@pytest.fixture(scope="module")
async def box(common: dict[str, Any]) -> AsyncIterator[Any]:
    """Give a sandbox as Modal's client has it."""
    made = await SANDBOX.create.aio("sleep", "infinity", timeout=600, **common)
    yield made
    await made.terminate.aio(wait=True)
    await made.detach.aio()


def programs_of(served: ModalEmulator, sandbox_id: str) -> list[Any]:
    """Return what was started by exec in a sandbox."""
    programs = served.box(sandbox_id).programs
    return [program for name, program in programs.items() if name]


async def test_its_options_are_plain_values_that_a_config_can_hold(bare: ModalEmulator) -> None:
    assert json.loads(json.dumps(bare.options)) == bare.options
    assert bare.options["server_url"].startswith("http://127.0.0.1:")


async def test_a_call_that_it_does_not_know_is_refused_and_told() -> None:
    async with emulator() as served:
        account = vendor_of(served)
        try:
            image = vendor.Image.debian_slim(python_version="3.13")
            options = {"app": await account.app(), "client": await account.client(), "image": image}
            box = await SANDBOX.create.aio("sleep", "infinity", timeout=60, **options)
            with pytest.raises(theirs.UnimplementedError, match="SandboxGetTunnelsV2"):
                await box.tunnels.aio()
        finally:
            await account.aclose()
        assert served.faults.unknown == ["SandboxGetTunnelsV2"]


async def test_what_nobody_reads_holds_a_program_up_unless_nobody_wanted_it(
    bare: ModalEmulator, box: Any
) -> None:
    # More than the machine below keeps by itself.
    argv = ["sh", "-c", "head -c 40000000 /dev/zero >&2; echo done"]
    with anyio.fail_after(LIMIT):
        unwanted = await box.exec.aio(*argv, stderr=StreamType.DEVNULL, text=False)
        assert await unwanted.stdout.read.aio() == b"done\n"
        program = await box.exec.aio(*argv, text=False)
        (known,) = (one for one in programs_of(bare, box.object_id) if one.code is None)
        await known.stderr.full.wait()
        assert await program.poll.aio() is None
        assert len(await program.stderr.read.aio()) == 40_000_000
        assert await program.stdout.read.aio() == b"done\n"


async def test_a_token_of_another_sandbox_is_refused(
    bare: ModalEmulator, common: dict[str, Any], box: Any
) -> None:
    other = await SANDBOX.create.aio("sleep", "infinity", timeout=60, **common)
    boxes = bare.boxes.all
    right = boxes[other.object_id].token
    boxes[other.object_id].token = boxes[box.object_id].token + "-of-another"
    with pytest.raises(theirs.PermissionDeniedError):
        await other.poll.aio()
    boxes[other.object_id].token = right
    await other.terminate.aio(wait=True)


@pytest.mark.parametrize("wanted", [{"encrypted_ports": [80]}, {"include_oidc_identity_token": True}])
async def test_what_it_does_not_do_is_refused_and_not_left_out(
    bare: ModalEmulator, common: dict[str, Any], wanted: dict[str, Any]
) -> None:
    before = bare.running()
    with pytest.raises(theirs.UnimplementedError):
        await SANDBOX.create.aio("true", timeout=60, **wanted, **common)
    assert bare.running() == before


async def test_a_life_longer_than_modals_is_refused(common: dict[str, Any]) -> None:
    with pytest.raises(theirs.InvalidError, match="24 h"):
        await SANDBOX.create.aio("true", timeout=86401, **common)


async def test_a_name_is_one_running_sandboxs_and_free_again_when_it_has_ended(
    common: dict[str, Any],
) -> None:
    first = await SANDBOX.create.aio("sleep", "infinity", name="one", timeout=60, **common)
    with pytest.raises(theirs.AlreadyExistsError):
        await SANDBOX.create.aio("sleep", "infinity", name="one", timeout=60, **common)
    assert await first.terminate.aio(wait=True) == 137
    second = await SANDBOX.create.aio("sleep", "infinity", name="one", timeout=60, **common)
    await second.terminate.aio(wait=True)


async def test_a_sandbox_ends_with_its_program_or_its_time(common: dict[str, Any]) -> None:
    with anyio.fail_after(LIMIT):
        done = await SANDBOX.create.aio("sh", "-c", "exit 3", timeout=60, **common)
        await done.wait.aio()
        late = await SANDBOX.create.aio("sleep", "infinity", timeout=1, **common)
        with pytest.raises(theirs.SandboxTimeoutError):
            await late.wait.aio()
    assert (done.returncode, late.returncode) == (3, 124)


async def test_after_the_timeout_of_a_program_its_output_ends_without_a_word(box: Any) -> None:
    program = await box.exec.aio("sh", "-c", "echo begun; sleep 100000", timeout=1, text=False)
    with anyio.fail_after(LIMIT):
        assert await program.stdout.read.aio() == b"begun\n"
        assert await program.wait.aio() == -1


async def test_text_breaks_at_the_first_byte_that_is_none_and_bytes_do_not(box: Any) -> None:
    argv = ["printf", "\\377\\376"]
    program = await box.exec.aio(*argv)
    with pytest.raises(UnicodeDecodeError):
        await program.stdout.read.aio()
    await program.stdout.aclose()  # it would hold its connection
    assert await (await box.exec.aio(*argv, text=False)).stdout.read.aio() == b"\xff\xfe"


async def test_drains_at_once_lose_or_double_what_is_written(box: Any) -> None:
    program = await box.exec.aio("cat", text=False)

    async def write(letter: bytes) -> None:
        program.stdin.write(letter * 1000)
        await program.stdin.drain.aio()

    damaged = False
    try:
        async with anyio.create_task_group() as tasks:
            for number in range(8):
                tasks.start_soon(write, bytes([65 + number]))
        program.stdin.write_eof()
        await program.stdin.drain.aio()
        data = await program.stdout.read.aio()
        damaged = any(data.count(bytes([65 + number])) != 1000 for number in range(8))
    except* theirs.ConflictError:  # an offset that the worker did not expect
        damaged = True
    assert damaged


async def test_an_end_of_input_goes_out_with_a_drain_and_not_before(box: Any) -> None:
    program = await box.exec.aio("cat", text=False)
    program.stdin.write(b"all")
    program.stdin.write_eof()
    assert await program.poll.aio() is None
    await program.stdin.drain.aio()
    with anyio.fail_after(LIMIT):
        assert await program.stdout.read.aio() == b"all"
        assert await program.wait.aio() == 0


async def test_a_signal_is_an_exit_code_and_a_missing_program_an_error(box: Any) -> None:
    program = await box.exec.aio("sh", "-c", "kill -9 $$")
    assert await program.wait.aio() == 137
    with pytest.raises(theirs.InvalidError, match="No such file"):
        await box.exec.aio("/no/such/program")


@pytest.mark.filterwarnings("ignore::modal.exception.DeprecationError")  # it looks at its own error's status
async def test_after_the_end_nothing_is_started(common: dict[str, Any]) -> None:
    made = await SANDBOX.create.aio("sleep", "infinity", timeout=60, **common)
    await made.terminate.aio(wait=True)
    refused = False
    try:
        await made.exec.aio("true")
    except (theirs.NotFoundError, theirs.ConflictError):  # by which of its services it is refused is open
        refused = True
    await made.detach.aio()
    assert refused


async def test_it_is_left_though_somebody_is_connected_who_never_asked_for_anything() -> None:
    with anyio.fail_after(LIMIT):
        async with emulator() as served:
            port = int(served.options["server_url"].rpartition(":")[2])
            connection = await anyio.connect_tcp("127.0.0.1", port)
            assert await connection.receive()  # it is greeted
        async with connection:
            with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
                await connection.receive()


async def test_streams_break_off_unseen_by_who_reads_and_not_at_all_in_a_friendly_one(
    bare: ModalEmulator, box: Any
) -> None:
    reads = bare.calls.count("TaskExecStdioRead")
    program = await box.exec.aio("sh", "-c", "for i in $(seq 300); do echo $i; sleep 0.005; done", text=False)
    assert await program.stdout.read.aio() == b"".join(b"%d\n" % number for number in range(1, 301))
    assert bare.calls.count("TaskExecStdioRead") - reads > 1
    async with emulator(friendly=True) as friendly:
        account = vendor_of(friendly)
        try:
            app, client = await account.app(), await account.client()
            image = vendor.Image.debian_slim(python_version="3.13")
            made = await SANDBOX.create.aio(
                "sleep", "infinity", timeout=60, app=app, client=client, image=image
            )
            account.connections.keep(made)
            program = await made.exec.aio("seq", "300", text=False)
            assert len(await program.stdout.read.aio()) == 1092
            assert friendly.calls.count("TaskExecStdioRead") == 1
        finally:
            await account.aclose()


async def test_what_is_in_the_environment_comes_from_the_call_and_from_named_secrets(
    bare: ModalEmulator, common: dict[str, Any]
) -> None:
    bare.add_secret("kept", {"FROM_SECRET": "2"})
    secret = vendor.Secret.from_name("kept")
    made = await SANDBOX.create.aio(
        "sleep", "infinity", timeout=60, env={"GIVEN": "1"}, secrets=[secret], **common
    )
    try:
        program = await made.exec.aio("sh", "-c", "echo $GIVEN $FROM_SECRET $MORE", env={"MORE": "3"})
        assert await program.stdout.read.aio() == "1 2 3\n"
    finally:
        await made.terminate.aio(wait=True)
        await made.detach.aio()


async def created(served: ModalEmulator, account: ModalVendor, **options: Any) -> Any:
    """Return a sandbox of an emulator of a test's own."""
    image = vendor.Image.debian_slim(python_version="3.12")
    common = {"app": await account.app(), "client": await account.client(), "image": image}
    assert served.options["server_url"].startswith("http://127.0.0.1:")
    return await SANDBOX.create.aio("sleep", "infinity", **{"timeout": 60, **common, **options})


@pytest.fixture
async def account(bare: ModalEmulator) -> AsyncIterator[ModalVendor]:
    made = vendor_of(bare)
    yield made
    await made.aclose()


@pytest.mark.parametrize("tag", [("workdir", "/srv"), ("a b", "c"), ("list", "a,b"), ("long", "x" * 64)])
async def test_tags_that_modal_may_refuse_are_refused(tag: tuple[str, str]) -> None:
    async with emulator() as served:
        account = vendor_of(served)
        try:
            with pytest.raises(theirs.InvalidError, match="is not valid"):
                await created(served, account, tags={tag[0]: tag[1]})
            box = await created(served, account, tags={"fine": "a.b_c-1"})
            with pytest.raises(theirs.InvalidError, match="is not valid"):
                await box.set_tags.aio({tag[0]: tag[1]})
            assert served.tags(box.object_id) == {"fine": "a.b_c-1"}
        finally:
            await account.aclose()


async def test_ids_may_have_any_signs() -> None:
    async with emulator() as served:
        account = vendor_of(served)
        try:
            box = await created(served, account)
            assert not box.object_id.removeprefix("sb-").isalnum()
            found = await SANDBOX.from_id.aio(box.object_id, client=await account.client())
            assert await found.poll.aio() is None
        finally:
            await account.aclose()


BUILDERS = ("2023.12", "2024.04", "2024.10", "2025.06", "2026.10")


@pytest.mark.parametrize("builder", BUILDERS)
async def test_every_image_builder_takes_the_pythons_that_it_has_and_images_that_have_python(
    builder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Modal's client asks a process's first server alone.
    monkeypatch.setattr("modal._environments.ENVIRONMENT_CACHE", {})
    async with emulator(image_builder=builder) as served:
        account = vendor_of(served)
        try:
            app = await account.app()
            await vendor.Image.debian_slim(python_version="3.12").build.aio(app)
            newest = vendor.Image.debian_slim(python_version="3.13")
            if builder < "2024.10":
                with pytest.raises(theirs.InvalidError, match=r"3\.13"):
                    await newest.build.aio(app)
            else:
                await newest.build.aio(app)
            registry = cast("Any", vendor.Image)
            await registry.from_registry("python:3.12").build.aio(app)
            without = registry.from_registry("node:22")
            if builder <= "2024.10":
                with pytest.raises(theirs.ImageBuildError):
                    await without.build.aio(app)
            else:
                await without.build.aio(app)
        finally:
            await account.aclose()


async def test_an_image_builder_that_modal_does_not_have_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"2025\.06"):
        async with emulator(image_builder="2020.01"):
            pass


async def test_a_client_whose_parts_have_moved_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "agenthost.testing.emulators.modal.wire", raising=False)
    monkeypatch.setitem(sys.modules, "modal._utils.grpc_utils", None)
    with pytest.raises(UnsupportedError, match="does not know this version of Modal's client"):
        async with emulator():
            pass


async def test_a_list_without_an_app_has_the_sandboxes_of_all(
    bare: ModalEmulator, account: ModalVendor
) -> None:
    box = await created(bare, account)
    client = await account.client()
    with warnings.catch_warnings(action="ignore"):  # Modal's client would rather have an app
        found = [one.object_id async for one in SANDBOX.list.aio(client=client)]
        assert box.object_id in found
        other = [one.object_id async for one in SANDBOX.list.aio(app_id="ap-other", client=client)]
    assert other == []
    await box.terminate.aio(wait=True)
    await box.detach.aio()


async def test_files_go_both_ways_by_modals_own_calls(box: Any) -> None:
    files = box.filesystem
    await files.write_bytes.aio(b"\x00one", "/workspace/below/one")
    assert await files.read_bytes.aio("/workspace/below/one") == b"\x00one"
    (entry,) = await files.list_files.aio("/workspace/below")
    assert (entry.name, entry.path, entry.size) == ("one", "/workspace/below/one", 4)
    assert (await files.stat.aio("/workspace/below")).type.name.lower() == "directory"
    with pytest.raises(theirs.SandboxFilesystemDirectoryNotEmptyError):
        await files.remove.aio("/workspace/below")
    await files.remove.aio("/workspace/below", recursive=True)
    for call in (files.read_bytes, files.list_files, files.stat):
        with pytest.raises(theirs.SandboxFilesystemNotFoundError):
            await call.aio("/workspace/below")
    with pytest.raises(theirs.SandboxFilesystemPermissionError):
        await files.write_text.aio("x", "/usr/x")


async def test_faults_of_any_wire_have_their_meaning_at_modal(
    account: ModalVendor, bare: ModalEmulator
) -> None:
    client = await account.client()
    apps = cast("Any", vendor.App)

    async def look() -> None:
        await apps.lookup.aio("of-the-faults", client=client, create_if_missing=True)

    bare.faults.refuse("AppGetOrCreate", 404)
    with pytest.raises(theirs.NotFoundError):
        await look()
    for fault in (Fault("AppGetOrCreate", drop=True), Fault("AppGetOrCreate", lose=True)):
        before = bare.calls.count("AppGetOrCreate")
        bare.faults.add(fault)
        await look()
        assert bare.calls.count("AppGetOrCreate") - before == 2  # Modal's client tries again
    bare.faults.revoked = True
    with pytest.raises(theirs.AuthError):
        await look()
    bare.faults.clear()
    await look()


async def test_a_sandbox_ends_when_the_emulators_clock_says_so() -> None:
    async with emulator() as served:
        account = vendor_of(served)
        try:
            made = await created(served, account, timeout=3000)
            served.clock.advance(3001)
            with anyio.fail_after(LIMIT), pytest.raises(theirs.SandboxTimeoutError):
                await made.wait.aio()
        finally:
            await account.aclose()


async def test_output_that_is_stalled_arrives_when_it_flows_again(bare: ModalEmulator, box: Any) -> None:
    bare.stall()
    program = await box.exec.aio("echo", "late", text=False)
    arrived: list[bytes] = []

    async def read() -> None:
        arrived.append(await program.stdout.read.aio())

    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            assert await program.wait.aio() == 0
            assert arrived == []
            bare.flow()
    assert arrived == [b"late\n"]


async def test_a_friendly_one_takes_any_tags_and_gives_plain_ids() -> None:
    async with emulator(friendly=True) as friendly:
        account = vendor_of(friendly)
        try:
            box = await created(friendly, account, tags={"a b": "/c"})
            assert box.object_id.removeprefix("sb-").isalnum()
            assert friendly.tags(box.object_id) == {"a b": "/c"}
        finally:
            await account.aclose()
