"""Which files of llama.cpp count as sources, and how a source tree is identified."""

import pytest

from claude_local.image.builds import is_source, tree_hash


@pytest.mark.parametrize("path", ["CMakeLists.txt", "ggml/src/ggml.c", "tools/server/server.cpp", "vendor/a/b.h"])
def test_a_file_that_the_build_reads_is_source(path: str) -> None:
    assert is_source(path)


@pytest.mark.parametrize(
    "path",
    ["README.md", "tests/a.cpp", ".github/x", "ggml/.x", "ggml/README.md", "../etc/passwd", "ggml/../x", "/ggml/x", ""],
)
def test_a_file_that_the_build_does_not_read_is_not_source(path: str) -> None:
    assert not is_source(path)


def test_the_tree_hash_depends_on_names_and_contents_but_not_on_order() -> None:
    tree = {"a": "1", "b": "2"}
    assert tree_hash(tree) == tree_hash({"b": "2", "a": "1"})
    others = [{"a": "2", "b": "1"}, {"a": "1"}, {"a": "1", "c": "2"}, {"a": "1", "b": "2", "c": "3"}]
    assert tree_hash(tree) not in [tree_hash(other) for other in others]
