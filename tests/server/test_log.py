"""llama-server's log: the informative lines, and what to try after a failure."""

import pytest

from claude_local.server.log import advice, last_messages, saving


@pytest.mark.parametrize(
    ("line", "fix"),
    [
        ("error: failed to open /etc/claude-local/api-key: Permission denied", "its key: run ./provision"),
        ("gguf_init_from_file: failed to open GGUF file '/models/x' (No such file or directory)", "tasks/models.py"),
        ("failed to open GGUF file '/models/x' (Permission denied)", "chmod o+r"),
        ("tensor data is not within the file bounds, model is corrupted or incomplete", "cut short"),
        ("option 'no-mmap' not recognized in preset 'x'", "models.conf"),
        ("ggml_backend_cpu_buffer_type_alloc_buffer: unable to allocate 9 bytes", "CTX_SIZE"),
        ("instance name=claude-local exited with status 1", "raise server_memory_mib"),
        ("all is well", "docker logs server"),
    ],
)
def test_a_failure_comes_with_a_fix(line: str, fix: str) -> None:
    assert fix in advice([line], "server")


GPU_MEMORY = "the GPU has too little free memory"


@pytest.mark.parametrize(
    ("lines", "fix"),
    [
        (
            [
                "ggml_backend_cuda_buffer_type_alloc_buffer: allocating 21000.00 MiB on device 0: "
                "cudaMalloc failed: out of memory",
                "alloc_tensor_range: failed to allocate CUDA0 buffer of size 22020096000",
                "llama_model_load: error loading model: unable to allocate CUDA0 buffer",
                "llama_model_load_from_file_impl: failed to load model",
                "instance name=claude-local exited with status 1",
            ],
            GPU_MEMORY,
        ),
        (["llama_model_load: error loading model: unable to allocate CUDA1 buffer"], GPU_MEMORY),
        (["CUDA error: out of memory", "instance name=x exited with status 134"], GPU_MEMORY),
        (
            ["ggml_vulkan: Device memory allocation of size 1073741824 failed.", "vk::Device::allocateMemory: ErrorX"],
            GPU_MEMORY,
        ),
        (["terminate called: vk::Device::allocateMemory: ErrorOutOfDeviceMemory"], GPU_MEMORY),
        (["alloc_tensor_range: failed to allocate CUDA_Host buffer", "failed to load model"], "default_profile"),
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
def test_a_gpus_failure_is_not_mistaken_for_a_lack_of_main_memory(lines: list[str], fix: str) -> None:
    assert fix in advice(lines, "server")


@pytest.mark.parametrize(
    ("last", "saves"),
    [
        (["[7] 9.1 I srv    operator(): exit command received, exiting..."], True),
        (["[7] 9.1 I srv    operator(): exit command received, exiting...", "[7] 9.2 I srv write_file: x"], True),
        (["[7] 9.1 I srv    operator(): exit command received", "[7] 9.3 I srv x: cleaning up before exit..."], False),
        (["[7] 9.1 I srv    operator(): exit command received", "9.9 I srv run: x exited with status 9"], False),
        (["9.0 I srv        unload: stopping model instance name=small"], False),
        ([], False),
    ],
)
def test_a_model_that_must_end_saves_its_conversations_until_it_cleans_up(last: list[str], saves: bool) -> None:
    assert saving(last) is saves


def test_repeated_and_uninformative_lines_are_left_out() -> None:
    log = [
        "0.00.478.561 I srv          load:   /models/x.gguf",
        "[43937] 0.00.010.298 I srv  llama_server: initializing ...",
        "[43937] 0.00.018.150 E failed to open",
        "[43937] 0.00.018.482 E failed to open",
    ]
    assert last_messages(log) == ["I srv  llama_server: initializing ...", "E failed to open"]
    assert last_messages([f"0.1 E {n}" for n in range(50)], count=2) == ["E 48", "E 49"]
