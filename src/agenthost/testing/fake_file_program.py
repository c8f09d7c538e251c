"""What ``agenthost.files`` runs in a sandbox, for a FakeSandbox: the same program, on a copy of its files."""

from __future__ import annotations

import io
import json
import os
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agenthost.files.inside.main import Streams, run
from agenthost.threads import in_thread

if TYPE_CHECKING:
    from agenthost.testing.fake_files import FakeFiles
    from agenthost.testing.fake_process import ProgramView

_CHANGE = ("remove", "unpack")


async def work_on_files(call: str, program: ProgramView) -> int:
    """Do one call of ``agenthost.files``: in a temporary directory that it takes for the disk."""
    given: dict[str, Any] = json.loads(call)
    sent = await program.read_all() if given["do"] == "unpack" else b""
    streams = Streams(io.BytesIO(sent), io.BytesIO(), io.BytesIO())
    code = await in_thread(partial(_work, given, streams, program.files))
    for stream, write in ((streams.out, program.write), (streams.err, program.write_error)):
        stream.seek(0)
        await write(stream.read())
    return code


def _work(call: dict[str, Any], streams: Streams, files: FakeFiles) -> int:
    with tempfile.TemporaryDirectory(prefix="agenthost-fake-") as name:
        root = os.path.realpath(name)
        for directory in files.directories():
            os.makedirs(root + directory, exist_ok=True)
        for path, data in files.items():
            Path(root + path).write_bytes(data)
            os.chmod(root + path, files.mode(path))
        moved = {**call, "workdir": root + call["workdir"]}
        if call["path"].startswith("/"):
            moved["path"] = root + call["path"]
        told = Streams(streams.source, io.BytesIO(), io.BytesIO())
        code = run(json.dumps(moved), told)
        if call["do"] in _CHANGE:
            _take_back(root, files)
        for inner, outer in ((told.out, streams.out), (told.err, streams.err)):
            inner.seek(0)
            text = inner.read()
            archive = call["do"] == "pack" and inner is told.out
            outer.write(text if archive else text.replace(root.encode(), b""))
        return code


def _take_back(root: str, files: FakeFiles) -> None:
    files.clear()
    for where, directories, names in os.walk(root):
        for name in directories:
            files.make_directory(os.path.join(where, name).removeprefix(root))
        for name in names:
            path = os.path.join(where, name)
            if os.path.isfile(path):  # through a link: a FakeSandbox has none
                mode = os.stat(path).st_mode & 0o7777
                os.chmod(path, mode | 0o400)
                files.write(path.removeprefix(root), Path(path).read_bytes(), mode)
