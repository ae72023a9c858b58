"""What benchmarks/gpu_proof.py reads from a log and prints, where there is no GPU to run it on."""

from __future__ import annotations

from benchmarks.gpu_proof import buffers, cells, shapes
from claude_local.models.memory import GPU_CONTEXT_MIB
from claude_local.models.profiles import parse
from tests.integration.machine import ROOT

# llama-server b11434 on a GPU, in the router's log.
LOG = """
[39099] 0.06.246.857 I load_tensors:   CPU_Mapped model buffer size =   166.92 MiB
[39099] 0.06.246.857 I load_tensors:        CUDA0 model buffer size =  1000.00 MiB
[39099] 0.09.267.449 I llama_context:  CUDA_Host  output buffer size =     0.58 MiB
[39099] 0.09.267.657 I llama_kv_cache:      CUDA0 KV buffer size =   64.00 MiB
[39099] 0.09.449.180 I llama_kv_cache:      CUDA0 KV buffer size =    16.00 MiB
[39099] 0.09.453.698 I sched_reserve:      CUDA0 compute buffer size =   120.00 MiB
[39099] 0.09.453.698 I sched_reserve:  CUDA_Host compute buffer size =    68.01 MiB
"""


def test_a_gpus_buffers_are_compared_and_main_memorys_are_not() -> None:
    found = buffers(LOG)
    assert found["CUDA0"] == {"model": 1000.0, "KV": 80.0, "compute": 120.0}
    row = {
        "shape": "gpt-oss-20b", "layers": None, "bytes": 12_000_000_000, "load_s": 4.0,
        "estimate_mib": {"weights": 1150, "KV cache": 80, "compute": 140, "on_gpu": 1260},
        "buffers_mib": found, "nvidia_smi_mib": 1600, "prompt": 4096, "cold_s": 1.0, "warm_s": 0.1, "warm_cached": 3968,
        "speeds": [
            {"tokens": 512, "prefill": 95.0, "decode": 42.0, "bench_prefill": 100.0, "bench_decode": 40.0}
        ],
        "switches": {"median_s": 2.0, "longest_s": 3.0, "left_mib": 7},
    }  # fmt: skip
    shown = cells(row)
    assert shown[2] == "1260 / 1200 (+5.0%)"
    assert shown[3] == f"{1260 + GPU_CONTEXT_MIB} / 1600 ({(1260 + GPU_CONTEXT_MIB) / 1600 - 1:+.1%})"
    assert "(-5.0%)" in shown[4] and "(+5.0%)" in shown[5] and shown[-1] == "7"


def test_every_shipped_profiles_shape_is_measured_with_its_template() -> None:
    profiles = parse((ROOT / "models.conf").read_text()).values()
    assert shapes() == {str(each.architecture): str(each.chat_template) for each in profiles}
