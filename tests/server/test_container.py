"""The container: fenced in on every side, and made anew exactly when something that it runs on changed."""

from dataclasses import replace

import pytest

from claude_local.server.container import Container, advice, cache_ram_mib, memory_limit_mib, owner, telling

CONTAINER = Container(
    name="server",
    image="claude-local/llama-server:tag",
    port=18080,
    uid=1000,
    gid=100,
    memory_mib=4096,
    pids=512,
    model_dir="/data/models",
    search_dirs={0: "/mnt/a", 1: "/mnt/b,c"},
    server_dir="/home/u/server",
)


def after(words: list[str], option: str) -> list[str]:
    return [words[i + 1] for i, word in enumerate(words) if word == option]


def test_the_container_is_fenced() -> None:
    words = CONTAINER.run("docker", {})
    options = words[: words.index(CONTAINER.image)]
    assert after(options, "--publish") == ["127.0.0.1:18080:8080"]
    assert after(options, "--user") == ["1000:100"]
    assert after(options, "--cap-drop") == ["ALL"]
    assert after(options, "--security-opt") == ["no-new-privileges"]
    assert after(options, "--memory") == ["4096m"] and after(options, "--pids-limit") == ["512"]
    assert after(options, "--restart") == ["unless-stopped"]
    assert after(options, "--log-opt") == ["max-size=10m", "max-file=3"]
    assert {"--read-only", "--init", "--detach", "--tmpfs"} <= set(options)
    assert all(mount.endswith(",readonly") for mount in after(options, "--mount"))
    assert not {"--privileged", "--network", "--volume", "-v"} & set(options)
    assert not any("docker.sock" in word for word in words)


def test_the_server_is_offline_keyed_and_without_a_page() -> None:
    words = CONTAINER.run("docker", {})
    server = words[words.index(CONTAINER.image) :]
    assert {"--offline", "--no-ui", "--metrics"} <= set(server)
    assert after(server, "--api-key-file") == ["/etc/claude-local/api-key"]
    assert after(server, "--cors-origins") == ["http://localhost"]
    assert after(server, "--models-max") == ["1"] and after(server, "--port") == ["8080"]


def test_gpus_are_given_to_the_container_and_loosen_nothing_else() -> None:
    gpu = ("--device", "/dev/dri/renderD128", "--group-add", "105")
    words = replace(CONTAINER, gpu=gpu).run("docker", {})
    options = words[: words.index(CONTAINER.image)]
    assert after(options, "--device") == ["/dev/dri/renderD128"] and after(options, "--group-add") == ["105"]
    plain = CONTAINER.run("docker", {})
    assert [word for word in words[4:] if word not in gpu] == plain[4:], "only these words are added"


def test_without_a_gpu_nothing_of_one_is_asked_for() -> None:
    assert not {"--device", "--runtime", "--gpus", "--group-add"} & set(CONTAINER.arguments())


def test_a_search_directory_keeps_its_number_when_another_is_missing() -> None:
    present = CONTAINER.with_directories(["/mnt/b,c"])
    mounts = after(present.arguments(), "--mount")
    assert 'type=bind,"source=/mnt/b,c",target=/models-extra/1,readonly' in mounts
    assert not any("/models-extra/0" in mount for mount in mounts)


@pytest.mark.parametrize(
    "change",
    [
        {"image": "other"},
        {"port": 1},
        {"uid": 1},
        {"memory_mib": 1},
        {"pids": 1},
        {"model_dir": "/other"},
        {"search_dirs": {}},
        {"server_dir": "/other"},
        {"gpu": ("--runtime", "nvidia")},
    ],
)
def test_another_argument_makes_another_container(change: dict[str, object]) -> None:
    assert replace(CONTAINER, **change).config({}) != CONTAINER.config({})  # type: ignore[arg-type]


def test_other_files_make_another_container_and_the_label_carries_the_hash() -> None:
    files = {"presets.ini": "1", "api-key": "2"}
    assert CONTAINER.config(files) == CONTAINER.config(dict(reversed(files.items())))
    assert CONTAINER.config(files) != CONTAINER.config({**files, "api-key": "3"})
    assert after(CONTAINER.run("docker", files), "--label") == [f"claude-local.config={CONTAINER.config(files)}"]


def test_root_never_runs_the_server() -> None:
    assert owner(0, 0) == (10001, 10001)
    assert owner(1000, 100) == (1000, 100)


def test_memory_is_the_setting_or_three_quarters_and_the_prompt_cache_fits_in() -> None:
    assert memory_limit_mib(2000, 64000) == 2000
    assert memory_limit_mib(0, 16000) == 12000
    assert cache_ram_mib(12000) == 3000
    assert cache_ram_mib(100_000) == 8192


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("gguf_init_from_file: failed to open GGUF file '/models/x' (No such file or directory)", "tasks/models.py"),
        ("failed to open GGUF file '/models/x' (Permission denied)", "chmod o+r"),
        ("tensor data is not within the file bounds, model is corrupted or incomplete", "cut short"),
        ("option 'no-mmap' not recognized in preset 'x'", "models.conf"),
        ("ggml_backend_cpu_buffer_type_alloc_buffer: unable to allocate 9 bytes", "CTX_SIZE"),
        ("instance name=claude-local exited with status 1", "want of memory"),
        ("all is well", "docker logs server"),
    ],
)
def test_a_failure_comes_with_what_to_try(line: str, what: str) -> None:
    assert what in advice([line], "server")


VIDEO_MEMORY = "a GPU's own memory is too small"


@pytest.mark.parametrize(
    ("lines", "what"),
    [
        (
            [
                "ggml_backend_cuda_buffer_type_alloc_buffer: allocating 21000.00 MiB on device 0: cudaMalloc failed: out of memory",
                "alloc_tensor_range: failed to allocate CUDA0 buffer of size 22020096000",
                "llama_model_load: error loading model: unable to allocate CUDA0 buffer",
                "llama_model_load_from_file_impl: failed to load model",
                "instance name=claude-local exited with status 1",
            ],
            VIDEO_MEMORY,
        ),
        (["llama_model_load: error loading model: unable to allocate CUDA1 buffer"], VIDEO_MEMORY),
        (["CUDA error: out of memory", "instance name=x exited with status 134"], VIDEO_MEMORY),
        (
            ["ggml_vulkan: Device memory allocation of size 1073741824 failed.", "vk::Device::allocateMemory: ErrorX"],
            VIDEO_MEMORY,
        ),
        (["terminate called: vk::Device::allocateMemory: ErrorOutOfDeviceMemory"], VIDEO_MEMORY),
        (["alloc_tensor_range: failed to allocate CUDA_Host buffer", "failed to load model"], "another profile"),
        (
            [
                "ggml_cuda_compute_forward: SCALE failed",
                "CUDA error: device kernel image is invalid",
                "instance name=claude-local exited with status 134",
            ],
            "the driver is too old",
        ),
        (["CUDA error: no kernel image is available for execution on the device"], "./provision"),
        (["CUDA error: an illegal memory access was encountered", "x exited with status 134"], "llama-local hardware"),
        (["ggml_cuda_init: failed to initialize CUDA: CUDA driver version is insufficient"], "llama-local hardware"),
        (["unable to allocate CPU buffer"], "server_memory_mib"),
    ],
)
def test_a_gpus_failure_is_not_taken_for_want_of_main_memory(lines: list[str], what: str) -> None:
    assert what in advice(lines, "server")


def test_the_log_is_cut_to_what_says_something() -> None:
    log = [
        "0.00.478.561 I srv          load:   /models/x.gguf",
        "[43937] 0.00.010.298 I srv  llama_server: initializing ...",
        "[43937] 0.00.018.150 E failed to open",
        "[43937] 0.00.018.482 E failed to open",
    ]
    assert telling(log) == ["I srv  llama_server: initializing ...", "E failed to open"]
    assert telling([f"0.1 E {n}" for n in range(50)], lines=2) == ["E 48", "E 49"]
