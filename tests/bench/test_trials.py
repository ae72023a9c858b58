"""Which flags are tried on a machine, and which of them count as better."""

from __future__ import annotations

from claude_local.bench.trials import Trial, better, candidates, steady

BATCHES = [{"ubatch-size": "256"}, {"ubatch-size": "1024"}]
Q8 = {"cache-type-k": "q8_0", "cache-type-v": "q8_0"}
OFF = {"flash-attn": "off"}


def test_only_what_differs_from_the_deploy_is_tried() -> None:
    assert candidates({}, 2, 2) == [*BATCHES, OFF, Q8]
    assert candidates({}, 8, 16) == [{"threads": "7"}, {"threads": "16"}, *BATCHES, OFF, Q8]
    own = {"threads": "7", "ubatch-size": "256", "flash-attn": "off"}
    others = [{"threads": "8"}, {"ubatch-size": "512"}, {"ubatch-size": "1024"}, {"flash-attn": "on"}, Q8]
    assert candidates(own, 8, 8) == others
    # A small cache is the deploy's choice where f16 does not fit, and it needs flash attention.
    assert candidates(Q8, 2, 2) == BATCHES


def test_better_is_faster_than_both_runs_with_the_deploys_flags() -> None:
    def found(*speeds: tuple[dict[str, str], float | None, float | None]) -> list[dict[str, str]]:
        trials = [Trial({}, 100.0, 20.0), *(Trial(*each) for each in speeds), Trial({}, 110.0, 21.0)]
        return [each.flags for each in better(trials)]

    assert found((OFF, 114.0, 21.0)) == [], "the machine became faster meanwhile"
    assert found((OFF, 117.0, 21.0)) == [OFF]
    assert found((OFF, 117.0, 19.0)) == [], "it writes slower"
    assert found((OFF, 111.0, 23.0)) == [OFF]
    assert found((BATCHES[0], 120.0, 21.0), (BATCHES[1], 130.0, 21.0)) == BATCHES[1:]
    assert found((BATCHES[0], None, None)) == []
    assert found((Q8, 150.0, 30.0)) == [], "the deploy chooses it by the memory"
    assert better([Trial({}, problem="out of memory"), Trial(OFF, 9.0, 9.0)]) == []


def test_a_busy_machine_tells_nothing() -> None:
    trials = [Trial({}, 158.2, 39.3), Trial(OFF, 196.2, 42.0), Trial({}, 33.8, 3.0)]
    assert better(trials) == [] and not steady(trials)
