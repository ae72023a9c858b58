"""A vendor's apt repository: its sources file, and the key that signs it. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class AptRepository:
    """A repository that the deploy adds to apt's sources.

    ``name``: of our files in /etc/apt, so that no file of anybody else has it. ``suite``: a release, or ``/`` for a
    repository without releases and ``components``. ``fingerprint``: 40 hexadecimal digits; no other key is trusted.
    """

    name: str
    uri: str
    suite: str
    key_address: str
    fingerprint: str
    components: str = ""

    @property
    def sources_file(self) -> str:
        """The text of ``/etc/apt/sources.list.d/NAME.sources`` (deb822)."""
        components = f"Components: {self.components}\n" if self.components else ""
        return (
            f"Types: deb\nURIs: {self.uri}\nSuites: {self.suite}\n{components}"
            f"Signed-By: /etc/apt/keyrings/{self.name}.asc\n"
        )
