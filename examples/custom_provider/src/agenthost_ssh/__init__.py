"""Sandboxes of agenthost on a machine that is reached by ssh."""
