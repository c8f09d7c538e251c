"""Host the Claude Agent SDK in any sandbox."""
