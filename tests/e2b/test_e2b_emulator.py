"""The emulator does as E2B does, its traps above all: asked by the vendor's own client."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import anyio
import e2b as vendor
import httpx
import pytest

from agenthost.errors import ProviderError
from agenthost.testing.emulators.base.machines import Account, Machine, Machines
from agenthost.testing.emulators.e2b import Emulator, Fault, emulator

LIMIT = 60
WAIT = "until [ -e {0} ]; do sleep 0.02; done"


@pytest.fixture
async def sandbox(e2b: Emulator) -> AsyncIterator[vendor.AsyncSandbox]:
    made = await vendor.AsyncSandbox.create(timeout=600, **e2b.options)
    try:
        yield made
    finally:
        await made.kill()


async def printed_for_the_next_client(sandbox: vendor.AsyncSandbox, first: str = "") -> str:
    """Return what a program's second client gets of it.

    The program runs the command ``first``, prints "while-away" when its first client has gone, and "late"
    when the second one has come.
    """
    command = f"{first}{WAIT.format('cut')}; echo while-away; touch said; {WAIT.format('go')}; echo late"
    handle = await sandbox.commands.run(command, background=True, timeout=0)
    with anyio.fail_after(LIMIT):
        await handle.disconnect()
        await sandbox.commands.run("touch cut; " + WAIT.format("said"))
        again = await sandbox.commands.connect(handle.pid, timeout=0)
        await sandbox.commands.run("touch go")
        return (await again.wait()).stdout


async def test_what_a_program_prints_comes_back_in_pieces_and_its_exit_code(
    sandbox: vendor.AsyncSandbox,
) -> None:
    pieces: list[str] = []
    done = await sandbox.commands.run("echo one; echo two >&2; pwd; id -un", on_stdout=pieces.append)
    assert (done.stdout, done.stderr, done.exit_code) == ("one\n/home/user\nuser\n", "two\n", 0)
    assert not all(piece.endswith("\n") for piece in pieces)
    with pytest.raises(vendor.CommandExitException) as caught:
        await sandbox.commands.run("exit 3")
    assert caught.value.exit_code == 3


async def test_a_limit_of_time_kills_a_program_in_the_background_too(sandbox: vendor.AsyncSandbox) -> None:
    handle = await sandbox.commands.run("exec sleep 600", background=True, timeout=0.3)
    with anyio.fail_after(LIMIT):
        with pytest.raises((vendor.TimeoutException, vendor.CommandExitException)):
            await handle.wait()
        while await sandbox.commands.list():  # noqa: ASYNC110 - it tells only who asks
            await anyio.sleep(0.02)


async def test_a_program_whose_client_goes_away_runs_on_and_what_it_prints_is_lost(
    sandbox: vendor.AsyncSandbox,
) -> None:
    assert await printed_for_the_next_client(sandbox, "echo early; ") == "late\n"


async def test_a_kill_hits_one_process_and_not_what_it_started(sandbox: vendor.AsyncSandbox) -> None:
    handle = await sandbox.commands.run("sleep 600 & echo $! > child; wait", background=True, timeout=0)
    with anyio.fail_after(LIMIT):
        await sandbox.commands.run("until [ -s child ]; do sleep 0.02; done")
        assert await handle.kill()
        with pytest.raises(vendor.CommandExitException) as caught:
            await handle.wait()
        assert caught.value.exit_code == -1
        assert (await sandbox.commands.run("kill -0 $(cat child)")).exit_code == 0


async def test_input_arrives_in_order_and_its_streams_end_is_not_its_end(
    sandbox: vendor.AsyncSandbox,
) -> None:
    handle = await sandbox.commands.run("cat", background=True, stdin=True, timeout=0)
    with anyio.fail_after(LIMIT):
        async with sandbox.commands.stream_input(handle.pid, timeout=0) as sending:
            for number in range(100):
                await sending.send(f"{number}\n")
        await handle.send_stdin("behind\n")
        await handle.close_stdin()
        assert (await handle.wait()).stdout.split() == [*map(str, range(100)), "behind"]


async def test_the_end_of_a_program_is_known_for_a_while_only() -> None:
    async with emulator(end_kept=0) as forgetful:
        sandbox = await vendor.AsyncSandbox.create(timeout=600, **forgetful.options)
        handle = await sandbox.commands.run("true", background=True)
        with anyio.fail_after(LIMIT):
            await handle.wait()
            while forgetful.box(sandbox.sandbox_id).programs.running:  # noqa: ASYNC110 - see above
                await anyio.sleep(0.01)
        with pytest.raises(vendor.NotFoundException):
            await sandbox.commands.connect(handle.pid)


async def test_a_friendly_one_keeps_what_was_printed_for_who_comes_late() -> None:
    async with emulator(friendly=True) as friendly:
        sandbox = await vendor.AsyncSandbox.create(timeout=600, **friendly.options)
        assert await printed_for_the_next_client(sandbox) == "while-away\nlate\n"


async def test_files_go_both_ways(sandbox: vendor.AsyncSandbox) -> None:
    await sandbox.files.write_files([{"path": "folder/one", "data": b"\x00one"}])
    await sandbox.files.write_files([{"path": "/tmp/two", "data": "two"}, {"path": "three", "data": b"3"}])
    assert await sandbox.files.read("/home/user/folder/one", format="bytes") == b"\x00one"
    assert (await sandbox.commands.run("cat /tmp/two three")).stdout == "two3"
    with pytest.raises(vendor.FileNotFoundException):
        await sandbox.files.read("nothing")


async def test_the_vendors_connect_wakes_a_paused_sandbox_and_asking_after_it_does_not(
    e2b: Emulator, sandbox: vendor.AsyncSandbox
) -> None:
    await sandbox.pause()
    assert (await sandbox.get_info()).state.value == "paused"
    with pytest.raises(vendor.SandboxNotRunningException):
        await sandbox.commands.run("true")
    await vendor.AsyncSandbox.connect(sandbox.sandbox_id, timeout=60, **e2b.options)
    assert (await sandbox.commands.run("echo awake")).stdout == "awake\n"


async def test_programs_stand_still_while_a_sandbox_is_paused_and_a_reboot_ends_them(
    e2b: Emulator, sandbox: vendor.AsyncSandbox
) -> None:
    await sandbox.commands.run(
        "touch on-disk; (while echo x >> beats; do sleep 0.02; done) > /dev/null 2>&1 &"
    )
    box = e2b.box(sandbox.sandbox_id)

    async def beats() -> int:
        return len(await box.machine.sandbox.read_file("/home/user/beats"))

    with anyio.fail_after(LIMIT):
        await sandbox.pause()
        stands = await beats()
        for _ in range(50):  # far longer than it takes to beat
            assert await beats() == stands
        await sandbox.connect(timeout=60)
        while await beats() == stands:  # noqa: ASYNC110 - a file tells only who reads it
            await anyio.sleep(0.02)
        await sandbox.pause(mode="filesystem")
        await sandbox.connect(timeout=60, on_resume="reboot")
        assert "beats" not in (await sandbox.commands.run("ps ax || cat /proc/[0-9]*/cmdline")).stdout
        assert (await sandbox.commands.run("ls")).stdout.split() == ["beats", "on-disk"]


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/v2/sandboxes", {"x-api-key": "another"}, 401),
        ("/v2/sandboxes", {}, 401),
        ("/files?path=x", {"e2b-sandbox-id": "THIS"}, 401),
        ("/files?path=x", {"e2b-sandbox-id": "THIS", "x-access-token": "another"}, 401),
        ("/files?path=x", {"e2b-sandbox-id": "no-such"}, 502),
        ("/health", {"e2b-sandbox-id": "THIS"}, 204),
    ],
)
async def test_keys_and_tokens_are_asked_for(
    e2b: Emulator, sandbox: vendor.AsyncSandbox, path: str, headers: dict[str, str], status: int
) -> None:
    headers = {name: value.replace("THIS", sandbox.sandbox_id) for name, value in headers.items()}
    async with httpx.AsyncClient(base_url=e2b.options["api_url"]) as client:
        assert (await client.get(path, headers=headers)).status_code == status


async def test_a_call_that_it_does_not_know_is_refused_and_kept() -> None:
    async with emulator() as running, httpx.AsyncClient(base_url=running.options["api_url"]) as client:
        answer = await client.get("/nodes", headers={"x-api-key": running.options["api_key"]})
        assert answer.status_code == 501
        assert running.unknown == ["GET /nodes"]


async def test_what_it_does_not_do_is_refused_and_not_left_out(e2b: Emulator) -> None:
    with pytest.raises(vendor.SandboxException, match=r"501.*do not wake up by themselves"):
        lifecycle: vendor.SandboxLifecycle = {"on_timeout": "pause", "auto_resume": True}
        await vendor.AsyncSandbox.create(lifecycle=lifecycle, **e2b.options)
    with pytest.raises(vendor.SandboxException, match=r"501.*no volumeMounts"):
        await vendor.AsyncSandbox.create(volume_mounts={"/mnt": "one"}, **e2b.options)
    assert e2b.boxes.all == {}


async def test_names_of_hosts_need_the_entry_that_denies_the_rest(e2b: Emulator) -> None:
    with pytest.raises(vendor.SandboxException, match=r"400.*deny out"):
        await vendor.AsyncSandbox.create(network={"allow_out": ["pypi.org"]}, **e2b.options)


async def test_a_key_of_idempotency_makes_one_sandbox_of_two_calls(e2b: Emulator) -> None:
    made = [
        await vendor.AsyncSandbox.create(idempotency_key="thesame", timeout=60, **e2b.options) for _ in "ab"
    ]
    assert made[0].sandbox_id == made[1].sandbox_id
    assert await made[0].kill()
    assert not await made[1].kill()


async def test_of_two_calls_with_one_key_at_once_one_makes_it_and_the_other_is_refused(e2b: Emulator) -> None:
    made: list[str] = []
    refused: list[Exception] = []

    async def create() -> None:
        try:
            sandbox = await vendor.AsyncSandbox.create(idempotency_key="atonce", timeout=60, **e2b.options)
            made.append(sandbox.sandbox_id)
        except vendor.SandboxException as error:
            refused.append(error)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(create)
        tasks.start_soon(create)
    assert list(e2b.boxes.all) == made
    assert [getattr(error, "status_code", None) for error in refused] == [409]
    await e2b.lose(made[0])


async def test_a_refusal_is_repeated_for_its_key_and_a_key_with_other_signs_is_not_taken(
    e2b: Emulator,
) -> None:
    for template in ("no-such", "base"):  # as it was the first time, whatever is asked for then
        with pytest.raises(vendor.SandboxException, match=r"404.*no-such"):
            await vendor.AsyncSandbox.create(template, idempotency_key="refused", **e2b.options)
    with pytest.raises(vendor.SandboxException, match=r"400.*letters and digits"):
        await vendor.AsyncSandbox.create(idempotency_key="with-hyphens", **e2b.options)
    assert e2b.boxes.all == {}


async def test_a_timeout_behind_the_plans_limit_is_cut_without_a_word() -> None:
    async with emulator(longest=1800) as small:
        sandbox = await vendor.AsyncSandbox.create(timeout=600, **small.options)
        await sandbox.set_timeout(7200)
        box = small.box(sandbox.sandbox_id)
        assert box.started_at + 1790 < box.end_at <= box.started_at + 1801


async def test_two_of_them_have_different_keys(e2b: Emulator) -> None:
    async with emulator() as other:
        assert other.options["api_key"] != e2b.options["api_key"]


async def test_faults_strike_as_often_as_they_are_told(e2b: Emulator) -> None:
    e2b.faults.add(Fault("GET /v2/sandboxes", status=429, times=2, headers={"should-retry": "false"}))
    for _ in range(2):
        with pytest.raises(vendor.RateLimitException):
            await vendor.AsyncSandbox.list(**e2b.options).next_items()
    assert await vendor.AsyncSandbox.list(**e2b.options).next_items() == []


async def test_its_answers_are_json_that_the_public_description_has(e2b: Emulator) -> None:
    sandbox = await vendor.AsyncSandbox.create(timeout=60, metadata={"a": "b"}, **e2b.options)
    async with httpx.AsyncClient(base_url=e2b.options["api_url"]) as client:
        headers = {"x-api-key": e2b.options["api_key"]}
        told = json.loads((await client.get(f"/sandboxes/{sandbox.sandbox_id}", headers=headers)).content)
    required = ["templateID", "sandboxID", "clientID", "startedAt", "endAt", "envdVersion"]
    required += ["cpuCount", "memoryMB", "diskSizeMB", "state"]
    assert set(required) <= set(told)
    assert told["metadata"] == {"a": "b"}
    await sandbox.kill()


async def test_files_are_looked_at_listed_moved_and_removed(sandbox: vendor.AsyncSandbox) -> None:
    files = sandbox.files
    assert await files.make_dir("folder/below")
    assert not await files.make_dir("folder/below")
    await files.write_files([{"path": "folder/one", "data": "1234"}])
    await sandbox.commands.run("ln -s one folder/link; chmod 640 folder/one")
    assert [one.name for one in await files.list("folder")] == ["below", "link", "one"]
    assert [one.name for one in await files.list("", depth=2) if "/folder/" in one.path] == [
        "below",
        "link",
        "one",
    ]
    told = await files.get_info("folder/one")
    assert (told.path, told.size, told.mode) == ("/home/user/folder/one", 4, 0o640)
    assert (told.type, told.owner, told.permissions) == (vendor.FileType.FILE, "user", "-rw-r-----")
    assert (await files.get_info("folder/link")).symlink_target == "/home/user/folder/one"
    assert (await files.rename("folder/one", "elsewhere/two")).path == "/home/user/elsewhere/two"
    assert await files.exists("elsewhere/two")
    assert not await files.exists("folder/one")
    await files.remove("elsewhere")
    await files.remove("elsewhere")
    assert not await files.exists("elsewhere")
    for call in (files.list("nothing"), files.get_info("nothing"), files.rename("nothing", "x")):
        with pytest.raises(vendor.FileNotFoundException):
            await call
    with pytest.raises(vendor.InvalidArgumentException):
        await files.list("/etc/passwd")


async def test_watching_a_folder_is_refused_by_name(sandbox: vendor.AsyncSandbox) -> None:
    with pytest.raises(vendor.SandboxException, match="no call WatchDir"):
        await sandbox.files.watch_dir("/tmp", on_event=print)


async def test_who_makes_sandboxes_too_often_is_told_when_to_come_again() -> None:
    async with emulator(creates_at_once=1, creates_each_second=0.001) as busy:
        await vendor.AsyncSandbox.create(timeout=60, **busy.options)
        with pytest.raises(vendor.RateLimitException):
            await vendor.AsyncSandbox.create(timeout=60, retries=0, **busy.options)
        async with httpx.AsyncClient(base_url=busy.options["api_url"]) as client:
            headers = {"x-api-key": busy.options["api_key"]}
            answer = await client.post("/v2/sandboxes", headers=headers, json={"templateID": "base"})
        assert answer.status_code == 429
        assert 900 < int(answer.headers["retry-after"]) <= 1000
    async with emulator(creates_at_once=0, creates_each_second=0.001, friendly=True) as friendly:
        await vendor.AsyncSandbox.create(timeout=60, **friendly.options)


async def test_a_create_that_came_too_often_waits_as_long_as_it_is_told() -> None:
    async with emulator(creates_at_once=0, creates_each_second=1) as slow:
        await vendor.AsyncSandbox.create(timeout=60, **slow.options)
        assert slow.calls.count("POST /v2/sandboxes") == 2


async def test_a_sandboxs_own_paths_are_not_the_control_planes(
    e2b: Emulator, sandbox: vendor.AsyncSandbox
) -> None:
    await sandbox.commands.run(
        "exec python3 -m http.server 8123 --bind 127.0.0.1", background=True, timeout=0
    )
    await sandbox.files.write_files([{"path": "sandboxes/x", "data": "of the sandbox"}])
    headers = {"e2b-sandbox-id": sandbox.sandbox_id, "e2b-sandbox-port": "8123"}
    async with httpx.AsyncClient(base_url=e2b.options["api_url"]) as client:
        with anyio.fail_after(LIMIT):
            while (answer := await client.get("/sandboxes/x", headers=headers)).status_code == 502:  # noqa: ASYNC110 - it listens when it does
                await anyio.sleep(0.05)
    assert (answer.status_code, answer.text) == (200, "of the sandbox")


class _Unending:
    """A machine that does not end."""

    has_ended = False

    def __init__(self, machine: Machine) -> None:
        self.sandbox = machine.sandbox

    async def end(self) -> None:
        raise ProviderError("it does not end")


async def test_a_machine_that_does_not_end_keeps_none_of_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with Machines(Account("user", 1000, "/home/user")) as machines:
        one, two = [await machines.make(workdir="/workspace", network=False) for _ in range(2)]
        machines._made.insert(0, _Unending(one))  # type: ignore[arg-type]  # noqa: SLF001 - no machine is so bad
    assert one.has_ended
    assert two.has_ended
    assert "did not end" in caplog.text


async def test_a_sandbox_that_does_not_end_in_time_does_not_end_the_emulator(
    e2b: Emulator, sandbox: vendor.AsyncSandbox
) -> None:
    box = e2b.box(sandbox.sandbox_id)
    machine = box.machine
    box.machine = _Unending(machine)  # type: ignore[assignment]  # no machine is so bad
    e2b.expire(box.id)
    with anyio.fail_after(LIMIT):
        while box.id in e2b.boxes.all:  # noqa: ASYNC110 - it tells only who asks
            await anyio.sleep(0.01)
    await machine.end()
    another = await vendor.AsyncSandbox.create(timeout=60, **e2b.options)
    assert await another.kill()
