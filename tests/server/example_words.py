"""The words of the examples in files/chat-templates/qwen2.5-coder.jinja."""

from __future__ import annotations

# These would show in an answer that it quotes the examples.
TELLING = frozenset({"**/*.md", "**", "counts", "french", "oui", "opposite", "plus", "letter"})
# An answer may have these anyway.
# fmt: off
EVERYDAY = frozenset({
    "a", "after", "and", "are", "at", "b", "been", "by", "change", "comes", "do", "does", "edit", "file",
    "file_path", "for", "glob", "has", "here", "how", "i", "in", "is", "it", "line", "much", "name", "arguments",
    "new_string", "no", "now", "of", "old_string", "one", "pattern", "project", "read", "readme.md", "say", "says",
    "successfully", "that", "the", "there", "this", "three", "to", "tool", "two", ".md", "updated", "use", "named",
    "about", "files", "what", "which", "yes", "you", "json", "1", "2", "3", "4",
})
# fmt: on
