"""Put NVIDIA's packages with the CUDA compiler into the image's build context.

    python -m claude_local.image.cuda_wheels FOLDER

They are the second source of CUDA, used if no registry has NVIDIA's devel image. pip's own settings say where to get
them; pinned hashes identify them. Exit status 0 if FOLDER holds exactly these packages (if it already does, nothing is
fetched), 1 if they could not be fetched.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from claude_local.hardware.cuda import IN_WHEELS, WHEELS
from claude_local.image.source import SourceError, pip_download
from claude_local.models.part import hash_file

# For the person whose machine compiles with it. The licence allows passing on the three libraries, not the compiler.
LICENCE = "NVIDIA's licence applies (docs.nvidia.com/cuda/eula); only its three run-time libraries go into the image"


def say(text: str) -> None:
    """Print a line of progress."""
    print(f"[CUDA] {text}", flush=True)


def complete(folder: Path) -> bool:
    """Whether ``folder`` holds the pinned wheels, and no other."""
    return sorted(hash_file(str(path)) for path in folder.glob("*.whl")) == sorted(WHEELS.values())


def fetch(folder: Path) -> None:
    """Put the wheels into ``folder``, and remove those of another release. Raises SourceError."""
    say(f"compiling with CUDA {IN_WHEELS.version} from NVIDIA's packages on PyPI. {LICENCE}")
    folder.mkdir(parents=True, exist_ok=True)
    if not complete(folder):
        for path in folder.glob("*.whl"):
            if hash_file(str(path)) not in WHEELS.values():
                path.unlink()
        pip_download(WHEELS, folder, "--only-binary", say)
        if not complete(folder):
            raise SourceError(f"{folder} has packages that are not the pinned ones")
    say(f"the packages are in {folder}")


def main(arguments: list[str] | None = None) -> int:
    """The command line; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="cuda_wheels", description="Fetch NVIDIA's packages with the CUDA compiler.")
    parser.add_argument("folder", type=Path, help="where to put the wheels")
    try:
        fetch(parser.parse_args(arguments).folder)
    except SourceError as error:
        print(f"NVIDIA's packages on PyPI could not be fetched: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
