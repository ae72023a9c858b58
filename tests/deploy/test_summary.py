"""The table at the end of a run."""

from claude_local.deploy.summary import Stage, render


def test_stages_with_times_and_results_then_what_to_type() -> None:
    lines = render({"packages": Stage(2.0, 1), "image": Stage(612.34, 2), "models": Stage(0.1)}, ["Next: claude-local"])
    assert lines[1].split() == ["packages", "2.0s", "1", "change"]
    assert lines[2].split() == ["image", "10m", "12.3s", "2", "changes"]
    assert lines[3].split() == ["models", "0.1s", "unchanged"]
    assert lines[-1] == "Next: claude-local"


def test_a_failed_stage_is_shown_and_nothing_is_promised() -> None:
    lines = render({"image": Stage(1.0, failed=True)}, ["Next: claude-local"])
    assert "FAILED" in lines[1]
    assert "Next: claude-local" not in lines
