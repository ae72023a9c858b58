"""presets.ini, read as llama-server reads it."""

import configparser

import pytest

from claude_local.models import profiles
from claude_local.server import flags, presets

CONF = """
[big]
MODEL = sub/big.gguf
MMPROJ = mmproj.gguf
CTX_SIZE = 65536
N_GPU_LAYERS = 99
FIT = on
FIT_TARGET = 128,1024
CHAT_TEMPLATE = t.jinja
EXTRA_ARGS = --no-mmap -np 2 --no-warmup
temp = 0.7
[small]
MODEL = small.gguf
[absent]
MODEL = absent.gguf
"""
PLACEMENTS = {
    "files": {},
    "profiles": {
        "big": {"model": "/disk/models/sub/big.gguf", "mmproj": "/home/u/models/mmproj.gguf", "files": []},
        "small": {"model": "/home/u/models/small.gguf", "mmproj": None, "files": []},
    },
}


def rendered(active: str = "big", **arguments: object) -> configparser.ConfigParser:
    text = presets.render(
        profiles.parse(CONF),
        active,
        PLACEMENTS,
        model_dir="/home/u/models",
        search_dirs=["/x", "/disk/models"],
        **arguments,
    )
    first, _, rest = text.partition("\n[")
    assert "version = 1" in first
    # llama-server starts a comment at these anywhere in a line.
    assert not any(mark in line for mark in ";#" for line in rest.splitlines())
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string("[" + rest)
    return parser


@pytest.mark.parametrize(("active", "other"), [("big", "small"), ("small", "big")])
def test_every_placed_profile_has_one_section_and_the_active_one_is_loaded_at_start(active: str, other: str) -> None:
    parser = rendered(active)
    assert parser.sections() == ["big", "small"]
    # Old clients and people who use the API ask for the active profile by this name.
    assert parser[active]["alias"] == "claude-local" and "alias" not in parser[other]


def test_paths_are_the_containers() -> None:
    parser = rendered()
    assert parser["big"]["model"] == "/models-extra/1/sub/big.gguf"
    assert parser["big"]["mmproj"] == "/models/mmproj.gguf"
    assert parser["big"]["chat-template-file"] == "/etc/claude-local/chat-templates/t.jinja"
    assert parser["small"]["model"] == "/models/small.gguf"


def test_prompts_are_kept_for_one_model_one_image_and_one_set_of_flags() -> None:
    def prefix(**arguments: object) -> str:
        return rendered(**{"image": "a:1", "prompts_mib": 10, **arguments})["small"]["cache-disk"]

    assert prefix() == prefix(active="small") and prefix().startswith("/var/lib/claude-local/prompts/small-")
    assert len({prefix(), prefix(image="a:2"), prefix(cache_ram_mib=7)}) == 3
    assert "cache-disk" not in rendered(image="a:1")["small"]


def test_the_profiles_flags_override_our_defaults() -> None:
    parser = rendered()
    assert parser["small"]["parallel"] == "1"
    assert parser["big"]["parallel"] == "2"
    assert parser["big"]["warmup"] == "false"
    assert parser["big"]["load-mode"] == "none"
    assert parser["big"]["temperature"] == "0.7"
    assert parser["big"]["context-shift"] == "false"


def test_flags_that_place_tensors_are_for_gpu_images_only() -> None:
    by_hand = profiles.parse("[x]\nMODEL = x.gguf\nEXTRA_ARGS = --split-mode none --main-gpu 0 -ot exps=CUDA0 -ub 512")[
        "x"
    ]
    # Without GPUs llama-server refuses them at start: "Available buffer types: CPU".
    on_cpu = presets.options(by_hand, model="/m", mmproj=None)
    assert not {"override-tensor", "split-mode", "main-gpu"} & set(on_cpu) and on_cpu["ubatch-size"] == "512"
    assert presets.options(by_hand, model="/m", mmproj=None, variant="cuda")["override-tensor"] == "exps=CUDA0"


def test_gpu_flags_are_for_gpu_images_only() -> None:
    assert not {"n-gpu-layers", "fit", "fit-target"} & set(rendered()["big"])
    gpu = rendered(variant="cuda")["big"]
    assert (gpu["n-gpu-layers"], gpu["fit"], gpu["fit-target"]) == ("99", "on", "128,1024")


def test_the_prompt_cache_can_be_limited() -> None:
    assert "cache-ram" not in rendered()["small"]
    assert rendered(cache_ram_mib=512)["small"]["cache-ram"] == "512"


def test_a_model_leaves_the_memory_after_half_an_hour_on_a_gpu_and_stays_on_a_cpu() -> None:
    assert [presets.idle_minutes("auto", variant) for variant in ("cpu", "cuda", "vulkan")] == [0, 30, 30]
    assert (presets.idle_minutes(5, "cpu"), presets.idle_minutes(0, "cuda")) == (5, 0)
    assert "sleep-idle-seconds" not in rendered()["small"]
    assert rendered(idle_minutes=30)["small"]["sleep-idle-seconds"] == "1800"


def test_every_rendered_option_is_a_flag_of_the_pinned_build() -> None:
    known = set(flags.load().by_spelling) | {"load-on-startup"}
    for section in rendered(variant="cuda", cache_ram_mib=1, idle_minutes=1).values():
        assert set(section) <= known


def test_a_profile_that_is_not_placed_cannot_be_active() -> None:
    with pytest.raises(presets.PresetsError, match=r"absent.*tasks/models.py"):
        rendered("absent")


def test_a_file_outside_the_mounted_directories_is_refused() -> None:
    assert presets.container_path("/a/b/m.gguf", "/a", ["/a/b"]) == "/models-extra/0/m.gguf"
    assert presets.container_path("/a/bc/m.gguf", "/a", ["/a/b"]) == "/models/bc/m.gguf"
    with pytest.raises(presets.PresetsError, match="model_search_dirs"):
        presets.container_path("/elsewhere/m.gguf", "/a", ["/a/b"])
