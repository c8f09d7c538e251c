"""Who makes sandboxes. Import nothing here: the local keeper starts through this package."""
