"""Reports as fixtures."""

from __future__ import annotations

import pytest

from isobit.report.report import Report
from report.cases import bare_report, full_report, large_report


@pytest.fixture
def full() -> Report:
    return full_report()


@pytest.fixture
def bare() -> Report:
    return bare_report()


@pytest.fixture
def large() -> Report:
    return large_report()
