#!/usr/bin/env python3
"""Test what this project assumes about an NVIDIA GPU, on a machine that has one. Prints a table, and writes it as JSON.

The machine needs nvcc, CMake, Ninja and Python 3.10 with requests, and no network. A folder brings everything else:

    python benchmarks/gpu_proof.py FOLDER --pack ~/.cache/claude-local/image --tokenizer ANY.gguf     # here, 24 MB
    python benchmarks/gpu_proof.py FOLDER                                                             # there

It compiles llama.cpp for that GPU with the planned options. For each shape it writes a model with random weights and
measures: the load; memory, next to our estimate; prefill and decode, next to llama-bench; the first answer cold, and
warm after a restart of the server; ten switches between two profiles. Then it checks the tool calls of every shipped
chat template.

FOLDER/results.json is written after each shape. A second run continues with the shapes that are missing there, so a
time limit costs one shape at most. ``--cpu`` does the same without a GPU, with six layers a shape unless ``--layers``
is given; it tests the script, and its figures mean little. ``--bin`` uses programs that are already compiled.
"""

from __future__ import annotations

import argparse
import configparser
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import random_model  # noqa: E402
from claude_local.bench.measure import ANSWER, QUESTION, SIZES, Bench  # noqa: E402
from claude_local.cli.hardware import probe_hardware  # noqa: E402
from claude_local.hardware.variant import choose  # noqa: E402
from claude_local.image import cmake  # noqa: E402
from claude_local.image.builds import BUILDS  # noqa: E402
from claude_local.models import gguf  # noqa: E402
from claude_local.models.architecture import from_header, shipped  # noqa: E402
from claude_local.models.memory import GPU_CONTEXT_MIB, MIB, Estimate, Serving, estimate  # noqa: E402
from claude_local.server import wait  # noqa: E402
from tests.chat.cases import CASES, script, wrong  # noqa: E402
from tests.chat.families import FAMILIES  # noqa: E402
from tests.chat.router import MODEL, OTHER, Router  # noqa: E402
from tests.chat.server import LlamaServer  # noqa: E402
from tests.chat.tiny_model import marker, tiny_model  # noqa: E402

# The second profile of the switches.
SECOND = "Qwen3.5-4B"
SWITCHES = 10
CONTEXT = 32768
# Seconds that a load may take.
PATIENCE = 600.0
MAIN_MEMORY = "main memory"
# What of the tokenizer's file random_model reads.
TOKENIZER_BYTES = 16 << 20
BUFFER = re.compile(r"(?P<device>\S+) +(?P<part>model|KV|RS|compute|output) buffer size = +(?P<mib>[\d.]+) MiB")


def shapes() -> dict[str, str]:
    """The shapes of the shipped profiles with their chat templates, smallest first. models.conf is read without its
    schema, for which a machine without a network may lack the library."""
    ini = configparser.RawConfigParser()
    ini.read(ROOT / "models.conf")
    found = {section["ARCHITECTURE"]: section["CHAT_TEMPLATE"] for name, section in ini.items() if name != "DEFAULT"}
    return dict(sorted(found.items(), key=lambda pair: shipped()[pair[0]].parameters))


def pack(folder: Path, context: Path, tokenizer: Path) -> None:
    """Put the patched sources of llama.cpp and the tokenizer into ``folder``. ``context``: the image's build folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        tree = Path(scratch) / "llama.cpp"
        shutil.copytree(context / "llama.cpp", tree, symlinks=True)
        patch = ["patch", "--silent", f"--directory={tree}", "--strip=1", f"--input={context / 'llama.patch'}"]
        subprocess.run(patch, check=True)
        with tarfile.open(folder / "llama.cpp.tar.xz", "w:xz") as tar:
            tar.add(tree, "llama.cpp")
    with tokenizer.open("rb") as file:
        (folder / "tokenizer.gguf").write_bytes(file.read(TOKENIZER_BYTES))


def build(folder: Path, cpu: bool) -> tuple[Path, str]:
    """Compile llama-server and llama-bench, unless that is done. Their folder, and how it went ("" if it was done)."""
    binaries = folder / "build" / "bin"
    if (binaries / "llama-server").exists() and (binaries / "llama-bench").exists():
        return binaries, ""
    machine, llama = probe_hardware(), BUILDS[max(BUILDS)]
    variant = choose(machine, "cpu" if cpu else "cuda")
    options = cmake.options(variant.variant, "native", os.uname().machine, machine.cpu_flags, variant.cuda)
    began = time.monotonic()
    with tarfile.open(folder / "llama.cpp.tar.xz") as tar:
        tar.extractall(folder)
    # fmt: off
    subprocess.run(
        ["cmake", "-S", folder / "llama.cpp", "-B", folder / "build", "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release",
         "-DCMAKE_BUILD_RPATH_USE_ORIGIN=ON", f"-DLLAMA_BUILD_NUMBER={llama.number}",
         f"-DLLAMA_BUILD_COMMIT={llama.name}", "-DLLAMA_BUILD_TESTS=OFF", "-DLLAMA_BUILD_EXAMPLES=OFF",
         "-DLLAMA_BUILD_APP=OFF", "-DLLAMA_BUILD_UI=OFF", "-DLLAMA_USE_PREBUILT_UI=OFF", *options],
        check=True,
    )
    # fmt: on
    subprocess.run(
        ["cmake", "--build", folder / "build", "--target", "llama-server", "llama-bench", "--parallel"], check=True
    )
    took = time.monotonic() - began
    compiler = "g++ --version" if cpu else "nvcc --version"
    version = subprocess.run(compiler.split(), capture_output=True, text=True, check=True).stdout.split()
    return binaries, f"compiled in {took:.0f} s ({version[2 if cpu else -1]}), {' '.join(options)}"


def expected(model: Path, size: int) -> Estimate:
    """What the rule of choice expects of a model with ``size`` bytes of weights (claude_local/models/fit.py)."""
    with model.open("rb") as file:
        header = gguf.read(file)
    architecture = from_header(header)
    return estimate(architecture, size, Serving(CONTEXT), embedding=0 if architecture.tied else header.embedding_bytes)


def gpu_mib() -> int:
    """MiB in use on all NVIDIA GPUs; 0 without one."""
    if not shutil.which("nvidia-smi"):
        return 0
    argv = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    return sum(map(int, subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()))


def buffers(log: str) -> dict[str, dict[str, float]]:
    """Device -> part -> MiB, from the log of one load. Everything outside the GPUs counts as main memory, except the
    repacked copy that a processor makes of the weights."""
    found: dict[str, dict[str, float]] = {}
    for match in BUFFER.finditer(log):
        device = match["device"] if re.fullmatch(r"CUDA\d+", match["device"]) else MAIN_MEMORY
        if match["device"] == "CPU_REPACK":
            continue
        parts = found.setdefault(device, {})
        parts[match["part"]] = parts.get(match["part"], 0.0) + float(match["mib"])
    return found


def bench(binaries: Path, model: Path, sizes: list[int], threads: int) -> dict[int, tuple[float, float]]:
    """Prompt's tokens -> llama-bench's tokens a second: prefill of that many, decode behind that many."""
    listed = ",".join(map(str, sizes))
    rates = []
    for asked in (["-p", listed, "-n", "0"], ["-p", "0", "-n", str(ANSWER), "-d", listed]):
        argv = [str(binaries / "llama-bench"), "-m", str(model), "-t", str(threads), "-r", "3", "-o", "json", *asked]
        rows = json.loads(subprocess.run(argv, stdout=subprocess.PIPE, check=True).stdout)
        rates.append({row["n_prompt"] or row["n_depth"]: row["avg_ts"] for row in rows})
    return {size: (rates[0][size], rates[1][size]) for size in sizes}


def quiet(text: str) -> None:
    """Show nothing: for waits that report what they wait for."""


def switches(router: Router) -> dict[str, Any]:
    """Ten switches: seconds until the other profile has answered, and the growth of the GPU memory in use from the
    first pair of switches to the last, MiB."""
    seconds, used = [], []
    for number in range(SWITCHES):
        name = (OTHER, MODEL)[number % 2]
        began = time.monotonic()
        wait.load(router.client, name, PATIENCE, quiet)
        body = {"model": name, "prompt": [1000, 2000, 3000], "n_predict": 4, "ignore_eos": True}
        router.client.json("POST", "/completion", body, timeout=PATIENCE)
        seconds.append(time.monotonic() - began)
        used.append(gpu_mib())
    return {"median_s": statistics.median(seconds), "longest_s": max(seconds), "left_mib": used[-1] - used[1]}


def measure(folder: Path, binaries: Path, shape: str, second: Path, options: argparse.Namespace) -> dict[str, Any]:
    """One row of the results. The model's file is removed."""
    place = folder / shape
    shutil.rmtree(place, ignore_errors=True)
    (place / "prompts").mkdir(parents=True)
    model = place / "model.gguf"
    sizes = [each for each in SIZES if each <= options.up_to]
    flags = {
        "ctx-size": str(CONTEXT), "threads": str(options.threads), "log-verbosity": "4",
        "cache-disk": f"{place}/prompts/key", "cache-disk-limit": "8192",
    }  # fmt: skip
    template = ROOT / "files/chat-templates" / shapes()[shape]
    try:
        size = random_model.write(model, shape, folder / "tokenizer.gguf", options.layers)
        ours = expected(model, size)
        rates = bench(binaries, model, sizes, options.threads)
        before = gpu_mib()
        with Router(binaries / "llama-server", model, place, template, flags, second) as router:
            load = wait.load(router.client, MODEL, PATIENCE, quiet)
            used, log = gpu_mib() - before, router.log.read_text()
            proof = Bench(router.client, MODEL)
            proof.request(64, 4, reuse=False)
            speeds = [proof.speed(each) for each in sizes]
            cold = proof.request(options.prompt, 2, reuse=False)
            router.restart()
            wait.load(router.client, MODEL, PATIENCE, quiet)
            warm = proof.request(options.prompt + QUESTION, 2, reuse=True)
            switched = switches(router)
    finally:
        model.unlink(missing_ok=True)
    return {
        "shape": shape, "layers": options.layers, "bytes": size, "load_s": load,
        "estimate_mib": {**ours.mib(), "on_gpu": (ours.on_gpu + ours.compute) // MIB},
        "buffers_mib": buffers(log), "nvidia_smi_mib": used,
        "speeds": [
            speed | dict(zip(("bench_prefill", "bench_decode"), rates[speed["tokens"]], strict=True))
            for speed in speeds
        ],
        "prompt": options.prompt, "cold_s": cold.seconds, "warm_s": warm.seconds, "warm_cached": warm.cached,
        "switches": switched,
    }  # fmt: skip


def templates(folder: Path, binaries: Path) -> dict[str, list[str]]:
    """Shipped template -> what is wrong with the turns of tests/chat/cases.py. The model plays them (tiny_model)."""
    types = {str: "string", int: "integer", bool: "boolean", list: "array"}
    tools: dict[str, dict[str, Any]] = {}
    for name, given in (call for case in CASES for call in case.calls):
        properties = {key: {"type": types[type(value)]} for key, value in given.items()}
        schema = tools.setdefault(name, {"type": "object", "properties": {}})
        schema["properties"] |= properties
    body = {"tools": [{"name": name, "description": name, "input_schema": schema} for name, schema in tools.items()]}
    found = {}
    for known in FAMILIES:
        model = folder / "tiny.gguf"
        scripts = [script(case, known.write, known.parallel) for case in CASES]
        model.write_bytes(tiny_model(scripts, str(body)))
        template = ROOT / "files/chat-templates" / known.own
        with LlamaServer(binaries / "llama-server", model, folder / f"{known.own}.log", template) as server:
            asked = (body | {"messages": [{"role": "user", "content": marker(n)}]} for n in range(len(CASES)))
            told = [
                wrong(case, server.ask(each), known.thinks, known.parallel)
                for case, each in zip(CASES, asked, strict=True)
            ]
        found[known.own] = [f"{case.name}: {what}" for case, what in zip(CASES, told, strict=True) if what]
    return found


HEADINGS = (
    "shape", "load s", "memory: estimated / llama-server's (MiB)", "nvidia-smi: estimated / read (MiB)",
    "prefill: here / llama-bench (t/s)", "decode: here / llama-bench (t/s)", "first answer: cold / warm (s)",
    "ten switches: median / longest (s)", "memory left behind (MiB)",
)  # fmt: skip


def beside(ours: float, theirs: float) -> str:
    """``105 / 100 (+5.0 %)``"""
    return f"{ours:.4g} / {theirs:.4g}" + (f" ({ours / theirs - 1:+.1%})" if theirs else "")


def cells(row: dict[str, Any]) -> list[str]:
    """The row of one shape, in the order of HEADINGS."""
    on_gpu = [sum(parts.values()) for name, parts in row["buffers_mib"].items() if name != MAIN_MEMORY]
    estimate, switched = row["estimate_mib"], row["switches"]
    total = sum(estimate[part] for part in ("weights", "KV cache", "compute"))
    in_memory = sum(row["buffers_mib"].get(MAIN_MEMORY, {}).values())
    layers = f", {row['layers']} layers" if row["layers"] else ""

    def speed(kind: str) -> str:
        return "; ".join(f"{e['tokens']}: {beside(e[kind], e[f'bench_{kind}'])}" for e in row["speeds"])

    return [
        f"{row['shape']} ({row['bytes'] / 1e9:.1f} GB{layers})", f"{row['load_s']:.1f}",
        beside(estimate["on_gpu"], sum(on_gpu)) if on_gpu else beside(total, in_memory),
        beside(estimate["on_gpu"] + GPU_CONTEXT_MIB, row["nvidia_smi_mib"]) if on_gpu else "no GPU",
        speed("prefill"), speed("decode"),
        f"{row['cold_s']:.2f} / {row['warm_s']:.2f}, {row['warm_cached']} of {row['prompt']} tokens kept",
        f"{switched['median_s']:.2f} / {switched['longest_s']:.2f}",
        str(switched["left_mib"]) if on_gpu else "no GPU",
    ]  # fmt: skip


def table(results: dict[str, Any]) -> str:
    """All results as Markdown."""
    lines = [f"{results['date']}, {results['machine']}; {results['build']}", ""]
    lines += [f"| {' | '.join(HEADINGS)} |", "|---" * len(HEADINGS) + "|"]
    lines += [f"| {' | '.join(cells(row))} |" for row in results["shapes"].values()]
    for name, problems in results["templates"].items():
        lines += ["", f"{name}: {'; '.join(problems) or f'all {len(CASES)} turns right'}"]
    return "\n".join(lines)


def main() -> int:
    """The command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="what travels, and the results")
    parser.add_argument("--pack", type=Path, metavar="CONTEXT", help="fill the folder; the image's build folder")
    parser.add_argument("--tokenizer", type=Path, help="with --pack: a GGUF file to take the tokenizer from")
    parser.add_argument("--cpu", action="store_true", help="without a GPU, few layers")
    parser.add_argument("--bin", type=Path, help="the folder of compiled llama-server and llama-bench")
    parser.add_argument("--shape", action="append", choices=shapes(), help="repeatable; all without it")
    parser.add_argument("--layers", type=int, help="of each shape; all without it, 6 with --cpu")
    parser.add_argument("--up-to", type=int, default=max(SIZES), help="tokens of the longest prompt")
    parser.add_argument("--prompt", type=int, default=4096, help="tokens of the prompt that is kept warm")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    folder = options.folder.resolve()
    if options.pack:
        pack(folder, options.pack, options.tokenizer)
        return 0
    if options.cpu:
        options.layers, options.up_to = options.layers or 6, min(options.up_to, 512)
    kept = folder / "results.json"
    results = json.loads(kept.read_text()) if kept.exists() else {"shapes": {}, "templates": {}, "build": ""}
    binaries, how = (options.bin.resolve(), "given programs") if options.bin else build(folder, options.cpu)
    machine = probe_hardware()
    results["build"] = how or results["build"]
    results["date"] = time.strftime("%Y-%m-%d")
    results["machine"] = ", ".join([*(gpu.name for gpu in machine.gpus), machine.cpu, f"{machine.threads} threads"])
    second = folder / "second.gguf"
    random_model.write(second, SECOND, folder / "tokenizer.gguf", options.layers)
    for shape in options.shape or shapes():
        if shape not in results["shapes"]:
            results["shapes"][shape] = measure(folder, binaries, shape, second, options)
            kept.write_text(json.dumps(results, indent=1))
            print(table(results), flush=True)
    results["templates"] = templates(folder, binaries)
    kept.write_text(json.dumps(results, indent=1))
    second.unlink()
    print(table(results))
    return 1 if any(results["templates"].values()) else 0


if __name__ == "__main__":
    sys.exit(main())
