"""A developer's usual tools work inside, where the machine has them."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from local.sandboxes import open_sandbox

from agenthost.link.client import GuestSandbox
from agenthost.providers.local.interpreter import Interpreter
from agenthost.providers.local.isolated import find_host
from agenthost.providers.local.provider import LocalProvider
from agenthost.spec import Mount, SandboxSpec

_PATH = "/usr/local/bin:/usr/bin:/bin"
_C = r"""cat > a.c <<'END'
#include <stdio.h>
#include <stdlib.h>
int main(int count, char **words) {
    char *block = malloc(7);
    if (count > 1) free(block);
    printf("%d\n", 6 * 7 + (block[0] = 0));
    return 0;
}
END
"""

# The program that the machine must have, and a script that prints 42 last.
_TOOLS = {
    "python": ("python3", "python3 -c 'print(6 * 7)'"),
    "python, another environment": (
        "python3",
        "python3 -m venv --without-pip v && v/bin/python -c 'print(42)'",
    ),
    "node": ("node", "node -p '6 * 7'"),
    "perl": ("perl", "perl -MPOSIX -e 'print 6 * 7'"),
    "gcc": ("gcc", _C + "gcc a.c -o a && ./a"),
    "g++": (
        "g++",
        "echo '#include <iostream>\nint main() { std::cout << 42; }' > a.cc && g++ a.cc -o a && ./a",
    ),
    "make": ("make", r"printf 'all:\n\t@echo $$((6 * 7))\n' > Makefile && make"),
    "git": (
        "git",
        "git init -q && git -c user.name=a -c user.email= commit -qm 42 --allow-empty && git log --format=%s",
    ),
    "java": (
        "javac",
        """cat > A.java <<'END'
class A { public static void main(String[] words) { System.out.println(6 * 7); } }
END
javac A.java && java A""",
    ),
    "maven": ("mvn", "mvn -v >/dev/null && echo 42"),
    "gdb": (
        "gdb",
        _C
        + "gcc -g a.c -o a && gdb -batch -ex 'break main' -ex run -ex 'print count + 41' a | sed 's/.*= //'",
    ),
    "strace": ("strace", "strace -f -o log sh -c 'echo 42 | cat' && grep -q execve log && echo 42"),
    "address sanitizer": ("gcc", _C + "gcc -fsanitize=address a.c -o a && ./a"),
    "address sanitizer with options": (
        "gcc",
        _C + "gcc -fsanitize=address a.c -o a && ASAN_OPTIONS=color=never ./a",
    ),
    "leak sanitizer": ("gcc", _C + "gcc -fsanitize=leak a.c -o a && ./a"),
    "thread sanitizer": ("gcc", _C + "gcc -fsanitize=thread a.c -o a && ./a"),
    "undefined behaviour sanitizer": ("gcc", _C + "gcc -fsanitize=undefined a.c -o a && ./a"),
    "address sanitizer that finds something": (
        "gcc",
        _C + "gcc -fsanitize=address a.c -o a && ! ./a x 2>err && grep -q heap-use-after-free err && echo 42",
    ),
    "certificates": (
        "openssl",
        "for f in /etc/ssl/certs/*.crt; do openssl x509 -noout -in $f && echo 42 && break; done",
    ),
}


@pytest.fixture(scope="module")
async def box() -> AsyncIterator[GuestSandbox]:
    """One sandbox with the machine's tools."""
    async with open_sandbox(LocalProvider) as (_, sandbox):
        yield sandbox


async def prints_42(box: GuestSandbox, script: str) -> None:
    """Run a script in a directory of its own."""
    result = await box.exec(["bash", "-c", f"set -o pipefail; cd $(mktemp -d) && {script}"])
    assert result.exit_code == 0, (result.stdout, result.stderr)
    assert result.stdout.split()[-1:] == [b"42"], result.stderr


@pytest.mark.parametrize("name", _TOOLS)
async def test_a_tool_of_the_machine_works(box: GuestSandbox, name: str) -> None:
    program, script = _TOOLS[name]
    if shutil.which(program, path=_PATH) is None:
        pytest.skip(f"not in CI: there is no {program} on this machine")
    await prints_42(box, script)


_MOUNTED = {
    "rustc": (
        ("--print", "sysroot"),
        "echo 'fn main() { println!(\"{}\", 6 * 7) }' > a.rs && rustc a.rs && ./a",
    ),
    "go": (
        ("env", "GOROOT"),
        "printf 'package main\nfunc main() { println(6 * 7) }\n' > a.go && go run a.go 2>&1",
    ),
}


@pytest.mark.parametrize("name", _MOUNTED)
async def test_a_tool_outside_of_usr_works_where_it_is_mounted(name: str) -> None:
    question, script = _MOUNTED[name]
    if shutil.which(name) is None:
        pytest.skip(f"not in CI: there is no {name} on this machine")
    mount = Mount(source=_answer(name, *question), target="/tools")
    async with open_sandbox(LocalProvider, SandboxSpec(mounts=(mount,))) as (_, box):
        await prints_42(box, f"export PATH=/tools/bin:$PATH && {script}")


def _answer(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def prefix() -> Iterator[str]:
    """An interpreter that is none of /usr's, with a console script as pip writes it, and one of its own."""
    with tempfile.TemporaryDirectory() as directory:
        top = Path(directory, "versions", "3.x")
        (top / "bin").mkdir(parents=True)
        for folder in (Path(directory), top.parent, top, top / "bin"):
            folder.chmod(0o755)
        _script(top / "bin/python3", '#!/bin/sh\nexec /usr/bin/python3 "$@"\n')
        for name in ("own-tool", "env"):
            _script(top / "bin" / name, f"#!{top}/bin/python3\nprint(6 * 7)\n")
        yield str(top)


def _script(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


class _OtherPython(LocalProvider):
    """Finds an interpreter that was put somewhere else."""

    def __init__(self, prefix: str) -> None:
        super().__init__()
        interpreter = Interpreter("/opt/agenthost/python/bin/python3", prefix, None, (prefix,))
        self._found = replace(find_host(), interpreter=interpreter)


needs_system_python = pytest.mark.skipif(
    not os.path.exists("/usr/bin/python3"), reason="not in CI: no Python in /usr/bin"
)


@needs_system_python
async def test_console_scripts_of_the_hosts_interpreter_run(prefix: str) -> None:
    async with open_sandbox(lambda: _OtherPython(prefix)) as (_, box):
        await prints_42(box, "own-tool")
        await prints_42(box, f"{prefix}/bin/own-tool")
        assert (await box.exec(["sh", "-c", f"ls -A {os.path.dirname(prefix)}"])).stdout == b"3.x\n"


@needs_system_python
async def test_console_scripts_that_cannot_run_hide_no_other(prefix: str) -> None:
    # The place where they look for their interpreter is taken by a mount.
    spec = SandboxSpec(mounts=(Mount(source="/usr/share", target=os.path.dirname(prefix)),))
    async with open_sandbox(lambda: _OtherPython(prefix), spec) as (_, box):
        await prints_42(box, "env echo 42")
        result = await box.exec(["bash", "-c", "type -p env python3"])
        assert result.stdout.split() == [b"/usr/bin/env", b"/opt/agenthost/bin/python3"]


async def test_pip_of_the_hosts_interpreter_runs(box: GuestSandbox) -> None:
    if find_host().interpreter.source is None:
        pytest.skip("not in CI: the interpreter is the system's")
    result = await box.exec(["bash", "-c", "pip --version && type -p pip"])
    assert result.exit_code == 0, result.stderr
    assert result.stdout.split()[-1] == b"/opt/agenthost/python/bin/pip"
