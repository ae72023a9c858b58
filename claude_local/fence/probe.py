"""Which layers of the fence work on a machine, and the least that would make the missing ones work. Pure.

Judged by what experiments with bubblewrap did (claude_local.deploy.facts.fence runs them), not by versions or
distributions. docs/decisions/0005-fence-fits-the-machine.md has the reasons.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from claude_local.fence.apparmor import NAME, profile_sha256
from claude_local.fence.config import INNER, OUTER

BWRAP = "/usr/bin/bwrap"
# Our copy of BWRAP, the only file that our AppArmor profile is for.
COPY = "/usr/local/libexec/claude-local/bwrap"

# The experiments. OUTER: the namespaces of the outer fence. INNER: those of Claude Code's sandbox, and in them the
# user namespace that its seccomp helper makes for itself. BOTH: INNER within OUTER.
BOTH = "both"

CLONE = "kernel.unprivileged_userns_clone"
RESTRICT = "kernel.apparmor_restrict_unprivileged_userns"
# What a limit on namespaces is set to where it is the cause; a session needs less than ten of each kind.
NAMESPACES = 16384
# A limit below this one can be the cause when bubblewrap meets a limit.
_FEW = 64


@dataclass(frozen=True)
class Result:
    """How an experiment ended: exit status (124: it took too long) and the last lines on stderr."""

    status: int
    said: str = ""

    @property
    def works(self) -> bool:
        return self.status == 0


@dataclass(frozen=True)
class Bubblewrap:
    """A bubblewrap and what the experiments did with it; ``results`` by OUTER, INNER, BOTH."""

    path: str
    version: str = ""
    sha256: str = ""
    results: Mapping[str, Result] = field(default_factory=dict)

    def works(self, *names: str) -> bool:
        return all(name in self.results and self.results[name].works for name in names)


@dataclass(frozen=True)
class AppArmor:
    """AppArmor as root sees it.

    ``loadable``: this machine's root can load profiles. ``parser``: apparmor_parser is there. ``abi_4``: it knows the
    features of AppArmor 4, user namespaces among them. ``loaded``: the names of the loaded profiles that are called or
    attached like bubblewrap. ``profile``: sha256 of our profile's file, empty without one.
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

    ``distribution`` and ``copy``: BWRAP and COPY, None where there is none. ``sysctls``: those that matter and exist,
    by name; ``settable``: those of them that root can change here. ``container``: its kind (``docker``, ``lxc`` ...),
    empty on a machine of its own.
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
    """Install Debian packages: name -> the command it brings."""

    packages: Mapping[str, str]


@dataclass(frozen=True)
class SetSysctls:
    """Set and keep kernel settings."""

    values: Mapping[str, str]


@dataclass(frozen=True)
class AllowCopy:
    """Bring COPY in step with BWRAP and load the AppArmor profile that lets it make user namespaces."""

    abi_4: bool


Action = InstallPackages | SetSysctls | AllowCopy


@dataclass(frozen=True)
class Decision:
    """What the fence of this machine is.

    ``layers``: those that work now, of OUTER and INNER; ``bwrap``: with which bubblewrap. ``actions``: what may make
    more of them work (probe again afterwards). ``reason``: why a layer is missing, one line, empty when none is;
    ``advice``: what a person could do about it, one line each.
    """

    layers: tuple[str, ...]
    bwrap: str = BWRAP
    reason: str = ""
    actions: tuple[Action, ...] = ()
    advice: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        return self.layers == (OUTER, INNER)


def decide(seen: Symptoms) -> Decision:
    """The layers that work, with which bubblewrap, and what would make more of them work."""
    best = max(
        (each for each in (seen.distribution, seen.copy) if each is not None),
        key=lambda each: len(_layers(each, seen.socat)),
        default=None,
    )
    if best is None or seen.distribution is None:
        return _no_bubblewrap(seen)
    layers = _layers(best, seen.socat)
    in_step = () if _in_step(seen) else (AllowCopy(seen.apparmor.abi_4),)
    if layers == (OUTER, INNER):
        return Decision(layers, best.path, actions=in_step)
    cause, actions, advice = _cause(seen, best)
    if not any(isinstance(action, AllowCopy) for action in actions):
        actions = (*actions, *in_step)
    return Decision(layers, best.path, _reason(best, layers, seen.socat, cause), actions, advice)


def _layers(bwrap: Bubblewrap, socat: bool) -> tuple[str, ...]:
    """Of two layers that work alone but not together the outer one stays: it covers the whole process."""
    outer, inner = bwrap.works(OUTER), bwrap.works(INNER) and socat
    if outer and inner:
        return (OUTER, INNER) if bwrap.works(BOTH) else (OUTER,)
    return (OUTER,) if outer else (INNER,) if inner else ()


def _no_bubblewrap(seen: Symptoms) -> Decision:
    wanted = {"bubblewrap": "bwrap"} if seen.socat else {"bubblewrap": "bwrap", "socat": "socat"}
    return Decision(
        layers=(),
        reason=f"bubblewrap is not installed ({BWRAP} is missing)",
        actions=(InstallPackages(wanted),),
        advice=("sudo apt-get install bubblewrap socat",),
    )


def _in_step(seen: Symptoms) -> bool:
    """Whether our copy, where there is one, is the distribution's bubblewrap of today."""
    if seen.copy is None or seen.distribution is None or not seen.apparmor.loadable:
        return True
    return seen.copy.sha256 == seen.distribution.sha256


def _allowed(seen: Symptoms) -> bool:
    """Whether all that AllowCopy does is done."""
    ours = seen.apparmor
    return (
        seen.copy is not None
        and _in_step(seen)
        and ours.profile == profile_sha256(COPY, ours.abi_4)
        and NAME in ours.loaded
    )


Cause = tuple[str, tuple[Action, ...], tuple[str, ...]]


def _cause(seen: Symptoms, best: Bubblewrap) -> Cause:
    """Why not everything works with ``best``: in words, what to do about it, what a person could do."""
    said = "\n".join(result.said for result in best.results.values() if not result.works)
    if "nknown option" in said:
        return (
            f"bubblewrap {best.version or '(no version)'} is too old",
            (),
            ("sudo apt-get update && sudo apt-get install --only-upgrade bubblewrap   (0.6.1 and newer will do)",),
        )
    if not seen.socat:
        actions = (InstallPackages({"socat": "socat"}),)
        return "socat is not installed, Claude Code's sandbox needs it", actions, ("sudo apt-get install socat",)
    if limits := _limits(seen, said):
        return _sysctl_cause("the kernel's limit on namespaces is in the way", limits, seen)
    if seen.sysctls.get(CLONE) == "0":
        return _sysctl_cause("user namespaces are switched off for ordinary users", {CLONE: "1"}, seen)
    if _apparmor_is_the_cause(seen, said):
        return _apparmor_cause(seen)
    if _is_limit(said):
        return (
            "user namespaces are forbidden from outside, whatever runs this system fences it already",
            (),
            ("let whatever runs this system allow nested user namespaces (nesting), then deploy again",),
        )
    if seen.container and _is_refusal(said):
        return f"this container ({seen.container}) may not nest", (), _container_advice(seen.container)
    if any(result.status == 124 for result in best.results.values()):
        return "bubblewrap did not end in time", (), ("deploy again when the machine is less busy",)
    return "bubblewrap cannot do it here", (), (f"see what it says: {best.path} --unshare-all --ro-bind / / true",)


def _is_limit(said: str) -> bool:
    return "ENOSPC" in said or "No space left on device" in said


def _is_refusal(said: str) -> bool:
    return any(words in said for words in ("ermission denied", "peration not permitted", "No permissions"))


def _limits(seen: Symptoms, said: str) -> dict[str, str]:
    """The limits on namespaces that are too low, where a limit was met and they can be raised."""
    if not _is_limit(said):
        return {}
    return {
        name: str(NAMESPACES)
        for name, value in seen.sysctls.items()
        if re.fullmatch(r"user\.max_\w+_namespaces", name) and value.isdigit() and int(value) < _FEW
    }


def _sysctl_cause(what: str, values: Mapping[str, str], seen: Symptoms) -> Cause:
    now = ", ".join(f"{name} = {seen.sysctls[name]}" for name in values)
    settable = {name: value for name, value in values.items() if name in seen.settable}
    actions = (SetSysctls(settable),) if settable else ()
    where = "on the host of this container: " if seen.container and not settable else ""
    assignments = " ".join(f"{name}={value}" for name, value in values.items())
    return f"{what} ({now})", actions, (f"{where}sudo sysctl -w {assignments}   (then deploy again)",)


def _apparmor_is_the_cause(seen: Symptoms, said: str) -> bool:
    """A refusal, and AppArmor has a rule that can have made it: the restriction, or a profile on bubblewrap."""
    if not (seen.apparmor.enabled or RESTRICT in seen.sysctls):
        return False
    if not _is_refusal(said):
        return False
    return seen.sysctls.get(RESTRICT, "0") != "0" or any(name != NAME for name in seen.apparmor.loaded)


def _apparmor_cause(seen: Symptoms) -> Cause:
    others = [name for name in seen.apparmor.loaded if name != NAME]
    what = "AppArmor restricts user namespaces" if seen.sysctls.get(RESTRICT, "0") != "0" else "AppArmor is in the way"
    if others:
        what += f" (profile {', '.join(sorted(others))} for bubblewrap)"
    whole = f"sudo sysctl -w {RESTRICT}=0   (lifts the restriction for every program on the machine)"
    if _allowed(seen):
        return f"{what}, and our own profile does not help", (), (whole,)
    if not seen.apparmor.loadable:
        advice = (*_container_advice(seen.container), f"on the host: {whole}") if seen.container else (whole,)
        return f"{what}, and no profile can be loaded here", (), advice
    actions: tuple[Action, ...] = (AllowCopy(seen.apparmor.abi_4),)
    if not seen.apparmor.parser:
        actions = (InstallPackages({"apparmor": "apparmor_parser"}), *actions)
    return what, actions, (whole,)


def _container_advice(kind: str) -> tuple[str, ...]:
    if kind in ("docker", "podman"):
        options = " ".join(f"--security-opt {each}=unconfined" for each in ("seccomp", "apparmor", "systempaths"))
        return (f"start the container with: {options}",)
    if kind.startswith("lxc"):
        return ("allow nesting, on the host: lxc config set NAME security.nesting=true, or Proxmox: nesting=1",)
    return ("start the container so that user namespaces, mounts and a new /proc are allowed in it",)


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
    words = result.said.strip().splitlines() if result is not None and not result.works else []
    # Debian's bubblewrap goes on with where its documentation is.
    return f"{missing}: {cause}" + (f"; it said: {words[-1].partition(' See <')[0].strip()}" if words else "")
