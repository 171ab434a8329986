"""Foreign models against the runtimes that define them."""
