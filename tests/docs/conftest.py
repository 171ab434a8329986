"""Helpers of this folder are imported by name."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


def pytest_configure(config: pytest.Config) -> None:
    """Declare pytest-xdist's mark, which is strict and unknown where xdist is not installed."""
    config.addinivalue_line("markers", "xdist_group(name): run on one worker, fixtures made once")
