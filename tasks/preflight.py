"""Check the machine before anything is changed: distribution, architecture, sudo, ports, disk. One line a problem."""

from pyinfra.api import DeployError

from claude_local.deploy import preflight
from claude_local.deploy.workstation import workstation

problems = preflight.check(workstation())
if problems:
    raise DeployError("this machine is not ready, nothing has been changed:\n" + "\n".join(f"  {p}" for p in problems))
