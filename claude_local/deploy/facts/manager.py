"""The management API on the workstation."""

from __future__ import annotations

from pyinfra.api import StringCommand

from claude_local.deploy.facts.yes_or_no import YesOrNo


class ManagerAnswers(YesOrNo):
    """Whether the management API answers."""

    def command(self, port: int) -> StringCommand:
        url = f"http://127.0.0.1:{int(port)}/status"
        return StringCommand("curl -q -s -f --noproxy '*' --max-time 5 -o /dev/null", url, "&& echo yes || true")
