"""The ``e2b`` provider: microVMs of E2B, by the vendor's own client."""
