"""Facts that several operations need: asked once a run, and again when an operation has changed what they say."""

from __future__ import annotations

from typing import Any

from pyinfra import host, state

_KEY = "claude-local facts"


def ask(fact: Any, _sudo: bool | None = None, **arguments: Any) -> Any:
    """``host.get_fact(...)``, or its answer from before. A run that makes a plan first asks again when it executes."""
    key, answers = _key(fact, _sudo, arguments), _answers()
    if key not in answers:
        answers[key] = host.get_fact(fact, **({} if _sudo is None else {"_sudo": _sudo}), **arguments)
    return answers[key]


def remember(fact: Any, answer: Any, **arguments: Any) -> None:
    """Take ``answer``, which came with another fact, for what ``ask`` with these arguments would say."""
    _answers()[_key(fact, None, arguments)] = answer


def forget(fact: Any) -> None:
    """Ask again from now on. An operation calls it before it yields what changes the fact's answer."""
    answers = _answers()
    for key in [key for key in answers if key[1] == fact.__name__]:
        del answers[key]


def _key(fact: Any, _sudo: bool | None, arguments: dict[str, Any]) -> tuple[bool, str, bool, str]:
    given: dict[str, Any] = dict(host.current_op_global_arguments or {})
    as_root = bool(given.get("_sudo")) if _sudo is None else _sudo
    return (state.check_for_changes and state.is_executing, fact.__name__, as_root, repr(sorted(arguments.items())))


def _answers() -> dict[tuple[bool, str, bool, str], Any]:
    """The current host's."""
    answers: dict[tuple[bool, str, bool, str], Any] = host.connector_data.setdefault(_KEY, {})
    return answers
