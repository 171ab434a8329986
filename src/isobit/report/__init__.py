"""One `Report`, three renderings: terminal, JSON, one-file HTML."""
