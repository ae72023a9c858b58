"""Rendering the commands' templates."""

from __future__ import annotations

import jinja2
import pytest

from claude_local.claude.wrapper import render


def test_a_missing_value_is_an_error() -> None:
    with pytest.raises(jinja2.UndefinedError):
        render("x={{ server | quote }}")


def test_a_value_reaches_the_shell_as_one_word() -> None:
    assert render("x={{ a | quote }}\n", a="$HOME") == "x='$HOME'\n"
