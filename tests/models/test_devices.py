"""Profiles that say which GPU holds what, on machines that have those GPUs and on others."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_local.hardware.machine import Gpu
from claude_local.models import choice, devices, profiles
from claude_local.models.capacity import Machine
from claude_local.models.fit import GIB
from claude_local.models.profile import Profile
from claude_local.server import presets

NVIDIA = Gpu("nvidia", "RTX 4090", 24564, driver="580.1", display=False)
SCREEN = replace(NVIDIA, name="RTX 5070 Ti", memory_mib=16303, display=True)
AMD = Gpu("amd", "RX 7900 XTX", 24560, driver="amdgpu", display=True)
ARC = Gpu("intel", "Arc A770", driver="xe")

# As nerdpudding/llama_cpp places a model on a 24 and a 16 GB card.
HAND = r"""[hand]
MODEL = a.gguf
ABOUT_SIZE = 12 GB
ARCHITECTURE = gpt-oss-20b
CTX_SIZE = 65536
N_GPU_LAYERS = 99
FIT = off
EXTRA_ARGS = --jinja -b 2048 -ub 1024 -ot blk\.([0-9]|1[0-4])\.=CUDA0,blk\.(1[5-9])\.=CUDA1,exps=CPU --temp 1.0
"""


def hand(**flags: str) -> Profile:
    lines = "".join(f"{key.replace('_', '-')} = {value}\n" for key, value in flags.items())
    return profiles.parse("[x]\nMODEL = a.gguf\n" + lines)["x"]


def served(text: str, *gpus: Gpu, requested: str = "hand") -> tuple[dict[str, str], choice.Selection]:
    """The preset of the profile on a machine with these GPUs."""
    machine = Machine(gpus, 64 * GIB, 900 * GIB, {})
    selected = choice.select(requested, [], profiles.parse(text), machine)
    variant = "cpu" if not gpus else "cuda" if gpus[0].vendor == "nvidia" else "vulkan"
    return presets.options(selected.profiles["hand"], model="/m", mmproj=None, variant=variant), selected


def test_on_its_own_machine_a_placement_by_hand_stays_unchanged() -> None:
    preset, selected = served(HAND, NVIDIA, SCREEN)
    assert preset["override-tensor"] == r"blk\.([0-9]|1[0-4])\.=CUDA0,blk\.(1[5-9])\.=CUDA1,exps=CPU"
    assert (preset["n-gpu-layers"], preset["fit"], preset["ctx-size"]) == ("99", "off", "65536")
    assert "fit-target" not in preset and selected.choice.notes == ()


@pytest.mark.parametrize(
    ("gpus", "computer", "names", "margins"),
    [
        ((NVIDIA,), "CUDA0", "CUDA1", "128"),
        ((AMD,), "Vulkan0", "CUDA0, CUDA1", "192"),
        ((AMD, ARC), "Vulkan0, Vulkan1", "CUDA0, CUDA1", "192,192"),
    ],
)
def test_on_another_machine_it_is_left_out_as_a_whole_and_the_run_says_so(
    gpus: tuple[Gpu, ...], computer: str, names: str, margins: str
) -> None:
    preset, selected = served(HAND, *gpus)
    assert "override-tensor" not in preset
    assert (preset["n-gpu-layers"], preset["fit"], preset["fit-target"]) == ("auto", "on", margins)
    # What says nothing of a GPU stays.
    assert (preset["ubatch-size"], preset["batch-size"], preset["temperature"]) == ("1024", "2048", "1.0")
    assert selected.choice.lines()[-1] == (
        f"hand: --override-tensor names {names}, but this machine has {computer}: its placement by hand is left out, "
        "--fit on places it"
    )
    assert "fits wholly on" in selected.choice.reason


def test_without_a_gpu_it_is_left_out() -> None:
    preset, selected = served(HAND.replace("-ub 1024", "-ub 1024 --cpu-moe --device-draft CUDA0"))
    assert not devices.PLACEMENT & set(preset) and "n-gpu-layers" not in preset
    assert selected.choice.notes == ()


def test_the_run_mentions_only_placed_profiles() -> None:
    text = HAND + "[other]\nMODEL = b.gguf\nABOUT_SIZE = 12 GB\nARCHITECTURE = gpt-oss-20b\n"
    _, selected = served(text, NVIDIA, requested="other")
    assert selected.choice.notes == () and selected.profiles["hand"].fit == "on"


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({"device": "CUDA0,CUDA2"}, "--device names CUDA2"),
        ({"device": "Vulkan0"}, "--device names Vulkan0"),
        ({"device_draft": "CUDA7"}, "--device-draft names CUDA7"),
        ({"override_tensor_draft": "exps=CUDA2"}, "--override-tensor-draft names CUDA2"),
        ({"override_tensor": "a=CUDA2,b=CUDA2,c=cpu"}, "--override-tensor names CUDA2, cpu"),
        ({"split_mode": "none", "main_gpu": "2"}, "--main-gpu is 2"),
        ({"split_mode": "none", "main_gpu": "1", "device": "CUDA1"}, "--main-gpu is 1"),
        ({"tensor_split": "3,1,1"}, "--tensor-split is for 3 GPUs"),
    ],
)
def test_flags_for_other_gpus_are_named(flags: dict[str, str], says: str) -> None:
    profile, notes = devices.without_foreign_placement(hand(**flags), [NVIDIA, SCREEN])
    assert len(notes) == 1 and f"x: {says}, but this machine has CUDA0, CUDA1" in notes[0]
    assert profile.options == {}


@pytest.mark.parametrize(
    "flags",
    [
        {"device": "CUDA1,CUDA0"},
        {"device": "none"},
        {"override_tensor": "exps=CPU,blk=CUDA1"},
        {"split_mode": "none", "main_gpu": "1"},
        {"main_gpu": "5"},  # without --split-mode none it is not looked at
        {"tensor_split": "3,1"},
        {"n_cpu_moe": "20"},
    ],
)
def test_flags_for_the_gpus_that_are_there_stay(flags: dict[str, str]) -> None:
    profile = hand(**flags)
    assert devices.without_foreign_placement(profile, [NVIDIA, SCREEN]) == (profile, [])


def test_margins_for_other_gpus_give_way_to_ours() -> None:
    profile = replace(hand(), fit_target="128,1024")
    assert devices.without_foreign_placement(profile, [NVIDIA, SCREEN])[0].fit_target == "128,1024"
    alone, notes = devices.without_foreign_placement(profile, [SCREEN])
    assert alone.fit_target is None and "its FIT_TARGET is for 2 GPUs" in notes[0]
    one, notes = devices.without_foreign_placement(
        replace(hand(device="CUDA1"), fit_target="128,1024"), [NVIDIA, SCREEN]
    )
    assert one.fit_target is None and one.options == {"device": "CUDA1"}
    assert devices.without_foreign_placement(replace(profile, fit_target="1024"), [SCREEN])[1] == []


cards = st.lists(st.sampled_from([NVIDIA, SCREEN]), min_size=1, max_size=3) | st.lists(
    st.sampled_from([AMD, ARC]), min_size=1, max_size=3
)
names = st.sampled_from(["CUDA0", "CUDA1", "CUDA2", "Vulkan0", "Vulkan1", "CPU", "none", "x"])
flags = st.fixed_dictionaries(
    {},
    optional={
        "device": st.lists(names, min_size=1, max_size=3).map(",".join),
        "override_tensor": st.lists(names, min_size=1, max_size=3).map(lambda found: ",".join(f"a={n}" for n in found)),
        "split_mode": st.sampled_from(["none", "layer", "row"]),
        "main_gpu": st.integers(-1, 3).map(str) | st.just("1e400"),
        "tensor_split": st.lists(st.integers(0, 9).map(str), min_size=1, max_size=4).map(",".join),
    },
)


@given(flags, cards)
def test_a_served_profile_names_only_existing_gpus(chosen: dict[str, str], gpus: list[Gpu]) -> None:
    profile, _ = devices.without_foreign_placement(hand(**chosen), gpus)
    assert devices.foreign_flags(profile, gpus) == []
    assert set(devices.used_gpus(profile, gpus)) <= set(gpus)
    assert devices.without_foreign_placement(profile, gpus) == (profile, [])
