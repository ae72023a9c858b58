"""What several of the integration tests start from, and what is shown when one fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.fenced_home import Person

# The files with a failed test.
failed: set[str] = set()


@pytest.fixture
def work(who: Person, tmp_path: Path) -> Path:
    """A new workspace of the person whom the test's module calls ``who``."""
    return who.workspace(f"work-{tmp_path.name}")


def pytest_runtest_setup(item: pytest.Function) -> None:
    """In a file with ``STORY = True`` each test goes on where the one before ended."""
    if getattr(item.module, "STORY", False) and item.location[0] in failed:
        pytest.skip("an earlier part of this story failed")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Show a failure at once: a run that is ended from outside never comes to its summary."""
    if report.failed:
        failed.add(report.location[0])
        print(f"\n{report.longreprtext}", flush=True)
