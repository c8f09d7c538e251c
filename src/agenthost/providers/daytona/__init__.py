"""The ``daytona`` provider: sandboxes of Daytona, by the vendor's own client."""
