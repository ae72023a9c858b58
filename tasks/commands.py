"""Install the commands claude-local and llama-local, and put them into the shells: PATH, completion."""

from posixpath import join

from claude_local.claude import wrapper
from claude_local.deploy.operations import commands, user_files
from claude_local.deploy.workstation import PROJECT, workstation

ws = workstation()

user_files.put_all(
    name="Install claude-local, llama-local and the line below the prompt",
    files={
        ws.paths.wrapper: wrapper.render_claude_local(
            (PROJECT / "templates" / "claude-local").read_text(encoding="utf-8"),
            ws.paths,
            server=f"http://127.0.0.1:{ws.settings.server_port}",
            container=ws.settings.server_container,
            start_timeout=ws.settings.server_start_timeout,
            print_mode=ws.settings.home_print_mode,
        ),
        ws.paths.llama_local: wrapper.render(
            (PROJECT / "templates" / "llama-local").read_text(encoding="utf-8"),
            python=ws.paths.python,
            port=ws.settings.manager_port,
            server_port=ws.settings.server_port,
            container=ws.settings.server_container,
        ),
        ws.paths.status_line: (PROJECT / "files" / "status-line").read_text(encoding="utf-8"),
    },
    mode="755",
)

commands.remove_former(
    name="Remove what earlier deploys installed",
    llamactl=join(ws.paths.bin_dir, "llamactl"),
    shims=join(ws.paths.share, "shims"),
)

commands.add_to_shells(
    name="Put the commands on PATH, and complete llama-local in bash, zsh and fish",
    directory=ws.paths.bin_dir,
    home=ws.paths.home,
    completions={
        shell: (PROJECT / "files" / "completion" / f"llama-local.{shell}").read_text(encoding="utf-8")
        for shell in ("bash", "zsh", "fish")
    },
    zsh_functions=ws.paths.zsh_functions,
)
