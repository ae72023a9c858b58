"""The plan of a placement, which the controller writes and the workstation reads."""

import pytest

from claude_local.models import profiles
from claude_local.models.placement_plan import PlacementError, plan_data

SHA = "ab" * 32


def test_the_plan_holds_what_placing_needs() -> None:
    known = profiles.parse(
        f"[x]\nMODEL = a.gguf\nSHA256 = {SHA}\nSIZE = 5\nSOURCES = url https://h.example/a\n[y]\nMODEL = b.gguf\n"
    )
    where = {"model_dir": "/m", "search_dirs": ["/s"], "hub": "https://h", "placements_path": "/p.json"}
    plan = plan_data(known, ["x"], **where)
    assert plan["profiles"] == [
        {
            "id": "x",
            "model": "a.gguf",
            "mmproj": None,
            "files": [{"name": "a.gguf", "sha256": SHA, "size": 5, "sources": ["url https://h.example/a"]}],
        }
    ]


def test_a_model_that_the_server_could_not_see_is_refused() -> None:
    known = profiles.parse("[x]\nMODEL = /elsewhere/a.gguf\n")
    where = {"model_dir": "/m", "search_dirs": [], "hub": "https://h", "placements_path": "/p.json"}
    with pytest.raises(PlacementError, match="/elsewhere"):
        plan_data(known, ["x"], **where)
    plan_data(known, ["x"], **{**where, "search_dirs": ["/elsewhere"]})
