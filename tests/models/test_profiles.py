"""models.conf: what a profile may say, and that everything wrong is said at once."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_local.models import architecture, profiles
from claude_local.models.memory import Serving

PROJECT = Path(__file__).resolve().parents[2]
SHA = "ab" * 32


def one(body: str) -> profiles.Profile:
    return profiles.parse(f"[x]\n{body}")["x"]


def problems(text: str) -> list[str]:
    with pytest.raises(profiles.ProfilesError) as caught:
        profiles.parse(text)
    assert str(caught.value) == "\n".join(caught.value.problems)
    return caught.value.problems


def problem(body: str) -> str:
    reported = problems(f"[x]\n{body}")
    assert len(reported) == 1, reported
    return reported[0]


def shipped() -> dict[str, profiles.Profile]:
    templates = [path.name for path in (PROJECT / "files" / "chat-templates").glob("*.jinja")]
    return profiles.parse((PROJECT / "models.conf").read_text(encoding="utf-8"), chat_templates=templates)


def test_the_small_profiles_are_the_official_files() -> None:
    known = shipped()
    for name, size in (("qwen2.5-coder-1.5b", 1117320768), ("qwen2.5-coder-0.5b", 491400064)):
        profile = known[name]
        assert profile.size == size
        assert [line.split()[0] for line in profile.files[0].sources] == ["hub", "pip"]
        assert profile.tools == "lean"
        assert profile.options == {"temperature": "0"}
        assert (profile.ctx_size, profile.license) == (32768, "Apache-2.0")


def test_every_shipped_profile_says_what_it_is_where_it_comes_from_and_how_it_samples() -> None:
    known = shipped()
    assert [name for name, profile in known.items() if profile.mmproj]
    for name, profile in known.items():
        assert profile.license in ("Apache-2.0", "MIT"), name
        assert profile.description and profile.speed and profile.ctx_size, name
        assert profile.architecture in architecture.shipped(), name
        assert "temperature" in profile.options, name
        for file in profile.files:
            # A commit of 40 digits, and a hash and a size that public records have.
            assert file.hub is not None and file.sha256 and file.size, name
        assert all(profile.sizes.values()), name
        trained = architecture.shipped()[profile.architecture or ""].context_length
        assert trained is not None and profile.ctx_size <= trained, name


SAMPLING = {
    "Qwen3-Coder-Next": {"temperature": 1.0, "top-p": 0.95, "top-k": 40, "min-p": 0.01},
    "Qwen3-Coder-30B-A3B": {"temperature": 0.7, "top-p": 0.8, "top-k": 20, "min-p": 0, "repeat-penalty": 1.05},
    "Qwen3.5-9B": {"temperature": 0.6, "top-p": 0.95, "top-k": 20, "min-p": 0},
    "Qwen3.5-4B": {"temperature": 0.7, "top-p": 0.8, "top-k": 20, "min-p": 0},  # its thinking is off
    "qwen3.6-35b-a3b-direct": {"temperature": 0.7, "top-p": 0.8, "top-k": 20, "min-p": 0},  # its thinking is off
    "Qwen3.6-35B-A3B": {"temperature": 0.6, "top-p": 0.95, "top-k": 20, "min-p": 0},
    "Qwen3.8-27B": {"temperature": 1.0, "top-p": 0.95, "top-k": 20, "min-p": 0},
    "gemma-4-26B-A4B": {"temperature": 1.0, "top-p": 0.95, "top-k": 64},
    "gpt-oss-20b": {"temperature": 1.0, "top-p": 1.0, "top-k": 0, "min-p": 0},
    "Qwen2.5-Coder-1.5B": {"temperature": 0},
    "Qwen2.5-Coder-0.5B": {"temperature": 0},
}


@pytest.mark.parametrize("profile", shipped().values(), ids=lambda profile: str(profile.id))
def test_a_shipped_profile_samples_as_its_makers_recommend(profile: profiles.Profile) -> None:
    """Where each number is from: docs/decisions/0009-choosing-a-profile.md."""
    others = ("cache-type-k", "cache-type-v", "reasoning")
    sampling = {key: float(value) for key, value in profile.options.items() if key not in others}
    assert sampling == SAMPLING.get(profile.id, SAMPLING[profile.architecture or ""])


def test_two_profiles_that_could_be_confused_say_which_is_which() -> None:
    known = shipped()
    assert "80B" in known["qwen3-coder-next-ud-q4"].name and "30B" in known["qwen3-coder-30b-q4"].name
    assert "qwen3-coder-ud-q5" not in known


def test_a_hand_made_profile_works_as_it_is() -> None:
    profile = one(
        "NAME = GLM Flash\nDESCRIPTION = fast\nSPEED = ~147 t/s\nMODEL = GLM-4.7-Flash-Q4_K_M.gguf\nCTX_SIZE = 131072\n"
        "N_GPU_LAYERS = 99\nFIT = on\nFIT_TARGET = 128,1024\n"
        "EXTRA_ARGS = -np 1 --temp 1.0 --top-p 0.95 --min-p 0.01 --jinja --no-mmap -b 2048\n"
    )
    assert (profile.ctx_size, profile.n_gpu_layers, profile.fit, profile.fit_target) == (131072, "99", "on", "128,1024")
    assert profile.files == (profiles.ModelFile("GLM-4.7-Flash-Q4_K_M.gguf", None, None, ()),)
    assert profile.options == {
        "parallel": "1",
        "temperature": "1.0",
        "top-p": "0.95",
        "min-p": "0.01",
        "jinja": "true",
        "batch-size": "2048",
        "load-mode": "none",
    }


# Sections as hand-made files of early 2026 have them (their format, not their text): a model in folders and parts, the
# experts placed by hand, flags of that time.
HAND_MADE = r"""
[big]
NAME=Big one
DESCRIPTION=Split over two cards
SPEED=~33 t/s
MODEL=Big/UD-Q5/Big-00001-of-00003.gguf
CTX_SIZE=262144
N_GPU_LAYERS=99
FIT=off
EXTRA_ARGS=--jinja -np 1 -b 2048 -ub 2048 --no-context-shift -fa --temp 1.0 --top-k 40
    -ot blk\.([0-9]|1[0-4])\.=CUDA0,blk\.(1[5-9]|2[01])\.=CUDA1,exps=CPU --no-mmap

[small]
NAME=Small one
MODEL=Small/Small-Q4_K_M.gguf
CTX_SIZE=10240
FIT_TARGET=128,1024
EXTRA_ARGS=--jinja --reasoning-format none --split-mode none --main-gpu 0
"""


def test_a_hand_made_file_is_taken_as_it_is() -> None:
    known = profiles.parse(HAND_MADE)
    big, small = known["big"], known["small"]
    assert [file.name for file in big.files] == [f"Big/UD-Q5/Big-0000{n}-of-00003.gguf" for n in (1, 2, 3)]
    assert (big.n_gpu_layers, big.fit, big.ctx_size) == ("99", "off", 262144)
    assert big.options["override-tensor"] == r"blk\.([0-9]|1[0-4])\.=CUDA0,blk\.(1[5-9]|2[01])\.=CUDA1,exps=CPU"
    assert big.options["flash-attn"] == "on"  # the bare switch of that time
    assert big.options["load-mode"] == "none"
    assert big.options["context-shift"] == "false"
    assert small.options == {"jinja": "true", "reasoning-format": "none", "split-mode": "none", "main-gpu": "0"}
    assert small.fit_target == "128,1024"


def test_files_without_a_hash_need_a_hub_and_take_their_share_of_the_size() -> None:
    hub = f"hub a/b@{'0' * 40}/d"
    profile = one(f"MODEL = d/M-00001-of-00002.gguf\nABOUT_SIZE = 10 GB\nSOURCES = {hub}\nMMPROJ = p.gguf")
    assert [file.name for file in profile.unpinned] == ["d/M-00001-of-00002.gguf", "d/M-00002-of-00002.gguf", "p.gguf"]
    assert sum(profile.sizes.values()) == pytest.approx(10**10, abs=3)
    assert profile.files[0].hub == hub
    assert one("MODEL = a.gguf").unpinned == ()


@pytest.mark.parametrize(
    ("old", "mode"),
    [("--no-mmap", "none"), ("--mlock", "mmap+mlock"), ("--no-mmap --mlock", "mlock"), ("--direct-io", "dio")],
)
def test_removed_loading_flags_in_extra_args_become_load_mode(old: str, mode: str) -> None:
    assert one(f"MODEL = a.gguf\nEXTRA_ARGS = {old} --metrics").extra_args == ("--metrics", "--load-mode", mode)


def test_all_parts_of_a_split_model_are_files() -> None:
    profile = one(
        f"MODEL = d/M-00001-of-00002.gguf\nSHA256 = {SHA} {'cd' * 32}\nSIZE = 5 6\n"
        f"SOURCES = hub a/b@{'0' * 40}/d\nMMPROJ = mmproj.gguf\nMMPROJ_SHA256 = {SHA}\nMMPROJ_SIZE = 7"
    )
    assert [(file.name, file.size) for file in profile.files] == [
        ("d/M-00001-of-00002.gguf", 5),
        ("d/M-00002-of-00002.gguf", 6),
        ("mmproj.gguf", 7),
    ]
    assert profile.files[1].sha256 == "cd" * 32
    assert profile.files[2].sources == profile.files[0].sources
    assert (profile.size, profile.mmproj) == (18, "mmproj.gguf")


def test_empty_keys_of_a_hand_made_file_are_keys_left_out() -> None:
    profile = one("MODEL = a.gguf\nCTX_SIZE =\nFIT =\nEXTRA_ARGS =\nNAME =")
    assert (profile.ctx_size, profile.fit, profile.extra_args, profile.name) == (None, None, (), "x")


def test_context_zero_is_the_models_own() -> None:
    assert one("MODEL = a.gguf\nCTX_SIZE = 0").ctx_size is None


def test_switches_have_two_spellings() -> None:
    assert one("MODEL = a.gguf\nno-warmup = on\nmetrics = 1\ncache-prompt = off").options == {
        "warmup": "false",
        "metrics": "true",
        "cache-prompt": "false",
    }


@pytest.mark.parametrize(
    ("body", "parts"),
    [
        ("NAME = a", ["[x] MODEL: missing"]),
        ("MODEL = ../a.gguf", ["[x] MODEL: found '../a.gguf'", "without .."]),
        ("MODEL = d/../a.gguf", ["without .."]),
        ("MODEL = a.safetensors", [".gguf"]),
        ("MODEL = a.gguf\nno-mmap = true", ["[x] no-mmap:", "no longer", "load-mode = none"]),
        ("MODEL = a.gguf\ndraft-max = 4", ["no longer", "spec-draft-n-max"]),
        ("MODEL = a.gguf\nEXTRA_ARGS = --draft-max 4", ["EXTRA_ARGS", "--draft-max", "spec-draft-n-max"]),
        (
            "MODEL = a.gguf\nEXTRA_ARGS = -cd 4096 --jinja",
            ["EXTRA_ARGS", "no longer", "-cd", "expected nothing: the draft"],
        ),
        ("MODEL = a.gguf\nctx-size-draft = 4096", ["no longer", "expected nothing: the draft"]),
        ("MODEL = a.gguf\nEXTRA_ARGS = --grp-attn-n 4", ["no longer", "--grp-attn-n", "rope-scaling = yarn"]),
        ("MODEL = a.gguf\ntempp = 1", ["did you mean temp?"]),
        ("MODEL = a.gguf\nTemp = 1", ["expected temp"]),
        ("MODEL = a.gguf\nMODLE = 1", ["did you mean MODEL?"]),
        ("MODEL = a.gguf\nmodel = b.gguf", ["the key MODEL"]),
        ("MODEL = a.gguf\nname = b", ["expected NAME"]),
        ("MODEL = a.gguf\nFLASH_ATTN = on", ["expected flash-attn"]),
        ("MODEL = a.gguf\nKV_CACHE_TYPE_K = q8_0", ["expected cache-type-k"]),
        ("MODEL = a.gguf\nctx-size = 5", ["the key CTX_SIZE"]),
        ("MODEL = a.gguf\nEXTRA_ARGS = -c 4096", ["-c", "the key CTX_SIZE"]),
        ("MODEL = a.gguf\ntools = Read", ["the key TOOLS", "run commands"]),
        ("MODEL = a.gguf\nhost = 0.0.0.0", ["not for a profile"]),
        ("MODEL = a.gguf\nEXTRA_ARGS = --host 0.0.0.0", ["not for a profile"]),
        ("MODEL = a.gguf\nsamplers = top_k;top_p", ["without ;", "comment"]),
        ('MODEL = a.gguf\nEXTRA_ARGS = --samplers "top_k;top_p"', ["--samplers", "without ;"]),
        ("MODEL = a.gguf\ngrammar = root#x", ["without #"]),
        ("MODEL = a.gguf\ntemp = warm", ["found 'warm'", "a number"]),
        ("MODEL = a.gguf\ncache-type-k = q9", ["one of f32"]),
        ("MODEL = a.gguf\njinja = maybe", ["on or off"]),
        ("MODEL = a.gguf\nflash-attn =", ["found ''", "on, off, auto"]),
        ("MODEL = a.gguf\nEXTRA_ARGS = --temp --jinja", ["nothing after --temp", "a number"]),
        (f"MODEL = a.gguf\nSHA256 = {SHA}\nSOURCES = pip a==1", ["SIZE: missing"]),
        (f"MODEL = a.gguf\nSIZE = 5\nSOURCES = hub a/b@{'0' * 40}", ["SHA256: missing"]),
        ("MODEL = a.gguf\nABOUT_SIZE = 5", ["59.5 GB"]),
        ("MODEL = a.gguf\nEXTRA_ARGS = --temp=1", ["space instead of ="]),
        ("MODEL = a.gguf\nEXTRA_ARGS = 'oops", ["shell words"]),
        ("MODEL = a.gguf\nEXTRA_ARGS = oops", ["found 'oops'", "a flag"]),
        ("MODEL = a.gguf\nEXTRA_ARGS = -ot a=CPU -ot b=CPU", ["given twice"]),
        ("MODEL = a.gguf\ntemp = 1\nEXTRA_ARGS = --temp 2", ["given twice"]),
        ("MODEL = a.gguf\ntemp = 1\ntemperature = 2", ["the same flag as temp"]),
        ("MODEL = a.gguf\nEXTRA_ARGS = --control-vector-layer-range 1 2", ["two values"]),
        ("MODEL = a.gguf\nEXTRA_ARGS = --no-mmap --load-mode dio", ["next to load-mode"]),
        ("MODEL = a.gguf\nFIT = true", ["on or off"]),
        ("MODEL = a.gguf\nCTX_SIZE = 32k", ["found '32k'", "tokens"]),
        ("MODEL = a.gguf\nTOOLS = Read;Write", ["with commas"]),
        ("MODEL = a.gguf\nTOOLS = leen", ["found 'leen'", "a tool set (full, standard, lean)"]),
        ("MODEL = a.gguf\nCHAT_TEMPLATE = ../x.jinja", [".jinja"]),
        (f"MODEL = a.gguf\nSHA256 = {SHA}\nSOURCES = url https://h/x", ["SIZE: missing"]),
        (f"MODEL = a.gguf\nSHA256 = {SHA}\nSIZE = 1\nSOURCES = hub a/b@main", ["40 hex digits"]),
        (f"MODEL = a.gguf\nSHA256 = {SHA} {SHA}", ["found 2, expected 1"]),
        ("MODEL = a-00002-of-00003.gguf", ["the first part"]),
        (f"MODEL = a.gguf\nMMPROJ_SHA256 = {SHA}", ["MMPROJ"]),
    ],
)
def test_a_problem_names_the_key_what_was_found_and_what_is_expected(body: str, parts: list[str]) -> None:
    reported = problem(body)
    assert reported.startswith("models.conf: [x] ")
    for part in parts:
        assert part in reported, reported


def test_all_problems_come_at_once() -> None:
    reported = problems(
        "[a]\nCTX_SIZE = x\nno-mmap = 1\n[b]\nMODEL = b.gguf\nMODEL = c.gguf\nFIT = x\n[claude-local]\nMODEL = a.gguf\n"
    )
    assert [line.split(":")[1].strip() for line in reported] == [
        "[b] MODEL",
        "[a] MODEL",
        "[a] CTX_SIZE",
        "[a] no-mmap",
        "[b] FIT",
        "[claude-local]",
    ]


def test_text_that_is_no_ini_is_located() -> None:
    assert "line 1" in problems("MODEL = a.gguf")[0]
    assert "line 3" in problems("[a]\nMODEL = a.gguf\noops\n")[0]
    assert "no profile" in problems("# nothing\n")[0]


def test_two_files_of_one_name_from_two_hub_repositories_are_refused() -> None:
    """They would overwrite each other in model_dir."""
    first, second = (f"hub o/{name}@{'0' * 40}" for name in "ab")
    text = f"[a]\nMODEL = a.gguf\nSOURCES = {first}\nMMPROJ = mmproj-F16.gguf\n[own]\nMODEL = a.gguf\n"
    other = f"[b]\nMODEL = b.gguf\nSOURCES = {second}\n"
    with pytest.raises(profiles.ProfilesError) as caught:
        profiles.parse(f"{text}{other}MMPROJ = mmproj-F16.gguf\n")
    (problem,) = caught.value.problems
    assert problem.startswith(f"models.conf: [b] MMPROJ: found mmproj-F16.gguf of {second}, a name that [a] has")
    assert "b/mmproj-F16.gguf" in problem
    # What the message says helps; and one repository may serve both.
    assert profiles.parse(f"{text}{other}MMPROJ = b/mmproj-F16.gguf\n")["b"].files[1].hub == second
    assert profiles.parse(f"{text}[b]\nMODEL = b.gguf\nSOURCES = {first}\nMMPROJ = mmproj-F16.gguf\n")
    # The one that takes the file as it is does not hide the third one.
    text = f"[own]\nMODEL = x.gguf\n[a]\nMODEL = x.gguf\nSOURCES = {first}\n[b]\nMODEL = x.gguf\nSOURCES = {second}\n"
    with pytest.raises(profiles.ProfilesError, match=r"\[b\] MODEL: found x.gguf"):
        profiles.parse(text)


def test_two_profiles_cannot_disagree_on_one_file() -> None:
    reported = problems(f"[a]\nMODEL = m.gguf\nSHA256 = {SHA}\n[b]\nMODEL = m.gguf\nSHA256 = {'cd' * 32}\n")
    assert "[b] SHA256" in reported[0] and "[a]" in reported[0]


def test_an_unknown_chat_template_is_named() -> None:
    with pytest.raises(profiles.ProfilesError, match=r"\[x\] CHAT_TEMPLATE: found 'b.jinja', expected one of a.jinja"):
        profiles.parse("[x]\nMODEL = a.gguf\nCHAT_TEMPLATE = b.jinja", chat_templates=["a.jinja"])


def test_minimum_vram_has_units() -> None:
    assert one("MODEL = a.gguf\nMIN_VRAM = 16 GiB").minimum_vram_mib == 16384
    assert one("MODEL = a.gguf\nMIN_VRAM = 8192").minimum_vram_mib == 8192


def test_a_byte_order_mark_and_windows_line_ends_change_nothing() -> None:
    text = "[glm]\nMODEL = glm.gguf\nCTX_SIZE = 65536\ntemp = 0.7\n"
    assert profiles.parse("\ufeff" + text.replace("\n", "\r\n")) == profiles.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "version = 1\n\n[*]\nngl = 999\njinja = true\n\n[Qwen3-0.6B]\nmodel = ./models/q.gguf\n",
        "[*]\nngl = 999\n",
        "[q]\nhf-repo = owner/repo:Q4_K_M\nc = 4096\n",
        "[q]\nLLAMA_ARG_MODEL = q.gguf\n",
    ],
)
def test_a_preset_of_llama_server_is_recognised(text: str) -> None:
    (reported,) = problems(text)
    assert "llama-server preset" in reported
    assert "MODEL = " in reported and "CTX_SIZE" in reported and "[*]" in reported


def test_a_number_is_converted_where_it_is_checked() -> None:
    profile = one("MODEL = a.gguf\nubatch-size = 512.0\nbatch-size = 2e3\ntemp = 1.0\nEXTRA_ARGS = --parallel 2.0")
    assert profile.options == {"ubatch-size": "512", "batch-size": "2000", "temperature": "1.0", "parallel": "2"}
    assert Serving.of(profile.options, 4096).ubatch == 512


@pytest.mark.parametrize("value", ["512.5", "99999999999", "1e999", "\u0665\u0661\u0662", "512_0"])
def test_a_number_that_llama_server_reads_differently_is_refused(value: str) -> None:
    assert "expected a whole number" in problem(f"MODEL = a.gguf\nubatch-size = {value}")
    assert "expected a whole number" in problem(f"MODEL = a.gguf\nEXTRA_ARGS = -ub {value}")


def test_a_fraction_out_of_range_is_refused() -> None:
    assert "expected a number" in problem("MODEL = a.gguf\ntemp = 1e99")


@pytest.mark.parametrize(
    ("path", "named"),
    [("~bob/a.gguf", "~"), ("~/a.gguf", "~"), ("a\tb.gguf", "a tab"), ("a\n b.gguf", "a line break"),
     ("a\0b.gguf", "a NUL"), ("a\x1bb.gguf", "x1b"), ("d/../a.gguf", ".."), ("a,b.gguf", "','")],
)  # fmt: skip
@pytest.mark.parametrize("key", ["MODEL", "MMPROJ"])
def test_a_character_that_a_path_may_not_have_is_named(key: str, path: str, named: str) -> None:
    body = f"MODEL = {path}" if key == "MODEL" else f"MODEL = a.gguf\nMMPROJ = {path}"
    _, _, expected = problem(body).partition("expected")
    assert named in expected


KEYS = st.sampled_from([*profiles.SCHEMA["properties"], "temp", "no-mmap", "jinja", "tools", "ot", "X_Y", "draft-max"])
VALUES = st.one_of(
    st.text(max_size=40),
    st.sampled_from(
        ["a.gguf", "on", "0", SHA, "--no-mmap -fa", "-00001-of-00002.gguf", "hub a/b@c", "pip a{1..3}==1", "-ot -c"]
    ),
)


@settings(max_examples=500, deadline=None)
@given(st.lists(st.tuples(KEYS, VALUES), max_size=8), st.text(max_size=12))
def test_any_profile_is_parsed_or_refused(entries: list[tuple[str, str]], name: str) -> None:
    text = f"[{name}]\n" + "\n".join(f"{key} = {value}" for key, value in entries)
    try:
        for profile in profiles.parse(text).values():
            assert profile.files
            # What comes through can be written into llama-server's INI and read back.
            assert not any(set(";#\n") & set(f"{key}{value}") for key, value in profile.options.items())
    except profiles.ProfilesError as error:
        assert error.problems and all(line.startswith("models.conf: ") for line in error.problems)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=300))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    try:
        profiles.parse(text)
    except profiles.ProfilesError as error:
        assert error.problems
