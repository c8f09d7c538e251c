"""The ``vercel`` provider: microVMs of Vercel Sandbox, by its REST API."""
