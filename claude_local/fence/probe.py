"""Decides which layers of the fence work on a machine, and what would make the missing ones work. Pure.

Decides by the results of experiments with bubblewrap (claude_local.deploy.facts.fence runs them), not by versions or
distributions. docs/decisions/0005-fence-fits-the-machine.md has the reasons.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from claude_local.fence.apparmor import NAME, profile_sha256
from claude_local.fence.config import INNER, OUTER

BWRAP = "/usr/bin/bwrap"
# Our copy of BWRAP, the only file that our AppArmor profile applies to.
COPY = "/usr/local/libexec/claude-local/bwrap"

# The experiments. OUTER: the namespaces of the outer fence. INNER: those of Claude Code's sandbox, and in them the
# user namespace that its seccomp helper makes for itself. BOTH: INNER within OUTER.
BOTH = "both"

CLONE = "kernel.unprivileged_userns_clone"
RESTRICT = "kernel.apparmor_restrict_unprivileged_userns"
# The value for a limit on namespaces that is too low; a session needs fewer than ten of each kind.
NAMESPACES = 16384
# Only a limit below this value counts as too low.
_FEW = 64


@dataclass(frozen=True)
class Result:
    """The result of an experiment: exit status (124: it took too long) and the last lines of stderr."""

    status: int
    stderr: str = ""

    @property
    def works(self) -> bool:
        """Whether the experiment succeeded."""
        return self.status == 0


@dataclass(frozen=True)
class Bubblewrap:
    """A bubblewrap and its ``results``, by OUTER, INNER and BOTH."""

    path: str
    version: str = ""
    sha256: str = ""
    results: Mapping[str, Result] = field(default_factory=dict)

    def works(self, *names: str) -> bool:
        """Whether all these experiments succeeded with it."""
        return all(name in self.results and self.results[name].works for name in names)


@dataclass(frozen=True)
class AppArmor:
    """AppArmor as root sees it.

    ``loadable``: root can load profiles here. ``parser``: apparmor_parser is installed. ``abi_4``: it knows AppArmor 4,
    with its rule for user namespaces. ``loaded``: the names of the loaded profiles for bubblewrap. ``profile``: the
    sha256 of our profile's file, empty when there is none.
    """

    enabled: bool = False
    loadable: bool = False
    parser: bool = False
    abi_4: bool = False
    loaded: frozenset[str] = frozenset()
    profile: str = ""


@dataclass(frozen=True)
class Symptoms:
    """What was observed on a machine.

    ``distribution`` and ``copy``: BWRAP and COPY, None when missing. ``sysctls``: the relevant ones that exist, by
    name; ``settable``: those of them that root can change here. ``container``: the kind of container that this is
    (``docker``, ``lxc`` ...), empty outside a container.
    """

    uid: int = 1000
    distribution: Bubblewrap | None = None
    copy: Bubblewrap | None = None
    socat: bool = False
    sysctls: Mapping[str, str] = field(default_factory=dict)
    settable: frozenset[str] = frozenset()
    container: str = ""
    apparmor: AppArmor = field(default_factory=AppArmor)


@dataclass(frozen=True)
class InstallPackages:
    """Install Debian packages; ``packages``: the command that each brings, by package name."""

    packages: Mapping[str, str]


@dataclass(frozen=True)
class SetSysctls:
    """Set kernel settings, now and at each boot; ``values`` by name."""

    values: Mapping[str, str]


@dataclass(frozen=True)
class AllowCopy:
    """Make COPY equal to BWRAP and load the AppArmor profile that lets COPY make user namespaces."""

    abi_4: bool


Action = InstallPackages | SetSysctls | AllowCopy


@dataclass(frozen=True)
class Decision:
    """The fence of this machine.

    ``layers``: those of OUTER and INNER that work now, with the bubblewrap ``bwrap``. ``actions``: may make more layers
    work; probe again afterwards. ``reason``: why a layer is missing, in one line; empty when none is. ``advice``: what
    a person can do about it, in lines.
    """

    layers: tuple[str, ...]
    bwrap: str = BWRAP
    reason: str = ""
    actions: tuple[Action, ...] = ()
    advice: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether both layers work."""
        return self.layers == (OUTER, INNER)


def decide(symptoms: Symptoms) -> Decision:
    """The layers that work with the better of the two bubblewraps, and what would make more of them work."""
    best = max(
        (each for each in (symptoms.distribution, symptoms.copy) if each is not None),
        key=lambda each: len(_layers(each, symptoms.socat)),
        default=None,
    )
    if best is None or symptoms.distribution is None:
        reason = f"bubblewrap is not installed ({BWRAP} is missing)"
        return Decision((), reason=reason, advice=("sudo apt-get install bubblewrap socat",))
    layers = _layers(best, symptoms.socat)
    in_step = () if _in_step(symptoms) else (AllowCopy(symptoms.apparmor.abi_4),)
    if layers == (OUTER, INNER):
        return Decision(layers, best.path, actions=in_step)
    cause, actions, advice = _cause(symptoms, best)
    if not any(isinstance(action, AllowCopy) for action in actions):
        actions = (*actions, *in_step)
    return Decision(layers, best.path, _reason(best, layers, symptoms.socat, cause), actions, advice)


def _layers(bwrap: Bubblewrap, socat: bool) -> tuple[str, ...]:
    """The layers that work with ``bwrap``. Of two that work alone but not together, the outer one stays, because it
    covers the whole process."""
    outer, inner = bwrap.works(OUTER), bwrap.works(INNER) and socat
    if outer and inner:
        return (OUTER, INNER) if bwrap.works(BOTH) else (OUTER,)
    return (OUTER,) if outer else (INNER,) if inner else ()


def _in_step(symptoms: Symptoms) -> bool:
    """Whether our copy, if there is one, equals the distribution's bubblewrap."""
    if symptoms.copy is None or symptoms.distribution is None or not symptoms.apparmor.loadable:
        return True
    return symptoms.copy.sha256 == symptoms.distribution.sha256


def _allowed(symptoms: Symptoms) -> bool:
    """Whether everything that AllowCopy does is done already."""
    ours = symptoms.apparmor
    return (
        symptoms.copy is not None
        and _in_step(symptoms)
        and ours.profile == profile_sha256(COPY, ours.abi_4)
        and NAME in ours.loaded
    )


Cause = tuple[str, tuple[Action, ...], tuple[str, ...]]


def _cause(symptoms: Symptoms, best: Bubblewrap) -> Cause:
    """Why not everything works with ``best``, the actions against it, and advice for a person."""
    stderr = "\n".join(result.stderr for result in best.results.values() if not result.works)
    if "nknown option" in stderr:
        return (
            f"bubblewrap {best.version or '(no version)'} is too old",
            (),
            ("sudo apt-get update && sudo apt-get install --only-upgrade bubblewrap   (0.6.1 and newer will do)",),
        )
    if not symptoms.socat:
        return "socat is not installed, Claude Code's sandbox needs it", (), ("sudo apt-get install socat",)
    if limits := _limits(symptoms, stderr):
        return _sysctl_cause("the kernel's limit on namespaces is too low", limits, symptoms)
    if symptoms.sysctls.get(CLONE) == "0":
        return _sysctl_cause("user namespaces are switched off for ordinary users", {CLONE: "1"}, symptoms)
    if _apparmor_is_the_cause(symptoms, stderr):
        return _apparmor_cause(symptoms)
    if _is_limit(stderr):
        return (
            "whatever runs this system forbids it user namespaces",
            (),
            ("allow nested user namespaces (nesting) where this system is started, then deploy again",),
        )
    if symptoms.container and _is_refusal(stderr):
        return (
            f"this container ({symptoms.container}) may not make nested namespaces",
            (),
            _container_advice(symptoms.container),
        )
    if any(result.status == 124 for result in best.results.values()):
        return "bubblewrap did not end in time", (), ("deploy again when the machine is less busy",)
    return "bubblewrap fails here", (), (f"look at its message: {best.path} --unshare-all --ro-bind / / true",)


def _is_limit(stderr: str) -> bool:
    return "ENOSPC" in stderr or "No space left on device" in stderr


def _is_refusal(stderr: str) -> bool:
    return any(words in stderr for words in ("ermission denied", "peration not permitted", "No permissions"))


def _limits(symptoms: Symptoms, stderr: str) -> dict[str, str]:
    """The limits on namespaces that are too low and a value for each; empty when bubblewrap met no limit."""
    if not _is_limit(stderr):
        return {}
    return {
        name: str(NAMESPACES)
        for name, value in symptoms.sysctls.items()
        if re.fullmatch(r"user\.max_\w+_namespaces", name) and value.isdigit() and int(value) < _FEW
    }


def _sysctl_cause(what: str, values: Mapping[str, str], symptoms: Symptoms) -> Cause:
    now = ", ".join(f"{name} = {symptoms.sysctls[name]}" for name in values)
    settable = {name: value for name, value in values.items() if name in symptoms.settable}
    actions = (SetSysctls(settable),) if settable else ()
    where = "on the host of this container: " if symptoms.container and not settable else ""
    assignments = " ".join(f"{name}={value}" for name, value in values.items())
    return f"{what} ({now})", actions, (f"{where}sudo sysctl -w {assignments}   (then deploy again)",)


def _apparmor_is_the_cause(symptoms: Symptoms, stderr: str) -> bool:
    """Whether something was refused, and AppArmor restricts user namespaces or has a profile for bubblewrap."""
    if not (symptoms.apparmor.enabled or RESTRICT in symptoms.sysctls):
        return False
    if not _is_refusal(stderr):
        return False
    return symptoms.sysctls.get(RESTRICT, "0") != "0" or any(name != NAME for name in symptoms.apparmor.loaded)


def _apparmor_cause(symptoms: Symptoms) -> Cause:
    others = [name for name in symptoms.apparmor.loaded if name != NAME]
    what = "AppArmor restricts user namespaces" if symptoms.sysctls.get(RESTRICT, "0") != "0" else "AppArmor refuses it"
    if others:
        what += f" (profile {', '.join(sorted(others))} for bubblewrap)"
    whole = f"sudo sysctl -w {RESTRICT}=0   (lifts the restriction for every program on the machine)"
    if _allowed(symptoms):
        return f"{what}, and our profile does not help", (), (whole,)
    if not symptoms.apparmor.loadable:
        advice = (*_container_advice(symptoms.container), f"on the host: {whole}") if symptoms.container else (whole,)
        return f"{what}, and no profile can be loaded here", (), advice
    actions: tuple[Action, ...] = (AllowCopy(symptoms.apparmor.abi_4),)
    if not symptoms.apparmor.parser:
        actions = (InstallPackages({"apparmor": "apparmor_parser"}), *actions)
    return what, actions, (whole,)


def _container_advice(kind: str) -> tuple[str, ...]:
    if kind in ("docker", "podman"):
        options = " ".join(f"--security-opt {each}=unconfined" for each in ("seccomp", "apparmor", "systempaths"))
        return (f"start the container with: {options}",)
    if kind.startswith("lxc"):
        return ("allow nesting, on the host: lxc config set NAME security.nesting=true, or Proxmox: nesting=1",)
    return ("start the container with user namespaces, mounts and a new /proc allowed",)


def _reason(best: Bubblewrap, layers: tuple[str, ...], socat: bool, cause: str) -> str:
    if layers == (OUTER,) and best.works(INNER) and socat:
        missing, name = "the inner fence does not work inside the outer one", BOTH
    elif layers == (OUTER,):
        missing, name = "the inner fence does not work", INNER
    elif layers == (INNER,):
        missing, name = "the outer fence does not work", OUTER
    else:
        missing, name = "no fence works", OUTER
    result = best.results.get(name)
    words = result.stderr.strip().splitlines() if result is not None and not result.works else []
    # Debian's bubblewrap appends where its documentation is.
    return f"{missing}: {cause}" + (f"; bubblewrap says: {words[-1].partition(' See <')[0].strip()}" if words else "")
