"""git's configuration is read as git reads it. The tests ask git itself where that is possible."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from claude_local.fence.git_config import (
    entries,
    fixed_changes,
    gitfile_target,
    named_directories,
    named_files,
    unsafe_entries,
)

PROJECT = Path(__file__).parents[2]


def git_reads(file: Path) -> list[tuple[str, str, str, str]] | None:
    """Section, subsection, key and value as git reads them; None where git rejects the file."""
    done = subprocess.run(["git", "config", "-z", "--file", file, "--list"], capture_output=True, check=False)
    if done.returncode != 0:
        return None
    found = []
    for each in done.stdout.decode("utf-8", "surrogateescape").split("\0")[:-1]:
        name, _, value = each.partition("\n")
        section, _, rest = name.partition(".")
        below, _, key = rest.rpartition(".")
        found.append((section, below, key, value))
    return found


@pytest.mark.parametrize(
    "text",
    [
        "[core]\n\thooksPath = .githooks\n",
        "[core]\n\thooksPath = .githooks # mine\n",
        "[core]\n\thooksPath = .githooks ; mine\n",
        '[core]\n\thooksPath = "my # hooks" ; mine\n',
        "[core] hooksPath=a\n",
        "[CORE]\n\tHooksPath = a\n",
        "[core][alias] x = !sh\n",
        '[filter "a]b \\" c"]\n\tclean = tool --x\n',
        "[filter.old]\n\tclean = tool\n",
        "[alias]\n\tx = !echo \\\n  one \\\n  two\n",
        '[alias]\n\tx = "a\\"b\\\\c\\td"\n',
        "# a comment \\\n[core]\n\tfsmonitor = evil\n",
        "[core]\n\tx = a ; b \\\n\tfsmonitor = evil\n",
        '[core]\n\tx = "a \\\n b"\n',
        "[core]\n\tx = \\\\\n\ty = 1\n",
        "[core]\r\n\tx = y\r\n\tz = \\\r\n  w\r\n",
        "\ufeff[core]\n\tx = y\n",
        "[core]\n\n\n\tbare\n\tx =\n",
        "[core]\n\tx = a  b\t\n",
        "[core]\n\tx = a\u2028b\n",
        '[url "ext::sh \\"a\\" \\\\b\\c "]\n\tinsteadOf = x\n',
        '[a.B "C.d"]\n\tx = y\n',
    ],
)
def test_a_configuration_is_read_as_git_reads_it(tmp_path: Path, text: str) -> None:
    file = tmp_path / "config"
    file.write_bytes(text.encode())
    expected = git_reads(file)
    assert expected, "git takes it for a configuration"
    assert entries(text) == expected


PIECES = st.sampled_from([
    "[core]", '[filter "x"]', '[a "b\\"]c"]', "[old.style]", "\n", "\n", "\r\n", " ", "\t", "hooksPath", "clean",
    "key-1",
    " = ", "=", "value", ".git/hooks", '"', '"', "\\", "\\\n", "\\n", "\\t", '\\"', "#", ";", "!", "é", "\u2028",
])  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(PIECES, max_size=24).map(lambda pieces: "[core]\n" + "".join(pieces)))
def test_every_entry_that_git_reads_is_read(tmp_path: Path, text: str) -> None:
    file = tmp_path / "config"
    file.write_bytes(text.encode())
    expected = git_reads(file)
    if expected is not None:
        # Versions of git differ about blanks within a value.
        assert [(*names, value.split()) for *names, value in entries(text)] == [
            (*names, value.split()) for *names, value in expected
        ]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(PIECES, max_size=24).map(lambda pieces: "[user]\n" + "".join(pieces)))
def test_no_text_that_git_rejects_is_carried_out_of_a_session(tmp_path: Path, text: str) -> None:
    """git outside would stop with "bad config line" at each command."""
    file = tmp_path / "config"
    file.write_bytes(text.encode())
    if git_reads(file) is None:
        assert fixed_changes("", text)


CONFIG = (
    '[core]\n\tbare = false\n\teditor = mine\n[remote "o"]\n\turl = /a\n[include]\n\tpath = x\n[user]\n\tname = A\n'
)


@pytest.mark.parametrize(
    "add",
    [
        "[user]\n\temail = a@b.example\n",
        '[remote "p"]\n\turl = https://example.org/p\n\tfetch = +refs/heads/*:refs/remotes/p/*\n',
        '[branch "x"]\n\tremote = o\n\tmerge = refs/heads/x\n\trebase = true\n',
        '[submodule "lib"]\n\tactive = true\n\turl = ../lib\n',
        "[pull]\n\trebase = true\n",
        "# a comment\n",
    ],
)
def test_a_session_may_add_and_remove_what_is_harmless(add: str) -> None:
    assert fixed_changes(CONFIG, CONFIG + add) == [] == fixed_changes(CONFIG + add, CONFIG)


@pytest.mark.parametrize(
    ("after", "named"),
    [
        (CONFIG + "[core]\n\thooksPath = .husky\n", "core.hookspath=.husky"),
        (CONFIG + "[alias]\n\tst = !sh\n", "alias.st=!sh"),
        (CONFIG + "[core]\n\tworktree = /home\n", "core.worktree=/home"),
        (CONFIG + "[core]\n\texcludesFile = x\n", "core.excludesfile=x"),
        (CONFIG + "[status]\n\tshowUntrackedFiles = no\n", "status.showuntrackedfiles=no"),
        (CONFIG + "[extensions]\n\tworktreeConfig = true\n", "extensions.worktreeconfig=true"),
        (CONFIG + '[remote "p"]\n\turl = ext://run\n', "remote.p.url=ext://run"),
        (CONFIG + '[submodule "x"]\n\tignore = all\n', "submodule.x.ignore=all"),
        (CONFIG.replace("mine", "evil"), "core.editor=evil"),
        (CONFIG.replace("editor = mine", ""), "core.editor=mine"),
        (CONFIG.replace("[include]\n\tpath = x\n", "") + "[include]\n\tpath = x\n", ""),
        (CONFIG + "[user\n", "a line that git cannot read"),
        (CONFIG + '[user]\n\tname = "A\n', "a line that git cannot read"),
    ],
)
def test_a_session_may_not_change_what_git_runs_obeys_or_shows(after: str, named: str) -> None:
    if named:
        assert fixed_changes(CONFIG, after) == [named]


@given(st.text())
def test_any_text_can_be_read(text: str) -> None:
    for section, below, key, value in entries(text):
        assert isinstance(section + below, str) and key == key.lower() and isinstance(value, str)
    fixed_changes("", text)
    assert all(named_directories(text)) and all(named_files(text)) and all(unsafe_entries(text))
    target = gitfile_target(text)
    assert target is None or target


@pytest.mark.parametrize(
    "text",
    [
        "\n" * 10**6,
        "[" * 10**6,
        '[a "' * 250_000,
        '"' * 10**6,
        'a="' * 330_000,
        "a = \\" * 200_000,
        " [a " * 250_000,
        "gitdir: " + " " * 10**6 + "x",
    ],
)
def test_a_megabyte_of_nonsense_is_read_quickly(text: str) -> None:
    """Quadratic time would be hours."""
    program = (
        "import resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_CPU, (60, 60))\n"
        "from claude_local.fence import git_config\n"
        "text = sys.stdin.read()\n"
        "git_config.named_files(text), git_config.unsafe_entries(text), git_config.gitfile_target(text)\n"
        "git_config.fixed_changes('', text), git_config.fixed_changes('', '[user]x=' + text)\n"
    )
    subprocess.run([sys.executable, "-c", program], input=text, cwd=PROJECT, text=True, check=True)


def test_directories_with_programs_are_named() -> None:
    text = '[core]\n\thooksPath = .githooks\n[init]\n\ttemplateDir = "~/my templates"\n[core]\n\thooksPath\n'
    assert named_directories(text) == [".githooks", "~/my templates"]


@pytest.mark.parametrize(
    ("text", "files"),
    [
        ("[include]\n\tpath = ../shared.conf\n", ["../shared.conf"]),
        ('[includeIf "gitdir:~/w/"]\n\tpath = w.conf\n', ["w.conf"]),
        ("[core]\n\tfsmonitor = tools/watch\n", ["tools/watch"]),
        ("[core]\n\tattributesFile = .attr\n", [".attr"]),
        ('[filter "x"]\n\tclean = tools/clean %f\n', ["tools/clean %f", "tools/clean"]),
        ("[alias]\n\tx = !sh ./scripts/x.sh 'a/b c'\n", ["!sh ./scripts/x.sh 'a/b c'", "./scripts/x.sh", "a/b"]),
        ("[interactive]\n\tdiffFilter = ./filter\n", ["./filter"]),
        ('[submodule "s"]\n\tupdate = !./run\n', ["!./run", "./run"]),
        ('[remote "o"]\n\turl = ext::./run\n', ["ext::./run"]),
        ('[credential "https://x"]\n\thelper = ./h\n', ["./h"]),
        ("[gpg]\n\tprogram = ./gpg\n", ["./gpg"]),
    ],
)
def test_files_that_git_runs_or_obeys_are_named(text: str, files: list[str]) -> None:
    assert named_files(text) == files


@pytest.mark.parametrize(
    "text",
    [
        "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = false\n\tlogallrefupdates = true\n",
        '[remote "origin"]\n\turl = https://example.org/x.git\n\tfetch = +refs/heads/*:refs/remotes/origin/*\n',
        '[branch "main"]\n\tremote = origin\n\tmerge = refs/heads/main\n',
        '[submodule "s"]\n\tactive = true\n\turl = ../s\n\tupdate = rebase\n',
        "[user]\n\tname = A\n\temail = a@example.org\n",
    ],
)
def test_an_everyday_configuration_names_no_file(text: str) -> None:
    assert entries(text) and named_files(text) == [] and named_directories(text) == []


@pytest.mark.parametrize(
    "text",
    [
        "[core]\n\trepositoryformatversion = 1\n\tfilemode = true\n\tbare = false\n\tlogallrefupdates = true\n"
        "\tignorecase\n",
        "[core]\n\tsparseCheckout = true\n\tsparseCheckoutCone = true\n\tfsmonitor = false\n\tpager = cat\n",
        "[extensions]\n\tworktreeConfig = true\n\tobjectFormat = sha256\n\trefStorage = reftable\n"
        "\tpartialClone = origin\n",
        '[remote "origin"]\n\turl = git@example.org:x/y.git\n\tfetch = +refs/heads/*:refs/remotes/origin/*\n'
        "\tpromisor = true\n\tpartialclonefilter = blob:none\n\tgh-resolved = base\n",
        '[branch "main"]\n\tremote = origin\n\tmerge = refs/heads/main\n\tvscode-merge-base = origin/main\n',
        '[submodule "s"]\n\tactive = true\n\turl = ../s\n\tupdate = rebase\n[submodule]\n\trecurse = true\n',
        '[remote "forge"]\n\turl = http://[::1]:3000/x.git\n[url "http://[::1]:3000/"]\n\tinsteadOf = forge:\n',
        "[user]\n\tname = A\n\temail = a@example.org\n\tsigningkey = k\n[commit]\n\tgpgsign = false\n",
        "[diff]\n\talgorithm = histogram\n\trenames = copies\n\tcolorMoved = zebra\n"
        "[merge]\n\tconflictStyle = zdiff3\n\tff = only\n",
        '[diff "python"]\n\txfuncname = "^def"\n\tbinary = true\n[merge "ours"]\n\tname = keep mine\n',
        "[pull]\n\trebase = true\n[push]\n\tautoSetupRemote = true\n[gc]\n\tauto = 0\n[rerere]\n\tenabled\n",
        '[filter "lfs"]\n\tclean = git-lfs clean -- %f\n\tsmudge = git-lfs smudge -- %f\n'
        "\tprocess = git-lfs filter-process\n"
        '\trequired = true\n[lfs]\n\trepositoryformatversion = 0\n[lfs "https://example.org"]\n\taccess = basic\n',
        '[url "git@example.org:"]\n\tinsteadOf = https://example.org/\n',
        '[url "ssh://git@example.org/"]\n\tinsteadOf = ex:\n[url "/srv/git/"]\n\tinsteadOf = srv:\n'
        '[url "../"]\n\tinsteadOf = up:\n',
        '[remote "a"]\n\turl = /srv/x.git\n[remote "b"]\n\turl = host:x.git\n[remote "c"]\n\turl = host:/x.git\n'
        '[remote "d"]\n\turl = ssh://host:22/x.git\n[remote "e"]\n\turl = file:///srv/x.git\n'
        '[remote "f"]\n\turl = C:/x.git\n[remote "g"]\n\turl = git://host/x\n\tpush = :\n',
    ],
)
def test_an_everyday_configuration_is_safe(text: str) -> None:
    assert entries(text) and unsafe_entries(text) == []


@pytest.mark.parametrize(
    "entry",
    [
        "core.fsmonitor=./m.sh", "core.hooksPath=x", "core.sshCommand=x", "core.editor=./e", "core.pager=./p",
        "core.askPass=x", "core.gitProxy=x", "core.alternateRefsCommand=x", "alias.st=-c core.fsmonitor=x status",
        "alias.st=!x", "diff.external=x", "diff.a.textconv=x", "diff.a.command=x", "merge.a.driver=x",
        "filter.a.clean=x",
        "filter.lfs.process=git-lfs-evil", "include.path=x", "includeIf.gitdir:/.path=x", "credential.helper=x",
        "credential.https://x.helper=x", "gpg.program=x", "gpg.ssh.program=x", "gpg.ssh.defaultKeyCommand=x",
        "gc.recentObjectsHook=x", "sequence.editor=x", "pager.log=x", "difftool.a.cmd=x", "mergetool.a.path=x",
        "remote.o.uploadpack=x", "remote.o.receivepack=x", "remote.o.vcs=x", "remote.o.url=ext::x",
        "remote.o.pushurl=ext::x",
        "url.ext::x.insteadOf=https://", "url.ext::x.pushInsteadOf=https://", "protocol.ext.allow=always",
        "protocol.allow=always", "submodule.s.update=!x", "submodule.s.url=ext::x", "branch.main.mergeOptions=-s x",
        "branch.main.remote=x::y", "branch.main.pushRemote=x::y", "remote.pushDefault=x::y",
        "uploadpack.packObjectsHook=x", "trailer.a.command=x", "tar.x.command=x", "interactive.diffFilter=x",
        "remote.o.url=ext://run", "remote.o.pushurl=run://x", "remote.o.url=EXT://run", "remote.o.url=HTTPS://x/y",
        "remote.o.url=::x", "remote.o.url=://x", "submodule.s.url=ext://run", "branch.main.remote=ext://run",
        "extensions.partialClone=ext://run", "fetch.bundleURI=ext://run", "checkout.defaultRemote=ext::run",
        "remote.o.proxy=run://x", "http.proxy=run://x", "http.https://x.proxy=run://x",
        "url.ext://run.insteadOf=https://x/y", "url.ext:.insteadOf=https:", "url.ext:/.insteadOf=https:/",
        "url.ext.insteadOf=https", "url.e.insteadOf=https://", "protocol.ext.allow=user", "protocol.run.allow=user",
        "init.templateDir=x", "hook.x.command=x", "lfs.customtransfer.x.path=x", "lfs.extension.x.clean=x",
        "sendemail.smtpServer=x", "web.browser=x", "man.x.cmd=x", "gitflow.path.hooks=x", "somebody.elses=x",
    ],
)  # fmt: skip
def test_an_entry_that_runs_a_program_or_is_unknown_is_unsafe(tmp_path: Path, entry: str) -> None:
    """The entry is written by git."""
    file = tmp_path / "config"
    name, _, value = entry.partition("=")
    subprocess.run(["git", "config", "--file", file, name, value], check=True)
    assert len(unsafe_entries(file.read_text())) == 1


def test_an_address_that_a_replacement_completes_is_unsafe() -> None:
    """Git takes an empty beginning, too: https://ext::./run becomes ext::./run."""
    assert unsafe_entries('[url ""]\n\tinsteadOf = https://\n') == ["url.insteadof=https://"]


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("gitdir: ../.git/modules/x\n", "../.git/modules/x"),
        ("gitdir: /a b/.git\r\n", "/a b/.git"),
        ("gitdir: /a", "/a"),
        ("gitdir: ", None),
        ("", None),
        ("Gitdir: /a\n", None),
        (" gitdir: /a\n", None),
        ("gitdir: /a\nb\n", "/a\nb"),
        ("gitdir: /a \n", "/a "),
    ],
)
def test_the_target_of_a_git_file_is_read(text: str, target: str | None) -> None:
    assert gitfile_target(text) == target
