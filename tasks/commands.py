"""Install the commands claude-local and llamactl and put their folder onto PATH."""

from posixpath import dirname

from claude_local.commands import SYSTEM_PATH, render_wrapper, shell_words
from claude_local.operations.commands import on_path
from claude_local.operations.user_files import whole_file
from claude_local.workstation import PROJECT, workstation

ws = workstation()

whole_file(
    name="Install claude-local",
    dest=ws.paths.wrapper,
    text=render_wrapper(
        (PROJECT / "templates" / "claude-local").read_text(encoding="utf-8"),
        server=f"http://127.0.0.1:{ws.settings.server_port}",
        container=ws.settings.server_container,
        token=ws.paths.token,
        profiles=ws.paths.profiles,
        config_dir=ws.paths.config_dir,
        enforced_settings=ws.paths.enforced_settings,
        bash_env=ws.paths.bash_env,
        claude=ws.paths.claude,
        native_claude=ws.paths.native_claude,
        python=ws.paths.python,
        launcher=ws.paths.fence_launcher,
        fence_config=ws.paths.fence_config,
        fence_state=ws.paths.fence_state,
        shims=ws.paths.shims,
        home=ws.paths.home,
        own_directories=shell_words([ws.paths.share, ws.paths.bin_dir, dirname(ws.paths.token)]),
        system_path=SYSTEM_PATH,
        start_timeout=ws.settings.server_start_timeout,
    ),
    mode="755",
)

whole_file(
    name="Install llamactl",
    dest=ws.paths.llamactl,
    text=render_wrapper((PROJECT / "templates" / "llamactl").read_text(encoding="utf-8"), python=ws.paths.python),
    mode="755",
)

on_path(name="Put the commands onto PATH", directory=ws.paths.bin_dir, home=ws.paths.home)
