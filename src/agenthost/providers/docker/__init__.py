"""Sandboxes in containers, by the API of a container engine."""
