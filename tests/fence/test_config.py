"""fence.json: written by the deploy, read at each start of claude-local."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_local.fence.config import INNER, OUTER, ConfigError, FenceConfig, dump, parse

TEXTS = st.lists(st.text()).map(tuple)
CONFIGS = st.builds(
    FenceConfig,
    layers=st.lists(st.sampled_from([OUTER, INNER]), unique=True).map(tuple),
    bwrap=st.text(),
    reason=st.text(),
    ports=st.lists(st.integers(1, 65535)).map(tuple),
    server_port=st.integers(1, 65535),
    manager_port=st.integers(1, 65535),
    domains=TEXTS,
    writable=TEXTS,
    hidden=TEXTS,
    visible=TEXTS,
    environment=TEXTS,
    sockets=st.lists(st.sampled_from(["ssh-agent", "gpg-agent", "display"])).map(tuple),
    auto_allow=st.booleans(),
)


@given(CONFIGS)
def test_claude_local_reads_what_the_deploy_writes(config: FenceConfig) -> None:
    assert parse(dump(config)) == config


def test_the_default_is_both_layers() -> None:
    """A file that does not say which layers work must not open the fence."""
    config = parse("{}")
    assert config.outer and config.inner and config.ports == ()


def test_the_layers_are_read_one_by_one() -> None:
    assert (parse('{"layers": ["outer"]}').outer, parse('{"layers": ["outer"]}').inner) == (True, False)
    assert (parse('{"layers": []}').outer, parse('{"layers": []}').inner) == (False, False)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("", "line 1"),
        ('{"layers": ["outer"', "line 1"),
        ('["outer"]', "list"),
        ("null", "NoneType"),
        ('{"layer": ["outer"]}', "layer"),
        ('{"layers": "outer"}', "layers is 'outer'"),
        ('{"layers": {}}', "layers is {}"),
        ('{"layers": ["outer", "middle"]}', "middle"),
        ('{"bwrap": null}', "bwrap is None"),
        ('{"bwrap": ["/usr/bin/bwrap"]}', "bwrap is"),
        ('{"ports": ["8080"]}', "ports is ('8080',)"),
        ('{"server_port": true}', "server_port is True"),
        ('{"writable": [1]}', "writable is (1,)"),
        ('{"auto_allow": "true"}', "auto_allow is 'true'"),
    ],
)
def test_a_file_that_is_not_the_deploys_is_refused(text: str, wrong: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert wrong in str(caught.value)


def test_the_file_is_readable_for_people() -> None:
    text = dump(FenceConfig(reason="weil's nicht geht: übel"))
    assert "übel" in text and text.endswith("}\n") and len(text.splitlines()) > 5
    assert set(json.loads(text)) == vars(FenceConfig()).keys()
