"""The flags of the pinned llama-server build."""

from claude_local.server import flags as llama_flags

HELP = """----- common params -----

-h,    --help, --usage                  print usage and exit
-c,    --ctx-size N                     size of the prompt context (default: 0, 0 = loaded from model)
                                        (env: LLAMA_ARG_CTX_SIZE)
-fa,   --flash-attn [on|off|auto]       set Flash Attention use ('on', 'off', or 'auto', default: 'auto')
-kvo,  --kv-offload, -nkvo, --no-kv-offload
                                        whether to enable KV cache offloading (default: enabled)
--no-host                               bypass host buffer allowing extra buffers to be used
-lm,   --load-mode MODE                 model loading mode (default: auto)
                                        - auto: mmap, unless a device does not support it
                                        - none: no special loading mode
                                        - mmap+mlock: mmap + force system to keep model in RAM rather than
                                        swapping or compressing
-ctk,  --cache-type-k TYPE              KV cache data type for K
                                        allowed values: f32, f16, q8_0
                                        (default: f16)
-dev,  --device <dev1,dev2,..>          comma-separated list of devices to use for offloading
--control-vector-layer-range START END
                                        layer range to apply the control vector(s) to, start and end inclusive
--draft, --draft-n, --draft-max N       the argument has been removed. use --spec-draft-n-max or
                                        --spec-ngram-mod-n-max
--fim-qwen-1.5b-default                 use default Qwen 2.5 Coder 1.5B (note: can download weights from the
                                        internet)
"""


def test_every_form_of_flag_in_help_is_parsed() -> None:
    flags = llama_flags.parse_help(HELP)
    assert flags == {
        "usage": {"spellings": ["h", "help", "usage"]},
        "ctx-size": {"spellings": ["c", "ctx-size"], "value": "N"},
        "flash-attn": {"spellings": ["fa", "flash-attn"], "value": "[on|off|auto]", "choices": ["on", "off", "auto"]},
        "kv-offload": {"spellings": ["kvo", "kv-offload"], "negated": ["nkvo", "no-kv-offload"]},
        "no-host": {"spellings": ["no-host"]},
        "load-mode": {"spellings": ["lm", "load-mode"], "value": "MODE", "choices": ["auto", "none", "mmap+mlock"]},
        "cache-type-k": {"spellings": ["ctk", "cache-type-k"], "value": "TYPE", "choices": ["f32", "f16", "q8_0"]},
        "device": {"spellings": ["dev", "device"], "value": "<dev1,dev2,..>"},
        "control-vector-layer-range": {
            "spellings": ["control-vector-layer-range"],
            "value": "START END",
            "two_values": True,
        },
        "fim-qwen-1.5b-default": {"spellings": ["fim-qwen-1.5b-default"]},
    }


def test_removed_and_reserved_flags_agree_with_the_builds_flags() -> None:
    flags = llama_flags.load()
    assert len(set(flags.by_spelling.values())) > 200
    assert not set(flags.removed) & set(flags.by_spelling)
    # Three options exist only in presets. Every other reserved spelling must be a flag of the build.
    assert set(flags.reserved) - set(flags.by_spelling) == {"load-on-startup", "stop-timeout", "dedup-cache-models"}


def test_flags_that_would_open_the_server_are_reserved() -> None:
    reserved = llama_flags.load().reserved
    for name in ("tools", "agent", "mcp-servers-json", "ui-mcp-proxy", "rpc", "host", "api-key", "slot-save-path"):
        assert name in reserved
