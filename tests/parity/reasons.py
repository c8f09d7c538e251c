"""What of the SDK has no scenario, and why."""

_LOCAL_DISK = (
    "a function on the session files of the machine that calls it, without a client; a sandbox's are inside"
)
REASONS = {
    "option:debug_stderr": "the SDK reads it no more: dead, and its default is this process's own stderr",
    **{
        f"function:{name}": _LOCAL_DISK
        for name in (
            "delete_session",
            "fork_session",
            "get_session_info",
            "get_session_messages",
            "get_subagent_messages",
            "import_session_to_store",
            "list_sessions",
            "list_subagents",
            "rename_session",
            "tag_session",
        )
    },
    "class:ForkSessionResult": _LOCAL_DISK,
}
