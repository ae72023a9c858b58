"""The chat templates of all shipped profiles, ours and the makers', with requests of the real Claude Code.

The real llama-server renders and parses. "The model" generates scripts (tests/chat/tiny_model.py), because a template
does not need weights.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from claude_local.models import gguf, profiles
from tests.chat import official, recorder
from tests.chat.cases import CASES, script, wrong
from tests.chat.conversations import conversations, losses, marked, pictures
from tests.chat.families import FAMILIES, Family, family
from tests.chat.formats import Writer
from tests.chat.recorder import Session
from tests.chat.server import MEDIA, LlamaServer
from tests.chat.tiny_model import marker, tiny_model, tiny_projector
from tests.integration.machine import SHARE

ROOT = Path(__file__).resolve().parents[2]
OWN = ROOT / "files/chat-templates"
PROFILES = profiles.parse((ROOT / "models.conf").read_text())
each_family = pytest.mark.parametrize("known", FAMILIES, ids=lambda known: known.own.removesuffix(".jinja"))

READ_TOOL = {
    "type": "function",
    "function": {
        "name": "Read",
        "description": "Reads a file.",
        "parameters": {"type": "object", "properties": {"file_path": {"type": "string"}}, "required": ["file_path"]},
    },
}
PICTURE = {
    "type": "image_url",
    "image_url": {"url": "data:image/png;base64," + base64.b64encode(recorder.picture()).decode()},
}


@dataclass
class Findings:
    """The results of one template: losses and prompt of each conversation, and the problem of each case."""

    losses: dict[str, list[str]] = field(default_factory=dict)
    prompts: dict[str, str] = field(default_factory=dict)
    parsing: dict[str, str] = field(default_factory=dict)
    pictures: dict[str, str] = field(default_factory=dict)

    @property
    def defects(self) -> dict[str, set[str]]:
        """``losses`` without quoted text, and without conversations that lost nothing."""
        bare = {name: {re.sub(r": '.*|: \".*", "", line) for line in lines} for name, lines in self.losses.items()}
        return {name: lines for name, lines in bare.items() if lines}


Examine = Callable[[Family, bool], Findings]


@pytest.fixture(scope="session")
def examine(
    sessions: list[Session], llama_server: Path, official_templates: Path, tmp_path_factory: pytest.TempPathFactory
) -> Examine:
    """A function that returns the findings about a family's template, ours (True) or its makers', examining it once."""
    folder = tmp_path_factory.mktemp("templates")
    bodies = conversations(sessions)
    done: dict[tuple[str, bool], Findings] = {}

    def examined(known: Family, ours: bool) -> Findings:
        key = (known.own, ours)
        if key not in done:
            template = OWN / known.own if ours else official_templates / known.official
            write = known.write if ours else known.official_write
            done[key] = served(llama_server, folder, template, known, write, bodies)
        return done[key]

    return examined


def served(
    binary: Path, folder: Path, template: Path, known: Family, write: Writer, bodies: dict[str, dict[str, Any]]
) -> Findings:
    """The findings about a template, with a model whose turns ``write`` writes."""
    model, projector = folder / "model.gguf", folder / "projector.gguf"
    scripts = [script(case, write, known.parallel) for case in CASES]
    model.write_bytes(tiny_model(scripts, str(bodies["every tool"])))
    projector.write_bytes(tiny_projector())
    with LlamaServer(binary, model, folder / f"{template.name}.log", template, projector) as server:
        return findings(server, known, bodies)


def findings(server: LlamaServer, known: Family, bodies: dict[str, dict[str, Any]]) -> Findings:
    """Ask the server each conversation, and each case at the end of the one with every tool."""
    found = Findings()
    for name, body in bodies.items():
        answer = server.ask(marked(body, marker(0)))
        if answer.status != 200:
            reason = re.search(r"Jinja Exception: ([^\"\\]*)", answer.error)
            found.losses[name] = [f"refused: {reason[1] if reason else answer.error}"]
            continue
        found.prompts[name] = server.prompt()
        found.losses[name] = losses(body, found.prompts[name], known.thinks)
        if unlike := wrong(CASES[0], answer, known.thinks, known.parallel):
            found.losses[name].append(f"the answer does not arrive: {unlike}")
        if name == "every tool":
            for number, case in enumerate(CASES):
                answer = server.ask(marked(body, marker(number)))
                found.parsing[case.name] = wrong(case, answer, known.thinks, known.parallel)
    found.pictures = shown_pictures(server)
    return found


def shown_pictures(server: LlamaServer) -> dict[str, str]:
    """The prompt around a picture: in a user's turn between words, and as the result of a call."""
    call = {"id": "c1", "type": "function", "function": {"name": "Read", "arguments": '{"file_path": "x.png"}'}}
    words: list[Any] = [{"type": "text", "text": "BEFORE"}, PICTURE, {"type": "text", "text": "AFTER"}]
    returned: list[dict[str, Any]] = [
        # A template may repeat the first line after the result.
        {"role": "user", "content": "Look.\nBEFORE"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": [PICTURE]},
        {"role": "assistant", "content": "AFTER"},
        {"role": "user", "content": "and now?"},
    ]
    rendered = {
        "in the user's words": server.rendered([{"role": "user", "content": words}], [READ_TOOL]),
        "as a result": server.rendered(returned, [READ_TOOL]),
    }
    # The last BEFORE and AFTER, because a template's own text may contain these words too.
    return {name: prompt[prompt.rfind("BEFORE") : prompt.rfind("AFTER")] for name, prompt in rendered.items()}


@pytest.mark.parametrize("profile", PROFILES.values(), ids=lambda profile: str(profile.id))
def test_every_profile_has_a_template_that_is_checked(profile: profiles.Profile) -> None:
    known = family(profile)
    assert (OWN / known.own).is_file()


def test_every_template_of_ours_is_checked() -> None:
    assert sorted(path.name for path in OWN.glob("*.jinja")) == sorted(known.own for known in FAMILIES)


@pytest.mark.integration
@each_family
def test_the_makers_template_has_the_defects_in_the_table(known: Family, examine: Examine) -> None:
    """If this fails, the makers, llama.cpp or Claude Code changed: update the table and docs/decisions/0010."""
    found = examine(known, False)
    assert found.defects == known.defects


@pytest.mark.integration
@pytest.mark.usefixtures("deployed")
def test_a_placed_models_own_template_has_only_the_defects_in_the_table(
    sessions: list[Session], llama_server: Path, tmp_path: Path
) -> None:
    """The templates above are llama.cpp's copies, some of a related model; these are in the model files."""
    placed = json.loads((SHARE / "state/models.json").read_text())["profiles"]
    templates: dict[str, profiles.Profile] = {}
    for name in placed.keys() & PROFILES.keys():
        with open(placed[name]["model"], "rb") as file:
            templates[gguf.read(file).chat_template or ""] = PROFILES[name]
    assert templates and "" not in templates, "the deploy placed no model"
    for template, profile in templates.items():
        (tmp_path / "own.jinja").write_text(template, encoding="utf-8")
        known = family(profile)
        found = served(
            llama_server, tmp_path, tmp_path / "own.jinja", known, known.official_write, conversations(sessions)
        )
        print(profile.id, hashlib.sha256(template.encode()).hexdigest(), found.defects)
        for conversation, defects in found.defects.items():
            assert defects <= known.defects.get(conversation, set()), (profile.id, conversation)
        assert found.parsing == dict.fromkeys((case.name for case in CASES), "")


@pytest.mark.integration
@each_family
def test_our_template_loses_nothing(known: Family, examine: Examine) -> None:
    found = examine(known, True)
    assert set().union(*found.defects.values()) <= known.left
    assert len(found.prompts) == len(found.losses)


@pytest.mark.integration
@pytest.mark.parametrize("ours", [True, False], ids=["ours", "makers"])
@each_family
def test_the_models_words_and_calls_reach_claude_code_unchanged(known: Family, ours: bool, examine: Examine) -> None:
    found = examine(known, ours)
    assert found.parsing == dict.fromkeys((case.name for case in CASES), "")


@pytest.mark.integration
@pytest.mark.parametrize("ours", [True, False], ids=["ours", "makers"])
@each_family
def test_pictures_are_where_they_were_sent(known: Family, ours: bool, examine: Examine) -> None:
    found = examine(known, ours)
    assert {name: prompt.count(MEDIA) for name, prompt in found.pictures.items()} == {
        "in the user's words": 1,
        "as a result": 1,
    }
    assert "picture" in found.prompts and "picture as result" in found.prompts


@pytest.mark.integration
@pytest.mark.parametrize(
    "known", [f for f in FAMILIES if f.same_after], ids=lambda known: known.own.removesuffix(".jinja")
)
def test_our_template_renders_the_same_as_a_correct_makers_template(known: Family, examine: Examine) -> None:
    """The conversation is equal byte for byte; the description of the tools before it is in our words."""
    ours, makers = (examine(known, own).prompts["one at a time"] for own in (True, False))
    assert ours.partition(known.same_after)[2] == makers.partition(known.same_after)[2] != ""


@pytest.mark.integration
def test_without_a_projector_a_picture_is_refused_by_llama_server(
    sessions: list[Session], llama_server: Path, tmp_path: Path
) -> None:
    """With any template. Claude Code knows these words, and takes the picture out of the conversation."""
    model = tmp_path / "model.gguf"
    model.write_bytes(tiny_model([script(CASES[0], FAMILIES[0].write, True)]))
    with LlamaServer(llama_server, model, tmp_path / "log", OWN / FAMILIES[0].own) as server:
        answer = server.ask(conversations(sessions)["picture"])
    assert answer.status == 400 and "could not process image" in answer.error


@pytest.mark.integration
def test_the_recorded_requests_contain_all_that_is_checked(sessions: list[Session]) -> None:
    bodies = conversations(sessions)
    assert any(message["role"] == "system" for message in bodies["system turn"]["messages"])
    offered = [{tool["name"] for tool in bodies[name]["tools"]} for name in ("tools", "every tool")]
    assert offered[0] - offered[1] <= {"ToolSearch"}
    assert offered[1] >= {"Bash", "Edit", "Read", "ReportFindings", "Write"}
    assert any(block["type"] == "tool_result" for block in bodies["tool search"]["messages"][-1]["content"])
    assert pictures(bodies["picture"]) == pictures(bodies["picture as result"]) == 1
    assert pictures(bodies["tools"]) == 0


def test_only_the_templates_are_unpacked_from_an_archive(tmp_path: Path) -> None:
    archive = tmp_path / "source.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for name in (
            "x/llama.cpp/models/templates/GLM-4.7-Flash.jinja",
            "x/llama.cpp/models/templates/other.jinja",
            "x/y",
        ):
            entry = tarfile.TarInfo(name)
            entry.size = 4
            tar.addfile(entry, io.BytesIO(b"text"))
    folder = official.unpack(archive, tmp_path / "out")
    assert [path.name for path in folder.iterdir()] == ["GLM-4.7-Flash.jinja"]
    # Its content was never checked, and problems() reports that.
    assert len(official.problems(folder)) == len(official.EXPECTED)
