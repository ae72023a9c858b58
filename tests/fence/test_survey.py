"""A survey is settled before bubblewrap gets its mounts."""

from __future__ import annotations

import os
from pathlib import Path

from claude_local.fence.plan import Fence
from claude_local.fence.survey import Survey
from tests.fence.world import write


def test_settling_keeps_only_real_paths_in_a_root(tmp_path: Path) -> None:
    base = Path(os.path.realpath(tmp_path))
    root, outside = base / "root", base / "outside"
    write(root / "a" / "file")
    write(outside / "file")
    (root / "link").symlink_to(outside)
    (root / "alias").symlink_to("a")
    names = ["a", "link", "alias", "a/file", "link/file", "alias/file", "missing", "../outside", "../root", ".."]
    paths = [os.path.join(root, name) for name in names]
    survey = Survey(
        fence=Fence(
            rw_bind=[str(root)], self_bind=list(paths), ro_bind=list(paths), nested_rw_bind=list(paths),
            stub_directories=[os.path.join(path, "new") for path in paths],
            stub_files=[os.path.join(path, "new") for path in paths],
        )
    )  # fmt: skip
    survey.settle([str(root)])
    fence = survey.fence
    assert fence.self_bind == [str(root / "a")]
    assert set(fence.ro_bind) == {str(root / "a"), str(root / "a" / "file")}
    assert fence.nested_rw_bind == [str(root / "a")]
    assert fence.stub_files == [], "a stub in something guarded is not needed"
    assert fence.stub_directories == []


def test_settling_keeps_the_stubs_that_are_needed(tmp_path: Path) -> None:
    root = os.path.realpath(tmp_path)
    survey = Survey(fence=Fence(rw_bind=[root], stub_files=[root + "/.envrc"] * 2, stub_directories=[root + "/no/x"]))
    survey.settle([root])
    assert survey.fence.stub_files == [root + "/.envrc"]
    assert survey.fence.stub_directories == [], "bubblewrap would make the directory on the way to it"
