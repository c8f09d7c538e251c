"""The model endpoint's door: the agent's own key opens, nothing else does, and it goes no further."""

from __future__ import annotations

import json

import anyio
from guest.model_agent import script_agent

from agenthost.link.client import GuestSandbox

SECONDS = 60.0  # until a test is taken to hang


async def test_without_the_right_key_it_is_401_and_the_host_never_hears(box: GuestSandbox) -> None:
    script = """
for headers in (
    {},
    {"x-api-key": "sk-ant-wrong"},
    {"x-api-key": KEY + "x"},
    {"x-api-key": KEY[:-1]},
    {"x-api-key": ""},
    {"x-api-key": "f\u00fcr"},
    {"x-api-key": "wrong", "authorization": "Bearer " + KEY},
    {"authorization": "Bearer wrong"},
    {"authorization": "Basic " + KEY},
    {"authorization": KEY},
    {"cookie": KEY},
):
    connection = connect()
    connection.request("POST", "/v1/messages?key=" + KEY, b"{}", headers)
    answer = connection.getresponse()
    tell([answer.status, json.loads(answer.read())["error"]["type"]])
tell(ask(connect(), path="/v1/proper"))
"""
    with anyio.fail_after(SECONDS):
        async with script_agent(box, script) as agent:
            for _ in range(11):
                assert await agent.told() == [401, "authentication_error"]
            # Had anything come before, it would come first.
            assert (await agent.answer(b""))[0].path == "/v1/proper"
            assert (await agent.told())[0] == 200


async def test_the_right_key_opens_and_never_reaches_the_host(box: GuestSandbox) -> None:
    script = """
tell(KEY)
for name, value in (("x-api-key", KEY), ("X-API-Key", KEY), ("authorization", "Bearer " + KEY),
                    ("Authorization", "bearer " + KEY)):
    connection = connect()
    connection.request("POST", "/v1/messages", b"{}", {name: value, "proxy-authorization": "also " + KEY})
    tell(connection.getresponse().status)
"""
    with anyio.fail_after(SECONDS):
        async with script_agent(box, script) as agent:
            key = await agent.told()
            assert key.startswith("sk-ant-")
            for _ in range(4):
                head, _ = await agent.answer(b"")
                assert key not in json.dumps([head.method, head.path, head.headers])
                assert {"authorization", "x-api-key", "host", "connection"}.isdisjoint(dict(head.headers))
                assert await agent.told() == 200


async def test_without_model_traffic_there_is_no_address_and_no_key(box: GuestSandbox) -> None:
    with anyio.fail_after(SECONDS):
        async with script_agent(box, "tell([BASE, KEY])", model=False) as agent:
            assert await agent.told() == ["", ""]


async def test_two_agents_get_their_own_exchanges_and_the_key_of_one_is_none_of_the_others(
    box: GuestSandbox,
) -> None:
    script = """
tell(KEY)
connection = connect()
connection.request("POST", "/v1/messages", b"{}", {"x-api-key": hear()})
tell(connection.getresponse().status)
"""
    with anyio.fail_after(SECONDS):
        async with script_agent(box, script) as one, script_agent(box, script) as two:
            keys = [await one.told(), await two.told()]
            assert keys[0] != keys[1]
            await one.say(keys[1])  # spends as the other: it is the other's exchange
            await two.answer(b"")
            assert await one.told() == 200
            await two.say(keys[1])
            await two.answer(b"")
            assert await two.told() == 200


async def test_a_key_opens_nothing_once_its_agent_is_released(box: GuestSandbox) -> None:
    with anyio.fail_after(SECONDS):
        async with script_agent(box, "tell([KEY, BASE])\nhear()") as agent:
            key, base = await agent.told()
        fetch = f"""
import urllib.request, urllib.error
try:
    urllib.request.urlopen(urllib.request.Request("{base}/v1/messages", b"x", {{"x-api-key": "{key}"}}))
except urllib.error.HTTPError as error:
    print(error.code)
"""
        assert (await box.exec(["python3", "-c", fetch])).stdout == b"401\n"


async def test_the_endpoint_listens_on_loopback_only(box: GuestSandbox) -> None:
    with anyio.fail_after(SECONDS):
        async with script_agent(box, "tell(BASE)\nhear()") as agent:
            base = await agent.told()
            listening = await box.exec(["cat", "/proc/net/tcp", "/proc/net/tcp6"])
    port = int(base.rpartition(":")[2])
    lines = [line.split() for line in listening.stdout.decode().splitlines()]
    states = {line[1] for line in lines if len(line) > 3 and line[3] == "0A"}
    assert states == {f"0100007F:{port:04X}"}
