"""Sandboxes at Modal, by Modal's own client. ``import modal`` in here is Modal's package."""
