"""What works of the fence on a machine and what would help, from recorded symptoms.

The texts are what bubblewrap, unshare and Claude Code's seccomp helper print in the situations of the tests' names;
those of AppArmor are from public reports (anthropics/claude-code 14719, 17727, 43454, 81799), the others were made to
happen.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from claude_local.fence import apparmor
from claude_local.fence.config import INNER, OUTER
from claude_local.fence.probe import (
    BOTH,
    BWRAP,
    COPY,
    AllowCopy,
    AppArmor,
    Bubblewrap,
    InstallPackages,
    Result,
    SetSysctls,
    Symptoms,
    decide,
)

OK = Result(0)
RTM_NEWADDR = Result(1, "bwrap: loopback: Failed RTM_NEWADDR: Operation not permitted")
UID_MAP = Result(1, "bwrap: setting up uid map: Permission denied")
SETGROUPS = Result(
    1,
    "apply-seccomp: write /proc/self/setgroups (nested userns is capability-restricted; caller must provide "
    "CAP_SYS_ADMIN): Permission denied",
)
LIMIT = Result(
    1, "bwrap: Creating new namespace failed: nesting depth or /proc/sys/user/max_*_namespaces exceeded (ENOSPC)"
)
FORBIDDEN = Result(
    1,
    "bwrap: No permissions to create new namespace, likely because the kernel does not allow non-privileged user "
    "namespaces. See <https://deb.li/bubblewrap> or <file:///usr/share/doc/bubblewrap/README.Debian.gz>.",
)
NO_PROC = Result(1, "bwrap: Can't mount proc on /newroot/proc: Operation not permitted")
SLOW = Result(124)

PROFILE = apparmor.profile_sha256(COPY, True)
UBUNTU = AppArmor(enabled=True, loadable=True, parser=True, abi_4=True)
RESTRICTED = {"kernel.apparmor_restrict_unprivileged_userns": "1", "user.max_user_namespaces": "127000"}


def bubblewrap(outer: Result, inner: Result, both: Result, path: str = BWRAP, sha256: str = "a") -> Bubblewrap:
    return Bubblewrap(path, "0.9.0", sha256, {OUTER: outer, INNER: inner, BOTH: both})


def all_with(result: Result) -> Bubblewrap:
    return bubblewrap(result, result, result)


GOOD = Symptoms(distribution=all_with(OK), socat=True, sysctls={"user.max_user_namespaces": "96365"})
OUR_COPY = bubblewrap(OK, OK, OK, COPY)
UBUNTU_WITH_OURS = Symptoms(
    distribution=all_with(RTM_NEWADDR),
    copy=OUR_COPY,
    socat=True,
    sysctls=RESTRICTED,
    apparmor=replace(UBUNTU, loaded=frozenset({apparmor.NAME}), profile=PROFILE),
)


def test_nothing_is_done_where_everything_works() -> None:
    found = decide(GOOD)
    assert (found.layers, found.bwrap, found.reason) == ((OUTER, INNER), BWRAP, "")
    assert found.actions == found.advice == () and found.complete


def test_a_machine_without_bubblewrap_has_no_layer() -> None:
    found = decide(Symptoms())
    assert found.layers == () and "bubblewrap is not installed" in found.reason
    assert found.advice == ("sudo apt-get install bubblewrap socat",)


def test_without_socat_only_the_outer_layer_works() -> None:
    found = decide(replace(GOOD, socat=False))
    assert found.layers == (OUTER,) and "socat is not installed" in found.reason
    assert found.advice == ("sudo apt-get install socat",)


# --- kernel settings


def test_debians_setting_against_user_namespaces_is_changed() -> None:
    off = "kernel.unprivileged_userns_clone"
    found = decide(replace(GOOD, distribution=all_with(FORBIDDEN), sysctls={off: "0"}, settable=frozenset({off})))
    assert found.layers == () and found.actions == (SetSysctls({off: "1"}),)
    assert "switched off" in found.reason and f"{off} = 0" in found.reason and "deb.li" not in found.reason


def test_only_limits_that_are_too_low_are_raised() -> None:
    sysctls = {"user.max_user_namespaces": "0", "user.max_net_namespaces": "96365"}
    found = decide(replace(GOOD, distribution=all_with(LIMIT), sysctls=sysctls, settable=frozenset(sysctls)))
    assert found.actions == (SetSysctls({"user.max_user_namespaces": "16384"}),)
    assert found.advice == ("sudo sysctl -w user.max_user_namespaces=16384   (then deploy again)",)


def test_a_setting_that_is_not_the_cause_stays() -> None:
    """A machine where root may not make user namespaces either way, but where everything works for this user."""
    sysctls = {"kernel.unprivileged_userns_clone": "0", "user.max_time_namespaces": "0"}
    assert decide(replace(GOOD, sysctls=sysctls, settable=frozenset(sysctls))).actions == ()
    refused = replace(GOOD, distribution=all_with(RTM_NEWADDR), sysctls={"user.max_user_namespaces": "0"})
    assert decide(replace(refused, settable=frozenset(refused.sysctls))).actions == ()


def test_a_setting_that_cannot_be_changed_here_becomes_advice() -> None:
    found = decide(
        replace(GOOD, distribution=all_with(LIMIT), sysctls={"user.max_user_namespaces": "0"}, container="lxc")
    )
    assert found.actions == () and found.advice[0].startswith("on the host of this container: sudo sysctl -w")


def test_a_limit_from_outside_is_named() -> None:
    """Measured inside ``bwrap --disable-userns``: the limit is met though it looks high."""
    found = decide(
        replace(
            GOOD, distribution=all_with(LIMIT), sysctls={"user.max_user_namespaces": "2147483647"}, container="docker"
        )
    )
    assert found.layers == () and found.actions == () and "forbids it user namespaces" in found.reason


# --- AppArmor


@pytest.mark.parametrize("symptom", [RTM_NEWADDR, UID_MAP])
def test_ubuntus_restriction_without_a_profile_gets_ours(symptom: Result) -> None:
    found = decide(replace(GOOD, distribution=all_with(symptom), sysctls=RESTRICTED, apparmor=UBUNTU))
    assert found.layers == () and found.actions == (AllowCopy(abi_4=True),)
    assert "AppArmor restricts user namespaces" in found.reason and symptom.stderr in found.reason
    assert "apparmor_restrict_unprivileged_userns=0" in found.advice[0], "the other way, for a person to choose"


def test_the_stock_profile_lets_the_outer_fence_work_and_ours_helps_the_inner_one() -> None:
    stock = replace(UBUNTU, loaded=frozenset({"bwrap"}))
    seen = replace(GOOD, distribution=bubblewrap(OK, SETGROUPS, SETGROUPS), sysctls=RESTRICTED, apparmor=stock)
    found = decide(seen)
    assert found.layers == (OUTER,) and found.actions == (AllowCopy(abi_4=True),)
    assert "profile bwrap for bubblewrap" in found.reason and "setgroups" in found.reason


def test_the_stock_profile_is_the_cause_also_where_the_restriction_is_off() -> None:
    """anthropic-experimental/sandbox-runtime 429."""
    stock = replace(UBUNTU, loaded=frozenset({"bwrap"}))
    sysctls = {"kernel.apparmor_restrict_unprivileged_userns": "0"}
    seen = replace(GOOD, distribution=bubblewrap(OK, SETGROUPS, SETGROUPS), sysctls=sysctls, apparmor=stock)
    assert decide(seen).actions == (AllowCopy(abi_4=True),)


def test_a_profile_of_the_user_that_works_is_enough() -> None:
    simple = replace(UBUNTU, loaded=frozenset({"bwrap"}))
    found = decide(replace(GOOD, sysctls=RESTRICTED, apparmor=simple))
    assert (found.layers, found.bwrap, found.actions) == ((OUTER, INNER), BWRAP, ())


def test_with_two_conflicting_profiles_ours_is_attached_to_another_file() -> None:
    two = replace(UBUNTU, loaded=frozenset({"bwrap", "my-bwrap"}))
    found = decide(replace(GOOD, distribution=all_with(RTM_NEWADDR), sysctls=RESTRICTED, apparmor=two))
    assert found.actions == (AllowCopy(abi_4=True),) and "bwrap, my-bwrap" in found.reason


def test_with_our_profile_the_copy_is_used_and_nothing_is_left_to_do() -> None:
    found = decide(UBUNTU_WITH_OURS)
    assert (found.layers, found.bwrap, found.reason) == ((OUTER, INNER), COPY, "") and found.actions == ()


def test_an_outdated_copy_is_renewed_even_if_it_works() -> None:
    newer = replace(all_with(RTM_NEWADDR), sha256="b")
    found = decide(replace(UBUNTU_WITH_OURS, distribution=newer))
    assert found.bwrap == COPY and found.complete and found.actions == (AllowCopy(abi_4=True),)


def test_our_profile_is_loaded_again_when_it_is_not_loaded() -> None:
    unloaded = replace(
        UBUNTU_WITH_OURS, copy=bubblewrap(UID_MAP, UID_MAP, UID_MAP, COPY), apparmor=replace(UBUNTU, profile=PROFILE)
    )
    assert decide(unloaded).actions == (AllowCopy(abi_4=True),)


def test_our_profile_that_does_not_help_is_not_tried_again() -> None:
    useless = replace(UBUNTU_WITH_OURS, copy=bubblewrap(UID_MAP, UID_MAP, UID_MAP, COPY))
    found = decide(useless)
    assert found.layers == () and found.actions == () and "our profile does not help" in found.reason


def test_the_distributions_bubblewrap_is_preferred_where_it_works() -> None:
    assert decide(replace(UBUNTU_WITH_OURS, distribution=all_with(OK))).bwrap == BWRAP


def test_root_on_ubuntu_needs_the_profile_only_for_both_layers_together() -> None:
    seen = replace(GOOD, uid=0, distribution=bubblewrap(OK, OK, UID_MAP), sysctls=RESTRICTED, apparmor=UBUNTU)
    found = decide(seen)
    assert found.layers == (OUTER,) and found.actions == (AllowCopy(abi_4=True),)
    assert "inside the outer one" in found.reason


def test_without_the_parser_it_is_installed_first() -> None:
    bare = replace(UBUNTU, parser=False, abi_4=False)
    found = decide(replace(GOOD, distribution=all_with(UID_MAP), sysctls=RESTRICTED, apparmor=bare))
    assert found.actions == (InstallPackages({"apparmor": "apparmor_parser"}), AllowCopy(abi_4=False))


def test_a_machine_that_loads_no_profiles_gets_advice() -> None:
    closed = replace(UBUNTU, loadable=False)
    seen = replace(GOOD, distribution=all_with(UID_MAP), sysctls=RESTRICTED, apparmor=closed)
    assert decide(seen).actions == () and "no profile can be loaded" in decide(seen).reason
    inside = decide(replace(seen, container="docker"))
    assert "apparmor=unconfined" in inside.advice[0] and inside.advice[1].startswith("on the host: ")


def test_apparmor_that_is_not_the_cause_is_left_alone() -> None:
    """Enabled, as on Debian, but without the restriction and without a profile on bubblewrap."""
    found = decide(replace(GOOD, distribution=all_with(FORBIDDEN), container="docker", apparmor=UBUNTU))
    assert found.actions == () and "may not make nested" in found.reason


# --- containers, old programs, and what is left


@pytest.mark.parametrize("symptom", [FORBIDDEN, NO_PROC, Result(1, "bwrap: pivot_root: Operation not permitted")])
def test_a_container_without_nesting_gets_the_options_to_start_it_with(symptom: Result) -> None:
    found = decide(replace(GOOD, distribution=all_with(symptom), container="docker"))
    assert found.layers == () and found.actions == () and "container (docker) may not make nested" in found.reason
    assert "--security-opt seccomp=unconfined" in found.advice[0]
    assert "nesting" in decide(replace(GOOD, distribution=all_with(symptom), container="lxc")).advice[0]


def test_a_bubblewrap_that_is_too_old_is_named_with_its_version() -> None:
    old = Bubblewrap(BWRAP, "0.4.0", "a", dict.fromkeys((OUTER, BOTH), Result(1, "bwrap: Unknown option --perms")))
    old = replace(old, results={**old.results, INNER: OK})
    found = decide(replace(GOOD, distribution=old))
    assert found.layers == (INNER,) and "bubblewrap 0.4.0 is too old" in found.reason
    assert "apt-get install --only-upgrade bubblewrap" in found.advice[0]


def test_of_two_layers_that_do_not_work_together_the_outer_one_stays() -> None:
    found = decide(replace(GOOD, distribution=bubblewrap(OK, OK, LIMIT), sysctls={"user.max_user_namespaces": "2"}))
    assert found.layers == (OUTER,) and "the inner fence does not work inside the outer one" in found.reason


def test_the_inner_layer_can_work_alone() -> None:
    found = decide(replace(GOOD, distribution=bubblewrap(NO_PROC, OK, NO_PROC)))
    assert found.layers == (INNER,) and found.reason.startswith("the outer fence does not work: ")
    assert "Can't mount proc" in found.reason and found.advice


def test_an_experiment_that_hangs_counts_as_failed() -> None:
    found = decide(replace(GOOD, distribution=bubblewrap(OK, SLOW, SLOW)))
    assert found.layers == (OUTER,) and "did not end in time" in found.reason


def test_every_missing_layer_has_a_one_line_reason_and_advice() -> None:
    for symptom in (RTM_NEWADDR, UID_MAP, SETGROUPS, LIMIT, FORBIDDEN, NO_PROC, SLOW, Result(139), Result(1, "a\nb")):
        for container in ("", "docker", "lxc", "wsl"):
            found = decide(replace(GOOD, distribution=all_with(symptom), container=container))
            assert found.layers == () and found.reason and "\n" not in found.reason and found.advice
