"""Sandboxes on this machine: bubblewrap namespaces, or plain processes by explicit choice."""
