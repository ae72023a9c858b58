"""The management API as a program: ``python -m claude_local.manager --port 8081 ...``. Ends with SIGTERM."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import uvicorn

from claude_local.manager.app import application
from claude_local.manager.profiles import read_profiles
from claude_local.manager.sessions import Sessions
from claude_local.manager.switching import Switchboard
from claude_local.server.client import LlamaClient


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGTERM; exit status 1 when the token cannot be read."""
    parser = argparse.ArgumentParser(prog="claude_local.manager", description="Serve the management API.")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on")
    parser.add_argument("--port", type=int, required=True, help="the port, here and for clients")
    parser.add_argument("--server", required=True, help="the base URL of llama-server")
    parser.add_argument("--token", type=Path, required=True, help="file with the API token")
    parser.add_argument("--profiles", type=Path, required=True, help="profiles.json")
    parser.add_argument("--wish", required=True, help="file for what the user wants of the server")
    parser.add_argument("--log", type=Path, required=True, help="llama-server's log file")
    parser.add_argument("--sessions", required=True, help="directory with the records of running sessions")
    options = parser.parse_args(arguments)
    try:
        token = options.token.read_text().strip()
    except OSError as error:
        print(f"the token cannot be read: {error}", file=sys.stderr)
        return 1
    client = LlamaClient(options.server, token)
    board = Switchboard(
        client, lambda: read_profiles(options.profiles), options.wish, options.log, Sessions(options.sessions)
    )
    app = application(board, options.log, options.port, token)
    uvicorn.run(
        app, host=options.host, port=options.port, log_level="warning", access_log=False, server_header=False,
        timeout_graceful_shutdown=1,
    )  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
