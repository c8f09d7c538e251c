"""Agents as their driver sees them: journal, input, end, and who drives."""

from __future__ import annotations

import hashlib
import json
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import anyio
import anyio.lowlevel
import pytest
from guest.model_agent import PRELUDE, body_of, script_agent
from support.inside import living
from support.waiting import until, until_true

from agenthost.errors import (
    AgentEndedError,
    AgentHostError,
    ConfigError,
    GuestLostError,
    SupersededError,
)
from agenthost.link.channel import AgentChannel, Exchange, Observation, agent_params
from agenthost.link.client import GuestSandbox
from agenthost.providers.local.provider import LocalProvider
from agenthost.spec import SandboxSpec

SECONDS = 60.0  # until a test is taken to hang
MIB = 1024 * 1024


@pytest.fixture
async def other(box: GuestSandbox) -> AsyncIterator[GuestSandbox]:
    """Give the same sandbox as another host has it, over a link of its own."""
    async with LocalProvider() as provider:
        yield await provider.get(box.id)


async def rest_of(channel: AgentChannel) -> bytes:
    """Read the journal to its end, acknowledging all."""
    parts: list[bytes] = []
    size = 0
    while data := await channel.receive():
        parts.append(data)
        size += len(data)
        channel.ack(size)
    return b"".join(parts)


async def test_the_journal_comes_whole_and_in_order(box: GuestSandbox) -> None:
    program = "import os\nfor n in range(40): os.write(1, b'%06d\\n' % n * 75_000)"
    expected = hashlib.sha256(b"".join(b"%06d\n" % n * 75_000 for n in range(40))).digest()
    with anyio.fail_after(SECONDS):
        async with box.agent("journal", argv=["python3", "-c", program], env={}, model=False) as channel:
            assert hashlib.sha256(await rest_of(channel)).digest() == expected
            assert await channel.wait() == 0


async def test_the_journal_waits_for_a_slow_driver_without_holding_the_agent_up(box: GuestSandbox) -> None:
    """16 MiB would stop a program; an agent's journal takes 256."""
    script = """
for number in range(24):
    print("x" * 1048575)
sys.stdout.flush()
open("journal-is-written", "w")
hear()
"""

    async def written() -> bool:
        try:
            return await box.read_file("journal-is-written") == b""
        except FileNotFoundError:
            return False

    with anyio.fail_after(SECONDS):
        async with script_agent(box, script) as agent:
            await until(written, bool)
            await agent.say("end")
            assert len(await rest_of(agent.channel)) == 24 * MIB
        await box.exec(["rm", "journal-is-written"])


async def test_input_arrives_in_whole_lines_of_any_length(box: GuestSandbox) -> None:
    script = """
import hashlib
while line := sys.stdin.buffer.readline():
    tell([len(line), hashlib.sha256(line).hexdigest()])
"""
    lines = [b"\n", b'{"a":"\xff\xfe"}\n', b"x" * 100_000 + b"\n", bytes(range(11, 256)) * 80_000 + b"\n"]
    with anyio.fail_after(SECONDS):
        async with script_agent(box, script) as agent:
            for line in lines:
                await agent.channel.send(line)
                assert await agent.told() == [len(line), hashlib.sha256(line).hexdigest()]


async def test_leaving_the_block_kills_the_runner_and_all_that_came_of_it(box: GuestSandbox) -> None:
    script = """
import subprocess
subprocess.Popen(["sleep", "73.1"])
subprocess.Popen(["sleep", "73.1"], start_new_session=True)
if os.fork() == 0:
    subprocess.Popen(["sleep", "73.1"], start_new_session=True)
    os._exit(0)
os.wait()
tell("up")
hear()
"""
    with anyio.fail_after(SECONDS):
        async with script_agent(box, script) as agent:
            assert await agent.told() == "up"
            assert len(await living(box, "73.1")) == 3
        assert await living(box, "73.1") == []


async def test_what_an_agent_left_running_when_it_ended_is_killed_too(box: GuestSandbox) -> None:
    script = "import subprocess\nsubprocess.Popen(['sleep', '73.2'], start_new_session=True)\nos._exit(5)"
    with anyio.fail_after(SECONDS):
        async with script_agent(box, script) as agent:
            assert await agent.channel.wait() == 5
            assert len(await living(box, "73.2")) == 1
        assert await living(box, "73.2") == []


async def test_wait_tells_how_it_ended_as_often_as_asked(box: GuestSandbox) -> None:
    codes: list[int] = []

    async def wait(channel: AgentChannel) -> None:
        codes.append(await channel.wait())

    with anyio.fail_after(SECONDS):
        async with script_agent(box, "hear()\nos._exit(6)") as agent:
            with anyio.move_on_after(0.01):
                await agent.channel.wait()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(wait, agent.channel)
                tasks.start_soon(wait, agent.channel)
                await agent.say("end")
            assert await agent.channel.wait() == 6
    assert codes == [6, 6]


async def test_a_signal_ends_the_runner_with_128_and_the_signal(box: GuestSandbox) -> None:
    with anyio.fail_after(SECONDS):
        async with script_agent(box, "tell('up')\nhear()") as agent:
            await agent.told()
            await agent.channel.signal(signal.SIGTERM)
            assert await agent.channel.wait() == 128 + signal.SIGTERM
            assert await agent.channel.receive() == b""


async def test_writing_to_an_agent_that_has_ended_is_a_broken_pipe(box: GuestSandbox) -> None:
    with anyio.fail_after(SECONDS):
        async with script_agent(box, "pass") as agent:
            await agent.channel.wait()
            with pytest.raises(BrokenPipeError):
                while True:
                    await agent.say("anybody?")
                    await anyio.lowlevel.checkpoint()


async def test_the_tail_of_stderr_is_kept(box: GuestSandbox) -> None:
    script = "sys.stderr.write('x' * 200_000 + 'the end')\nsys.stderr.flush()\ntell('up')\nhear()"
    with anyio.fail_after(SECONDS):
        async with script_agent(box, script) as agent:
            assert await agent.told() == "up"

            async def tail() -> bytes:
                await anyio.lowlevel.checkpoint()
                return agent.channel.stderr_tail()

            assert len(await until(tail, lambda tail: tail.endswith(b"the end"))) == 64 * 1024


async def test_a_name_that_is_taken_is_refused_and_the_agent_that_has_it_lives(
    box: GuestSandbox, other: GuestSandbox
) -> None:
    with anyio.fail_after(SECONDS):
        async with script_agent(box, "while True: tell(hear())", name="taken") as agent:
            for sandbox in (box, other):
                with pytest.raises(ConfigError, match="taken"):
                    async with sandbox.agent("taken", argv=["true"], env={}, model=False):
                        raise AssertionError("two agents of one name")
            await agent.say("still there")
            assert await agent.told() == "still there"


@pytest.mark.parametrize("name", ["", "a/b"])
async def test_a_name_that_cannot_be_is_refused(box: GuestSandbox, name: str) -> None:
    with anyio.fail_after(SECONDS), pytest.raises(AgentHostError, match="name"):
        async with box.agent(name, argv=["true"], env={}, model=False):
            raise AssertionError("an agent without a name")


async def test_a_runner_that_cannot_be_started_is_the_kernels_error_and_its_name_stays_free(
    box: GuestSandbox,
) -> None:
    with anyio.fail_after(SECONDS):
        with pytest.raises(FileNotFoundError):
            async with box.agent("free", argv=["no-such-runner"], env={}, model=True):
                raise AssertionError("it was started")
        async with script_agent(box, "tell('up')", name="free") as agent:
            assert await agent.told() == "up"


async def test_an_agent_may_begin_with_its_sandbox_and_be_driven_later() -> None:
    with anyio.fail_after(SECONDS):
        async with LocalProvider() as provider:
            box = await provider.create(SandboxSpec(), agent_id="first")
            try:
                async with box.drive_agent("first") as channel:
                    assert b'"state":"ready"' in await channel.receive()
                    await channel.send(b'{"op":"end"}\n')
                    assert b'"kind":"end","error":null' in await rest_of(channel)
                    assert await channel.wait() == 0
            finally:
                await box.terminate()


async def test_an_agent_that_was_never_started_is_not_driven(box: GuestSandbox) -> None:
    with anyio.fail_after(SECONDS), pytest.raises(GuestLostError, match="nobody"):
        async with box.drive_agent("nobody"):
            raise AssertionError("a driver of nothing")


async def test_a_new_driver_goes_on_and_the_old_one_is_told(box: GuestSandbox, other: GuestSandbox) -> None:
    script = "tell('up')\nwhile True: tell(hear())"
    with anyio.fail_after(SECONDS):
        async with script_agent(box, script, name="wanted") as old:
            assert await old.told() == "up"
            await old.say("from the old")
            assert await old.told() == "from the old"
            errors: list[str] = []
            async with anyio.create_task_group() as tasks:

                async def blocked(what: str) -> None:
                    try:
                        await (old.channel.receive() if what == "receive" else old.channel.next_exchange())
                    except SupersededError:
                        errors.append(what)

                tasks.start_soon(blocked, "receive")
                tasks.start_soon(blocked, "next_exchange")
                async with other.drive_agent("wanted") as new:
                    assert await new.receive() == b'"up"\n"from the old"\n'
                    await until_superseded(old.channel)
                    for ask in (old.channel.receive, lambda: old.channel.send(b"1\n")):
                        with pytest.raises(SupersededError):
                            await ask()
                    await new.send(b'"from the new"\n')
                    assert await new.receive() == b'"from the new"\n'
            assert sorted(errors) == ["next_exchange", "receive"]


async def until_superseded(channel: AgentChannel) -> None:
    """Wait until a channel has heard that another one drives."""
    await until_true(lambda: channel.error)


async def test_the_block_of_a_superseded_driver_kills_nothing(box: GuestSandbox, other: GuestSandbox) -> None:
    with anyio.fail_after(SECONDS):
        async with AsyncExitStack() as stack:
            async with script_agent(box, "while True: tell(hear())", name="handed-over") as old:
                new = await stack.enter_async_context(other.drive_agent("handed-over"))
                await until_superseded(old.channel)
            await new.send(b"1\n")
            assert await new.receive() == b"1\n"
            await new.send(b"2\n")
            assert await new.receive() == b"2\n"


async def test_driving_again_in_one_process_supersedes_too(box: GuestSandbox) -> None:
    with anyio.fail_after(SECONDS):
        script = "while True: tell(hear())"
        async with script_agent(box, script, name="twice") as old, box.drive_agent("twice") as new:
            with pytest.raises(SupersededError):
                await old.channel.receive()
            await new.send(b"1\n")
            assert await new.receive() == b"1\n"


async def test_a_model_request_waits_for_a_driver_and_goes_to_the_next_one(
    box: GuestSandbox, other: GuestSandbox
) -> None:
    script = PRELUDE + "tell(ask(connect(), body=b'question'))\nhear()"
    params = agent_params("unattended", ["python3", "-c", script], box.token, env={}, model=True)
    with anyio.fail_after(SECONDS):
        await box.session.call("start", params)
        async with box.drive_agent("unattended") as old:
            exchange = await old.next_exchange()
            assert await read_request(exchange) == b"question"
            async with other.drive_agent("unattended") as new:
                with pytest.raises(SupersededError):
                    await exchange.send(b"too late" * 1000)
                    await until_superseded(old)
                    await exchange.send(b"too late")
                await exchange.wait_gone()
                again = await new.next_exchange()
                assert await read_request(again) == b"question"
                await again.send_head(200, [])
                await again.send(b"answer")
                again.end()
                assert await new.receive() == b'[200, "answer"]\n'


async def test_an_answer_that_an_old_driver_had_begun_is_cut_and_the_agent_asks_again(
    box: GuestSandbox, other: GuestSandbox
) -> None:
    script = """
sock = socket.create_connection(("127.0.0.1", PORT))
sock.sendall(head("GET"))
data = b""
while not data.endswith(b"begun\\r\\n"):
    data += sock.recv(1000)
tell(True)
while sock.recv(1000): pass
tell(ask(connect(), body=b"again"))
hear()
"""
    with anyio.fail_after(SECONDS):
        async with script_agent(box, script, name="cut-short") as old:
            exchange = await old.next_exchange()
            await exchange.send_head(200, [])
            await exchange.send(b"begun")
            assert await old.told() is True
            async with other.drive_agent("cut-short") as new:
                # The one that was cut may be told before it is gone.
                while (asked := await next_body(new)) != b"again":
                    assert asked == b""
                assert (await new.receive()).startswith(b"true\n")


LAST_EVENT = b'event: message_stop\ndata: {"type":"message_stop"    }\n\n'


@pytest.mark.parametrize(("last", "states"), [(LAST_EVENT, []), (LAST_EVENT[:-1], ["answer_repeated"])])
async def test_an_answer_that_lacks_only_its_end_when_the_driver_changes_is_ended_and_not_asked_again(
    box: GuestSandbox, other: GuestSandbox, last: bytes, states: list[str]
) -> None:
    script = """
sock = socket.create_connection(("127.0.0.1", PORT))
sock.sendall(head("GET"))
data = b""
while not data.endswith(b"\\n\\r\\n") or b"message_stop" not in data:
    data += sock.recv(1000)
tell("read")
heard = []
while line := hear():
    heard.append(line)
more = sock.recv(1000)
tell([more.decode(), [line["state"] for line in heard if line["op"] == "note"]])
hear()
"""
    command = ["python3", "-c", PRELUDE + script]
    params = agent_params("whole", command, box.token, env={}, model=True, news=True)
    with anyio.fail_after(SECONDS):
        await box.session.call("start", params)
        async with box.drive_agent("whole") as old:
            exchange = await old.next_exchange()
            await exchange.send_head(200, [])
            await exchange.send(b"event: message_start\ndata: {}\n\n")
            await exchange.send(last)
            assert await old.receive() == b'"read"\n'
            async with other.drive_agent("whole", after=len(b'"read"\n')) as new:
                await new.send(b"null\n")
                end = "" if states else "0\r\n\r\n"
                assert json.loads(await new.receive()) == [end, states]


async def next_body(channel: AgentChannel) -> bytes:
    """Answer the next model request with nothing; return its body, none of one that was cut."""
    exchange = await channel.next_exchange()
    try:
        body = await read_request(exchange)
        await exchange.send_head(200, [])
        exchange.end()
        await exchange.wait_gone()
    except ConnectionError:
        body = b""
    channel.close_exchange(exchange)
    return body


async def read_request(exchange: Exchange) -> bytes:
    """Read a request to its end, return its body."""
    await exchange.head()
    return await body_of(exchange)


async def test_observers_read_the_journal_from_its_beginning_and_stall_nobody(
    box: GuestSandbox, other: GuestSandbox
) -> None:
    script = "for n in range(6): sys.stdout.write(chr(65 + n) * 1_000_000)\nsys.stdout.flush()\nhear()"
    with anyio.fail_after(SECONDS):
        async with (
            script_agent(box, script, name="observed") as agent,
            other.observe_agent("observed") as stalled,
        ):
            assert await stalled.receive()  # and no more for now: it has credit for 2 MiB
            size = 0
            while size < 6_000_000:
                size += len(await agent.channel.receive())
                agent.channel.ack(size)
            await agent.say("end")
            assert await agent.channel.receive() == b""
            async with LocalProvider() as third:
                late = await third.get(box.id)
                async with late.observe_agent("observed") as journal:
                    assert sum([len(data) async for data in pieces(journal)]) == 6_000_000


async def pieces(journal: Observation) -> AsyncIterator[bytes]:
    """Yield what a journal brings."""
    while data := await journal.receive():
        yield data


async def test_a_second_reader_over_the_same_link_is_refused_and_the_first_goes_on(box: GuestSandbox) -> None:
    with anyio.fail_after(SECONDS):
        async with script_agent(box, "while True: tell(hear())", name="read-twice") as agent:
            with pytest.raises(ConfigError, match="is read already"):
                async with box.observe_agent("read-twice"):
                    raise AssertionError("two readers of one stream")
            await agent.say(1)
            assert await agent.told() == 1


async def test_half_a_line_of_a_driver_that_went_was_never_sent(
    box: GuestSandbox, other: GuestSandbox
) -> None:
    script = "tell('up')\nwhile line := sys.stdin.readline(): tell(line)"
    with anyio.fail_after(SECONDS):
        async with script_agent(box, script, name="half") as old:
            await old.told()
            await old.channel.send(b"whole\nhalf of a")
            assert await old.told() == "whole\n"
            async with other.drive_agent("half") as new:
                await new.receive()
                await new.send(b"new line\n")
                assert await new.receive() == b'"new line\\n"\n'


async def test_whoever_waits_for_an_agent_that_is_released_is_told(box: GuestSandbox) -> None:
    ends: list[type[BaseException]] = []

    async def wait_for(channel: AgentChannel, what: str) -> None:
        try:
            await (channel.receive() if what == "receive" else channel.next_exchange())
        except (AgentEndedError, anyio.ClosedResourceError) as exc:
            ends.append(type(exc))

    with anyio.fail_after(SECONDS):
        async with anyio.create_task_group() as tasks:
            async with script_agent(box, "tell('up')\nhear()") as agent:
                await agent.told()
                tasks.start_soon(wait_for, agent.channel, "receive")
                tasks.start_soon(wait_for, agent.channel, "next_exchange")
                await anyio.wait_all_tasks_blocked()
            with pytest.raises(AgentEndedError):
                await agent.channel.receive()
            with pytest.raises(AgentEndedError):
                await agent.channel.send(b"1\n")
    assert ends == [AgentEndedError, AgentEndedError]


async def test_what_one_host_started_another_host_does_not_read(
    box: GuestSandbox, other: GuestSandbox
) -> None:
    with anyio.fail_after(SECONDS):
        prefix, _, number = box.session.unique().rpartition("-")
        async with box.spawn(["echo", "mine"]) as process:  # its name is the next one
            flow = other.session.inflow(f"p/{prefix}-{int(number) + 1}/out")
            with pytest.raises(GuestLostError):
                await flow.receive()
            other.session.close_inflow(flow)
            assert await process.receive_stdout() == b"mine\n"
            assert await process.wait() == 0
