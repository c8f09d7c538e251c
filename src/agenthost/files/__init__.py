"""Files and directories of a sandbox, whoever made it.

    from agenthost.files import download_dir, upload_dir

    await upload_dir(sandbox, "./app", "/workspace")
    await download_dir(sandbox, "out", "./results")

transfer.py  directories in and out     entries.py  one path at a time
ignore.py    what stays at home         values.py   what they are told and tell
digests.py   digests of files, made inside
program.py   runs ``inside``            inside/     works on trees of files, on the host and in the sandbox
git_config.py     what of git's configuration travels
git_directory.py  repositories whose directory is elsewhere
"""

from agenthost.files.entries import exists, list_dir, remove, stat
from agenthost.files.ignore import DEFAULT_IGNORE, Ignore
from agenthost.files.transfer import download_dir, upload_dir
from agenthost.files.values import (
    Downloaded,
    FileInfo,
    FileKind,
    TransferLimits,
    TransferProgress,
    Uploaded,
)

__all__ = [
    "DEFAULT_IGNORE",
    "Downloaded",
    "FileInfo",
    "FileKind",
    "Ignore",
    "TransferLimits",
    "TransferProgress",
    "Uploaded",
    "download_dir",
    "exists",
    "list_dir",
    "remove",
    "stat",
    "upload_dir",
]
