"""Files as one archive: one stream, which whoever unpacks it divides again."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping

_TIME = 315532800  # 1980: neither too old nor in the future for who unpacks it


def pack(files: Mapping[str, bytes]) -> bytes:
    """Return a tar of files by name, each of mode 0600."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode, entry.mtime = len(data), 0o600, _TIME
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()
