"""Which shells the user has."""

from __future__ import annotations

from pyinfra.api import FactBase


class Shells(FactBase[list[str]]):
    """Those of bash, zsh and fish that are installed."""

    def command(self) -> str:
        return "for shell in bash zsh fish; do command -v $shell >/dev/null 2>&1 && echo $shell; done; true"

    def process(self, output: list[str]) -> list[str]:
        return [line.strip() for line in output if line.strip()]

    @staticmethod
    def default() -> list[str]:
        return []
