"""``llama-local open``: where llama-server's own web page is, and how to log in."""

from __future__ import annotations

import click

from claude_local.cli.machine import Machine, pass_machine
from claude_local.cli.output import Exit, Problem, json_option, print_json


@click.command("open")
@json_option
@pass_machine
def open_page(machine: Machine, as_json: bool) -> None:
    """Print the address of llama-server's web page, and how to log in."""
    from claude_local.server.client import LlamaClient, ServerError

    server = LlamaClient(f"http://127.0.0.1:{machine.server_port}")
    try:
        response = server.request("GET", "/")
    except ServerError as error:
        raise Problem(str(error), f"sudo docker start {machine.container}", Exit.DOWN) from None
    if response.status_code != 200:
        raise Problem("llama-server has no web page: server_ui is off", "./provision --data server_ui=True")
    if as_json:
        print_json({"url": f"{server.url}/", "token_file": machine.paths.token})
        return
    print(f"{server.url}/")
    print('  Log in: "Enter API Key", and paste what this prints (the browser keeps it):')
    print(f"  cat {machine.paths.token}")
