"""Sandboxes as the Worker keeps them: started once, listed, ended on time, and never replaced unseen."""

from __future__ import annotations

import time
from pathlib import Path

import anyio
import httpx
import pytest
from cloudflare_worker.calls import KEY, ROOT, Calls, code_of, sandbox_body
from cloudflare_worker.scripted_engine import ScriptedEngine

from agenthost.testing.emulators.cloudflare.worker import running_worker

WITHIN = 30.0  # seconds for what comes at once on a machine that is not busy


async def test_a_sandbox_is_made_found_and_listed_by_its_labels(worker: Calls) -> None:
    before = time.time()
    made = await worker.made("abc", labels={"app": "a=b", "stage": "ümläut"})
    assert made.pop("created_at") == pytest.approx(before, abs=WITHIN)
    assert made.pop("ends_at") == pytest.approx(before + 600, abs=WITHIN)
    assert made == {"id": "abc", "state": "running", "labels": {"app": "a=b", "stage": "ümläut"}}
    await worker.made("abd", labels={"app": "other"})
    assert (await worker.found("abc"))["labels"] == {"app": "a=b", "stage": "ümläut"}
    assert list(await worker.listed()) == ["abd", "abc"]
    assert list(await worker.listed("app=a=b")) == ["abc"]
    assert list(await worker.listed("app=a=b", "stage=ümläut")) == ["abc"]
    assert list(await worker.listed("app=a=b", "stage=other")) == []


async def test_a_sandbox_is_listed_before_its_container_starts(worker: Calls, engine: ScriptedEngine) -> None:
    engine.may_start = anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(worker.made, "abc")
        await engine.starting.wait()
        assert await worker.listed() == {"abc": "starting"}
        assert "abc" in engine.ends  # its end is set, too, should the Worker come to nothing now
        engine.may_start.set()
    assert await worker.listed() == {"abc": "running"}


async def test_of_several_first_calls_one_starts_a_container(worker: Calls, engine: ScriptedEngine) -> None:
    engine.may_start = anyio.Event()
    answers: list[httpx.Response] = []

    async def put() -> None:
        answers.append(await worker.put("abc"))
        if len(answers) == 7:  # all but the one that starts it
            assert [code_of(one) for one in answers] == ["name_taken"] * 7
            for answer in (await worker.run("abc", ["x"]), await worker.write("abc", "/workspace/x", b"")):
                code = answer.code if not isinstance(answer, httpx.Response) else code_of(answer)
                assert code == "starting"
            assert code_of(await worker.http.get(f"{ROOT}/sandboxes/abc/guest/x")) == "starting"
            engine.may_start.set()

    with anyio.fail_after(WITHIN):
        async with anyio.create_task_group() as tasks:
            for _ in range(8):
                tasks.start_soon(put)
    assert sorted(one.status_code for one in answers) == [201] + [409] * 7
    assert engine.starts == 1


async def test_a_name_is_taken_as_long_as_its_sandbox_is_known(worker: Calls, engine: ScriptedEngine) -> None:
    await worker.made("abc")
    engine.lose("abc")
    assert (await worker.found("abc"))["state"] == "ended"
    assert code_of(await worker.put("abc")) == "name_taken"
    assert (await worker.http.delete(f"{ROOT}/sandboxes/abc")).status_code == 204
    await worker.made("abc")


async def test_the_list_outlives_the_worker(engine: ScriptedEngine, engine_url: str, tmp_path: Path) -> None:
    for is_first in (True, False):
        async with running_worker(engine_url, KEY, storage=tmp_path) as running, Calls(running) as calls:
            if is_first:
                await calls.made("abc", labels={"app": "a"})
            assert await calls.listed("app=a") == {"abc": "running"}
            assert (await calls.run("abc", ["x"])).last == {"exit": 0}
    assert engine.starts == 1


async def test_a_container_is_destroyed_at_its_end_without_a_call_by_a_worker_that_was_started_again(
    engine: ScriptedEngine, engine_url: str, tmp_path: Path
) -> None:
    async with running_worker(engine_url, KEY, storage=tmp_path) as running, Calls(running) as calls:
        await calls.made("abc", seconds=2.0)
        await calls.made("abd")
    with anyio.fail_after(WITHIN):
        async with running_worker(engine_url, KEY, storage=tmp_path) as running, Calls(running) as calls:
            await engine.destroyed("abc").wait()
            assert list(engine.containers) == ["abd"]
            assert (await calls.found("abc"))["state"] == "ended"
            assert await calls.listed() == {"abd": "running", "abc": "ended"}


async def test_an_end_can_be_moved(worker: Calls, engine: ScriptedEngine) -> None:
    await worker.made("abc")
    for seconds in (1200.0, 0.5):
        ends_at = time.time() + seconds
        moved = await worker.http.post(f"{ROOT}/sandboxes/abc/lifetime", json={"ends_at": ends_at})
        assert moved.json()["ends_at"] == ends_at
        assert (await worker.found("abc"))["ends_at"] == ends_at
    with anyio.fail_after(WITHIN):
        await engine.destroyed("abc").wait()
    late = await worker.http.post(f"{ROOT}/sandboxes/abc/lifetime", json={"ends_at": time.time() + 60})
    assert (late.status_code, code_of(late)) == (410, "gone")


async def test_a_start_without_room_leaves_nothing(worker: Calls, engine: ScriptedEngine) -> None:
    engine.refused["start"] = (503, "capacity_exceeded")
    refused = await worker.put("abc")
    assert (refused.status_code, code_of(refused)) == (503, "capacity_exceeded")
    assert int(refused.headers["retry-after"]) > 0
    assert await worker.listed() == {}
    engine.refused.clear()
    await worker.made("abc")


async def test_a_start_that_fails_stays_listed_while_its_container_may_run(
    worker: Calls, engine: ScriptedEngine
) -> None:
    engine.refused = {"exec": (500, "broken"), "destroy": (500, "broken")}
    assert (await worker.put("abc")).status_code >= 500
    assert list(engine.containers) == ["abc"]
    assert await worker.listed() == {"abc": "starting"}
    engine.refused.clear()
    assert (await worker.http.delete(f"{ROOT}/sandboxes/abc")).status_code == 204
    assert (engine.containers, await worker.listed()) == ({}, {})


async def test_a_create_goes_on_when_the_caller_goes_away(worker: Calls, engine: ScriptedEngine) -> None:
    engine.may_start = anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(worker.put, "abc")
        await engine.starting.wait()
        tasks.cancel_scope.cancel()
    engine.may_start.set()
    with anyio.fail_after(WITHIN):
        while (await worker.found("abc"))["state"] == "starting":
            pass
    assert (await worker.run("abc", ["x"])).last == {"exit": 0}


async def test_a_sandbox_that_is_ended_while_it_starts_leaves_no_container(
    worker: Calls, engine: ScriptedEngine
) -> None:
    engine.may_start = anyio.Event()
    async with anyio.create_task_group() as tasks:

        async def put() -> None:
            answer = await worker.put("abc")
            assert (answer.status_code, code_of(answer)) == (410, "gone")

        tasks.start_soon(put)
        await engine.starting.wait()
        assert (await worker.http.delete(f"{ROOT}/sandboxes/abc")).status_code == 204
        engine.may_start.set()
    assert (engine.containers, await worker.listed()) == ({}, {})


async def test_ending_is_idempotent_and_touches_no_other_container(
    worker: Calls, engine: ScriptedEngine
) -> None:
    await worker.made("abc")
    for owner in ("abc", "abc", "abd"):
        assert (await worker.http.delete(f"{ROOT}/sandboxes/{owner}")).status_code == 204
    assert [call for call in engine.calls if call.startswith("destroy")] == ["destroy abc"]


async def do(worker: Calls, what: str) -> tuple[int, str]:
    """Do something inside of a sandbox, and return how it is refused."""
    if what == "exec":
        answer = await worker.run("abc", ["x"])
        return answer.status, answer.code
    if what == "file":
        response = await worker.write("abc", "/workspace/x", b"x")
    else:
        response = await worker.http.get(f"{ROOT}/sandboxes/abc/guest/x")
    return response.status_code, code_of(response)


@pytest.mark.parametrize("what", ["exec", "file", "port"])
@pytest.mark.parametrize("how", ["lost", "replaced", "lost just now"])
async def test_a_container_that_is_gone_is_never_replaced_by_an_empty_one(
    worker: Calls, engine: ScriptedEngine, what: str, how: str
) -> None:
    await worker.made("abc")
    if how == "lost just now":
        engine.replaces_at(what)
    else:
        (engine.lose if how == "lost" else engine.replace)("abc")
    assert await do(worker, what) == (410, "replaced")
    assert engine.containers == {}  # what was started by the call is destroyed, too
    assert await worker.listed() == {"abc": "ended"}
    starts = engine.starts
    assert await do(worker, what) == (410, "replaced")
    assert engine.starts == starts


async def test_an_empty_container_that_cannot_be_destroyed_now_is_not_used_either(
    worker: Calls, engine: ScriptedEngine
) -> None:
    await worker.made("abc", seconds=2.0)
    engine.replace("abc")
    engine.refused["destroy"] = (500, "broken")
    assert await do(worker, "exec") == (410, "replaced")
    assert await worker.listed() == {"abc": "ended"}
    assert await do(worker, "port") == (410, "replaced")
    engine.refused.clear()
    with anyio.fail_after(WITHIN):
        await engine.destroyed("abc").wait()  # at its end


async def test_calls_for_another_container_than_the_one_that_runs_are_refused(worker: Calls) -> None:
    await worker.made("abc")
    other = await worker.run("abc", ["x"], marker="f" * 32)
    assert (other.status, other.code) == (410, "replaced")
    assert code_of(await worker.write("abc", "/workspace/x", b"", marker="")) == "replaced"
    assert await worker.listed() == {"abc": "running"}


async def test_calls_of_a_sandbox_that_is_not_known_touch_no_container(
    worker: Calls, engine: ScriptedEngine
) -> None:
    for what in ("exec", "file", "port"):
        assert await do(worker, what) == (404, "not_found")
    for method, path in (("GET", ""), ("POST", "/lifetime")):
        body = {"ends_at": time.time() + 60}
        answer = await worker.http.request(method, f"{ROOT}/sandboxes/abc{path}", json=body)
        assert (answer.status_code, code_of(answer)) == (404, "not_found")
    for method, path in (("GET", "/x"), ("PATCH", "/sandboxes/abc"), ("POST", "/sandboxes/abc/exec/x")):
        answer = await worker.http.request(method, f"{ROOT}{path}")
        assert (answer.status_code, code_of(answer)) == (404, "unknown_call")
    assert engine.calls == []


async def test_a_sandbox_that_is_not_valid_is_refused_by_the_name_of_what_is_wrong(
    worker: Calls, engine: ScriptedEngine
) -> None:
    bad: list[tuple[str, object]] = [
        ("labels", ["a"]),
        ("labels", {"a": 1}),
        ("labels", {str(number): "" for number in range(65)}),
        ("labels", {"a": "x" * 16_384}),
        ("ends_at", "soon"),
        ("ends_at", 1.0),
        ("ends_at", 1e12),
        ("marker", "not hexadecimal"),
        ("port", 3000),
        ("port", 80),
        ("port", 20_000.5),
    ]
    for name, value in bad:
        answer = await worker.http.put(f"{ROOT}/sandboxes/abc", json=sandbox_body(**{name: value}))
        assert (answer.status_code, code_of(answer)) == (400, "invalid_request")
        assert answer.json()["error"]["message"] == f"{name} is not valid"
    assert engine.calls == []


async def test_other_input_that_is_not_valid_is_refused(worker: Calls, engine: ScriptedEngine) -> None:
    await worker.made("abc")
    calls = len(engine.calls)
    bad: list[tuple[str, str, object]] = [
        ("PUT", "sandboxes/ABC", {}),
        ("PUT", "sandboxes/abd", []),
        ("GET", "sandboxes?label=x", None),
        ("GET", "sandboxes?cursor=x", None),
        ("POST", "sandboxes/abc/exec", {"argv": []}),
        ("POST", "sandboxes/abc/exec", {"argv": ["x\0"]}),
        ("POST", "sandboxes/abc/exec", {"argv": ["x" * 120_000]}),
        ("POST", "sandboxes/abc/exec", {"argv": ["x"], "env": {"A-B": "x"}}),
        ("POST", "sandboxes/abc/exec", {"argv": ["x"], "timeout": 3601}),
        ("PUT", "sandboxes/abc/files?path=relative", {}),
    ]
    for method, path, body in bad:
        answer = await worker.http.request(method, f"{ROOT}/{path}", json=body)
        assert (answer.status_code, code_of(answer)) == (400, "invalid_request"), path
    assert len(engine.calls) == calls
