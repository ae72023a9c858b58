"""The turns in llama-server's log: tokens, speeds, and why a prompt was read anew."""

import pytest

from claude_local.server.turns import Turn, turns


def test_the_turns_of_a_log_have_their_tokens_and_speeds() -> None:
    """As b11434 logs them; the second one found 4,852 tokens in its slot."""
    log = """\
0.10.000.000 I srv  proxy_reques: proxying request to model small on port 48547
[48547] 0.13.581.546 I slot print_timing: id  0 | task 0 | prompt eval time =    3209.89 ms /    22 tokens (  145.90 ms)
[48547] 0.13.581.566 I slot print_timing: id  0 | task 0 |        eval time =       0.00 ms /     1 tokens (    0.00 ms)
[48547] 0.13.581.567 I slot print_timing: id  0 | task 0 |       total time =    3209.89 ms /    23 tokens
[48547] 0.13.581.599 I slot      release: id  0 | task 0 | stop processing: n_tokens = 22, truncated = 0
[48547] 0.20.000.000 I slot      release: id  0 | task 3 | stop processing: n_tokens = 9, truncated = 0
[48547] 0.33.581.546 I slot print_timing: id  0 | task 5 | prompt eval time =     500.00 ms /    50 tokens (   10.00 ms)
[48547] 0.33.581.566 I slot print_timing: id  0 | task 5 |        eval time =    1000.00 ms /    21 tokens (   50.00 ms)
[48547] 0.33.581.599 I slot      release: id  0 | task 5 | stop processing: n_tokens = 4922, truncated = 0"""
    first, second = turns(log.splitlines())
    assert first == Turn(0, 22, 1, 3209.89, 0.0, model="small") and first.decode_speed is None
    assert (second.cached, second.computed, second.decoded) == (4852, 50, 21)
    assert (second.read_speed, second.decode_speed) == (100.0, 21.0)


@pytest.mark.parametrize(
    ("chosen", "cached", "cause"),
    [
        ("LRU, t_last = -1", 0, "after a load"),
        ("LRU, t_last = 1803412", 0, "new conversation"),
        ("LCP similarity, f_sim_best = 0.212 (> 0.100 thold), f_keep = 0.300", 200, "21%"),
        ("LCP similarity, f_sim_best = 0.982 (> 0.100 thold), f_keep = 1.000", 200, "cannot be cut back"),
        ("LCP similarity, f_sim_best = 0.982 (> 0.100 thold), f_keep = 1.000", 0, "wanted no cache, or"),
        ("LCP similarity, f_sim_best = 0.982 (> 0.100 thold), f_keep = 1.000", 980, ""),
    ],
)
def test_a_prompt_that_was_read_anew_has_a_cause(chosen: str, cached: int, cause: str) -> None:
    log = f"""\
[4] 0.04.095.773 I slot get_availabl: id  0 | task -1 | selected slot by {chosen}
[4] 0.04.095.846 I slot launch_slot_: id  0 | task 7 | processing task, is_child = 0
[4] 0.05.907.724 I slot print_timing: id  0 | task 7 | prompt eval time =    1020.08 ms / {1000 - cached:5} tokens (   )
[4] 0.05.907.733 I slot print_timing: id  0 | task 7 |        eval time =     791.77 ms /     8 tokens (  113.11 ms)
[4] 0.05.907.981 I slot      release: id  0 | task 7 | stop processing: n_tokens = 1007, truncated = 0"""
    (turn,) = turns(log.splitlines())
    assert (turn.cached, turn.computed) == (cached, 1000 - cached)
    assert cause in turn.cause and bool(turn.cause) == bool(cause)
