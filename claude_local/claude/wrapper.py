"""The commands of this project as text: templates/claude-local and templates/llama-local, rendered. No I/O."""

from __future__ import annotations

import shlex
from posixpath import dirname

from jinja2 import Environment, StrictUndefined

from claude_local.paths import Paths

# Where claude-local finds docker and sudo: the distribution's directories first, and none that a session may write.
SYSTEM_PATH = "/usr/bin:/bin:/usr/sbin:/sbin:/usr/local/bin:/usr/local/sbin:/snap/bin"


def render(template: str, **values: str | int | list[str]) -> str:
    """Render a shell template. ``values`` are raw: the template quotes them with the filter ``quote``.

    Raises jinja2.UndefinedError when the template asks for a value that is not given.
    """
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True, trim_blocks=True, autoescape=False)
    environment.filters["quote"] = shlex.quote
    return environment.from_string(template).render(**values)


def render_claude_local(template: str, paths: Paths, **values: str | int) -> str:
    """Render templates/claude-local for the workstation with ``paths``.

    ``values``: what the paths do not say (``server``: the base URL, ``container``, ``start_timeout`` in seconds,
    ``print_mode``). A value here replaces one of the same name from ``paths``.
    """
    from_paths: dict[str, str | int | list[str]] = {
        "token": paths.token,
        "profiles": paths.profiles,
        "wish": paths.manager_wish,
        "sessions": paths.sessions,
        "config_dir": paths.config_dir,
        "enforced_settings": paths.enforced_settings,
        "bash_env": paths.bash_env,
        "claude": paths.claude,
        "native_claude": paths.native_claude,
        "python": paths.python,
        "program": paths.start_program,
        "fence_config": paths.fence_config,
        "fence_state": paths.fence_state,
        "sandbox_bin": paths.sandbox_bin,
        "home": paths.home,
        "own_directories": [paths.share, paths.bin_dir, dirname(paths.token)],
        "path": SYSTEM_PATH,
    }
    return render(template, **from_paths | values)
