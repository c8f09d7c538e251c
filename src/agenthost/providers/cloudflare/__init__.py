"""The ``cloudflare`` provider: containers behind a Worker of the user's own account."""
