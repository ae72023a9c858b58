"""Rows about the management API: whether it answers, and whom it obeys."""

from __future__ import annotations

from claude_local.manager.container import container_name
from claude_local.server.client import LlamaClient, ServerError
from claude_local.verify.checks import Check, Failed
from claude_local.verify.server_rows import FOREIGN_ORIGIN
from claude_local.verify.workbench import Workbench

PROVISION = "./provision"


def _manager(bench: Workbench, token: bool) -> LlamaClient:
    """A client of the management API; ``token``: with the user's token."""
    url = f"http://127.0.0.1:{bench.parameters.manager_port}"
    return LlamaClient(url, bench.token if token else None)


def _answers(bench: Workbench) -> str:
    name = container_name(bench.parameters.container)
    try:
        status = _manager(bench, token=False).json("GET", "/status")
        placed = {each["id"] for each in _manager(bench, token=False).json("GET", "/models")["models"]}
    except (ServerError, KeyError, TypeError) as error:
        raise Failed(f"the management API does not answer: {error}", f"sudo docker logs --tail 40 {name}") from None
    if status.get("state") == "down":
        raise Failed(f"it does not reach llama-server: {status.get('status')}", PROVISION)
    if missing := set(bench.parameters.profiles) - placed:
        raise Failed(f"it does not know {', '.join(sorted(missing))}", PROVISION)
    return f"port {bench.parameters.manager_port}: {status.get('status')}"


def _guarded(bench: Workbench) -> str:
    stranger, owner = _manager(bench, token=False), _manager(bench, token=True)
    no_such = {"model": bench.marker}
    tries = {
        "without the token": (stranger, {}, 401),
        "from another web site": (owner, {"Origin": FOREIGN_ORIGIN}, 403),
        "with another host name": (owner, {"Host": "evil.example"}, 403),
        "with the token": (owner, {}, 404),
    }
    for how, (client, headers, expected) in tries.items():
        status = client.request("POST", "/switch", no_such, headers=headers).status_code
        if status != expected:
            raise Failed(f"a switch to no profile {how}: HTTP {status} instead of {expected}", PROVISION)
    return "401 without the token, 403 for other web sites and host names"


def checks() -> list[Check]:
    """The rows of this subject, in order."""
    return [
        Check("manager.answers", "the management API answers", _answers, needs=("server.key",)),
        Check("manager.guarded", "only the user can switch the model", _guarded, needs=("manager.answers",)),
    ]
