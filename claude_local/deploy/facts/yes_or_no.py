"""Facts that answer one question with yes or no."""

from __future__ import annotations

from pyinfra.api import FactBase


class YesOrNo(FactBase[bool]):
    """Whether the last line of the command's output is ``yes``. No output means no."""

    def process(self, output: list[str]) -> bool:
        return output[-1].strip() == "yes"

    @staticmethod
    def default() -> bool:
        """No."""
        return False
