"""The template that each family of models has, its defects, and our template that replaces it.

The makers' templates are not kept here. They come from ``models/templates`` of the pinned llama.cpp, by their sha256
(tests/chat/official.py).
"""

from __future__ import annotations

from dataclasses import dataclass

from claude_local.models.profile import Profile
from tests.chat import formats
from tests.chat.formats import Writer

# Defects, as tests/chat/conversations.py and test_templates.py report them.
ORDER = "results are not in the order of their calls"
BESIDE = "words beside results stand before them"
THINKING = "thinking of the work in progress lost or misplaced"
EARLY = "a result stands before its call"
LATE = "words that came before a call stand behind it"
# The defects of a template that renders only the first call of a turn with thinking, words and two calls.
ONE_CALL = ("call lost", "model's words lost", EARLY)


@dataclass(frozen=True)
class Family:
    """A family of models with one chat format.

    * ``own``: our template in files/chat-templates
    * ``official``, ``sha256``: the makers' file in llama.cpp's models/templates
    * ``write``, ``official_write``: how the model writes with our template, and with its makers'
    * ``thinks``: whether thinking is part of the format
    * ``parallel``: whether the model can make several calls in one turn
    * ``defects``: conversation -> what the official template does wrong with it, without quoted text
    * ``left``: defects that our template cannot fix
    * ``same_after``: from this text on, our template renders the same as the official one where that is right
    * ``note``: how the official file relates to the model's own template
    """

    own: str
    official: str
    sha256: str
    write: Writer
    official_write: Writer
    thinks: bool
    parallel: bool
    defects: dict[str, set[str]]
    left: frozenset[str] = frozenset()
    same_after: str = ""
    note: str = ""


FAMILIES = (
    Family(
        own="qwen2.5-coder.jinja",
        official="Qwen-Qwen2.5-7B-Instruct.jinja",
        sha256="cd8e9439f0570856fd70470bf8889ebd8b5d1107207f67a5efb46e342330527f",
        write=formats.fenced,
        # The template asks for this form; the small coders write fences anyway (decision 4).
        official_write=formats.hermes,
        thinks=False,
        parallel=True,
        defects={"swapped results": {ORDER}, "words beside results": {BESIDE}},
        note="Qwen2.5-Coder's own differs in two characters of its instructions",
    ),
    Family(
        own="glm-4.7.jinja",
        official="GLM-4.7-Flash.jinja",
        sha256="d63ad536c3c81880043e22ec7fd08db42b4d8fb7c89c7138bc562bfa25281375",
        write=formats.glm,
        official_write=formats.glm,
        thinks=True,
        parallel=True,
        defects={"swapped results": {ORDER}, "words beside results": {BESIDE}},
        same_after="<|user|>",
    ),
    Family(
        own="qwen3-coder.jinja",
        official="Qwen3-Coder.jinja",
        sha256="d287fb2edf144207f868ae1b282755dc19db2a3f1c5b3a3d57e9e5abffa98392",
        write=formats.qwen3_coder,
        official_write=formats.qwen3_coder,
        thinks=False,
        parallel=True,
        defects={"swapped results": {ORDER}, "words beside results": {BESIDE}},
        same_after="<|im_start|>user",
        note="Qwen3-Coder-Next has the same format; its own template is not in llama.cpp's tree",
    ),
    Family(
        own="qwen3.5.jinja",
        official="Qwen3.5-4B.jinja",
        sha256="a4aee8afcf2e0711942cf848899be66016f8d14a889ff9ede07bca099c28f715",
        write=formats.qwen3_5,
        official_write=formats.qwen3_5,
        thinks=True,
        parallel=True,
        defects={
            "system turn": {"refused: System message must be at the beginning."},
            "swapped results": {ORDER},
            "words beside results": {BESIDE, THINKING},
        },
        same_after="<|im_start|>user",
        note="for Qwen3.5, 3.6 and 3.8 alike; those of 3.6 and 3.8 are not in llama.cpp's tree: decision 10",
    ),
    Family(
        own="gemma-4.jinja",
        official="google-gemma-4-31B-it.jinja",
        sha256="85a08664d16d8f3be4416c92427b3ac10df1024ac566cc0b4bc3bab409393f98",
        write=formats.gemma4,
        official_write=formats.gemma4,
        thinks=True,
        parallel=True,
        defects={
            "tools": {LATE},
            "loop": {LATE},
            "system turn": {LATE},
            "every tool": {"parameter's description lost"},
            "swapped results": {LATE, ORDER},
            "words beside results": {LATE, ORDER, BESIDE, THINKING, "result lost", EARLY},
            "picture as result": {LATE},
        },
        same_after="<|turn>user",
        note="the 26B-A4B has the 31B's template",
    ),
    Family(
        own="gpt-oss.jinja",
        official="openai-gpt-oss-120b.jinja",
        sha256="a4c9919cbbd4acdd51ccffe22da049264b1b73e59055fa58811a99efbd7c8146",
        write=formats.harmony,
        official_write=formats.harmony,
        thinks=True,
        parallel=False,
        defects={
            "tools": {*ONE_CALL},
            "loop": {*ONE_CALL},
            "system turn": {*ONE_CALL, "system turn lost", "a system turn stands before the conversation"},
            "every tool": {"parameter lost", "parameter's description lost", "parameter's values lost"},
            "swapped results": {*ONE_CALL, ORDER},
            "words beside results": {*ONE_CALL, BESIDE},
            "picture as result": {*ONE_CALL},
        },
        # llama-server itself drops the words of a turn with thinking and a call, before any template.
        left=frozenset({"model's words lost"}),
        same_after="<|start|>user",
        note="the 20b has the 120b's template",
    ),
)

# Profiles whose model's own template has no defects and is kept: profile -> family. None so far.
UNREPAIRED: dict[str, Family] = {}


def family(profile: Profile) -> Family:
    """The family of a profile of models.conf. Raises LookupError, with what to do, when it has none."""
    for known in FAMILIES:
        if profile.chat_template == known.own:
            return known
    if profile.id in UNREPAIRED:
        return UNREPAIRED[profile.id]
    raise LookupError(
        f"[{profile.id}] has CHAT_TEMPLATE {profile.chat_template!r}, which no family in tests/chat/families.py has: "
        f"choose one of {', '.join(known.own for known in FAMILIES)}, or check the model's template and add a family"
    )
