"""What the list of processes shows of this one."""

from __future__ import annotations

import ctypes

_ARG_START, _ARG_END = 48, 49  # fields of /proc/PID/stat, counted from 1; see proc(5)


def set_title(*words: str) -> None:
    """Show these words as the command of this process, as many bytes of them as the old command had.

    A process that was forked has its parent's command otherwise. Nothing happens where the kernel does not
    tell where the command is.
    """
    try:
        with open("/proc/self/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        start, end = (int(fields[number - 3]) for number in (_ARG_START, _ARG_END))
    except (OSError, ValueError, IndexError):
        return
    size = end - start
    if start > 0 and size > 1:
        text = b"\0".join(word.encode("utf-8", "surrogateescape") for word in words)
        ctypes.memmove(start, text[: size - 1].ljust(size, b"\0"), size)
