"""A program of the agent looks into the CLI's memory and environment, as its own user may elsewhere."""

from __future__ import annotations

import anyio
import pytest
from redteam.patched import Boxes, boxes_of

from agenthost.providers.docker import paths

pytestmark = pytest.mark.usefixtures("baked")

LIMIT = 120
STREAMS = ["--input-format", "stream-json", "--output-format", "stream-json"]
CLI = [f"{paths.SITE}/claude_agent_sdk/_bundled/claude", "-p", "--verbose", *STREAMS]
READABLE = ["python3", "-c", "print(input(), flush=True); input()"]
WAY = "CLI's memory and environment opened through /proc"

# Starts a program as the runner does, waits for its first line, and opens its files.
ATTACK = """
import errno, subprocess, sys
ask = b'{"type":"control_request","request_id":"1","request":{"subtype":"initialize","hooks":null}}\\n'
with subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
    program.stdin.write(ask)
    program.stdin.flush()
    assert program.stdout.readline(), "it has ended"
    for name in ("environ", "mem"):
        try:
            open(f"/proc/{program.pid}/{name}", "rb").close()
            print("opened")
        except OSError as error:
            print(errno.errorcode[error.errno])
    program.kill()
"""


@pytest.fixture(scope="module", params=[pytest.param("docker", marks=pytest.mark.full)])
def boxes(request: pytest.FixtureRequest) -> Boxes:
    """Give what makes sandboxes."""
    return boxes_of(request)


async def look_into(boxes: Boxes, argv: list[str]) -> set[str]:
    """Return how the kernel answered."""
    async with boxes() as box:
        with anyio.fail_after(LIMIT):
            done = await box.exec(["python3", "-I", "-S", "-c", ATTACK, *argv])
    assert done.exit_code == 0, done.stderr
    return set(done.stdout.decode().split())


@pytest.mark.attack("say something in the agent's place", WAY)
async def test_the_memory_of_the_cli_is_closed_to_its_neighbours(boxes: Boxes) -> None:
    assert await look_into(boxes, CLI) == {"EACCES"}


@pytest.mark.control(WAY)
async def test_the_memory_of_a_program_that_may_be_read_is_open(boxes: Boxes) -> None:
    assert await look_into(boxes, READABLE) == {"opened"}
