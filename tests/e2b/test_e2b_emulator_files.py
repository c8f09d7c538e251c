"""Files in the emulator are as E2B's daemon has them."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator

import e2b as vendor
import httpx
import pytest

from agenthost.testing.emulators.e2b import Emulator


@pytest.fixture(scope="module")
async def sandbox(e2b: Emulator) -> AsyncIterator[vendor.AsyncSandbox]:
    """Give one sandbox for all tests of this file."""
    made = await vendor.AsyncSandbox.create(timeout=600, **e2b.options)
    yield made
    await made.kill()


async def test_a_compressed_upload_is_unpacked(sandbox: vendor.AsyncSandbox) -> None:
    await sandbox.files.write_files([{"path": "packed", "data": b"\x00plain" * 100}], gzip=True)
    assert await sandbox.files.read("packed", format="bytes") == b"\x00plain" * 100


@pytest.mark.parametrize(
    ("encoding", "body"),
    [("gzip", b"not gzip"), ("gzip", gzip.compress(b"cut")[:-4]), ("br", b"x")],
    ids=["not gzip", "cut", "unknown"],
)
async def test_an_upload_that_cannot_be_unpacked_is_refused(
    e2b: Emulator, sandbox: vendor.AsyncSandbox, encoding: str, body: bytes
) -> None:
    headers = {"e2b-sandbox-id": sandbox.sandbox_id, "x-access-token": e2b.box(sandbox.sandbox_id).token}
    headers |= {"content-encoding": encoding, "content-type": "application/octet-stream"}
    async with httpx.AsyncClient(trust_env=False) as client:
        url = e2b.options["sandbox_url"] + "/files?path=refused"
        assert (await client.post(url, content=body, headers=headers)).status_code == 400
    assert not await sandbox.files.exists("refused")


async def test_metadata_of_a_file_is_kept_until_it_is_written_again(sandbox: vendor.AsyncSandbox) -> None:
    metadata = {"Author": "me", "kind": "note"}
    (written,) = await sandbox.files.write_files([{"path": "described", "data": "x"}], metadata=metadata)
    expected = {"author": "me", "kind": "note"}
    assert written.metadata == expected
    assert (await sandbox.files.get_info("described")).metadata == expected
    assert [one.metadata for one in await sandbox.files.list("") if one.name == "described"] == [expected]
    await sandbox.files.write_files([{"path": "described", "data": "y"}])
    assert (await sandbox.files.get_info("described")).metadata is None


async def test_a_link_has_the_type_and_mode_of_its_target_and_a_broken_one_is_not_listed(
    sandbox: vendor.AsyncSandbox,
) -> None:
    await sandbox.commands.run(
        "mkdir -p links/folder; touch links/file; chmod 640 links/file; cd links;"
        "ln -s file to-file; ln -s folder to-folder; ln -s nothing broken"
    )
    found = {one.name: one for one in await sandbox.files.list("links")}
    assert set(found) == {"file", "folder", "to-file", "to-folder"}
    assert (found["to-file"].type, found["to-file"].mode) == (vendor.FileType.FILE, 0o640)
    assert found["to-folder"].type == vendor.FileType.DIR
    assert found["to-file"].symlink_target == "/home/user/links/file"


@pytest.mark.parametrize("what", ["command", "write", "read", "list"])
async def test_what_is_asked_as_root_is_refused_by_name(sandbox: vendor.AsyncSandbox, what: str) -> None:
    with pytest.raises(vendor.SandboxException, match="this emulator has no root"):
        match what:
            case "command":
                await sandbox.commands.run("id", user="root")
            case "write":
                await sandbox.files.write_files([{"path": "/root/x", "data": "x"}], user="root")
            case "read":
                await sandbox.files.read("/etc/passwd", user="root")
            case _:
                await sandbox.files.list("/root", user="root")
