"""Providers' APIs on loopback, for the real clients: each translates its wire onto ``machines``."""
