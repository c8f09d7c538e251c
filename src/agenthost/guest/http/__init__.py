"""The guest's HTTP port: an archive of its own, for providers that reach a sandbox through a port alone."""
