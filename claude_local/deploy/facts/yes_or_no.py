"""The facts that are one question: their command prints yes or no, and a machine that says nothing says no."""

from __future__ import annotations

from pyinfra.api import FactBase


class YesOrNo(FactBase[bool]):
    """Whether the last line that ``command`` printed is ``yes``; False where it printed nothing or could not run."""

    def process(self, output: list[str]) -> bool:
        return output[-1].strip() == "yes"

    @staticmethod
    def default() -> bool:
        return False
