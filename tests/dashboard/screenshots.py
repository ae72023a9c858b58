"""Draw each scene as docs/screenshots/NAME.svg: ``.venv/bin/python -m tests.dashboard.screenshots [NAME...]``."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import tempfile
import time
from pathlib import Path

from tests.dashboard.scenes import SCENES, Scene
from tests.dashboard.stage import stage

FOLDER = Path(__file__).parents[2] / "docs" / "screenshots"


async def picture(scene: Scene) -> str:
    """A scene as SVG. It names no font of another server, so that looking at it asks nobody."""
    with tempfile.TemporaryDirectory() as folder:
        async with stage(scene, Path(folder)) as shown:
            await shown.settle()
            svg = shown.app.export_screenshot(title="llama-local dashboard")
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    svg = svg.replace("<svg ", '<svg xml:space="preserve" ', 1)
    return re.sub(r"terminal-\d+", "terminal", svg.replace("Fira Code", "Fira Code, DejaVu Sans Mono"))


def main(names: list[str]) -> None:
    """Draw the named scenes, or all."""
    os.environ["TZ"] = "UTC"
    time.tzset()
    for name in names or SCENES:
        (FOLDER / f"{name}.svg").write_text(asyncio.run(picture(SCENES[name])))


if __name__ == "__main__":
    main(sys.argv[1:])
