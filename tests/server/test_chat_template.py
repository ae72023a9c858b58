"""The chat template of the small Qwen2.5-Coder models: its prompts, in Python's jinja and in llama-server."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jinja2
import pytest
import requests

from tests.server.example_words import EVERYDAY, TELLING

ROOT = Path(__file__).resolve().parents[2]
SOURCE = (ROOT / "files/chat-templates/qwen2.5-coder.jinja").read_text()

READ = {
    "type": "function",
    "function": {
        "name": "Read",
        "description": "Reads a file.\n\nMore about it. Much more.",
        "parameters": {"type": "object", "properties": {"file_path": {"type": "string"}}, "required": ["file_path"]},
    },
}
GLOB = {"type": "function", "function": {"name": "Glob", "parameters": {"type": "object", "properties": {}}}}

NAMING = [
    "What is in a.txt?",
    "Read notes.md.",
    "Is (src/main.c) the start?",
    "What does `.env` hold?",
    "Which .svg files are there?",
    "List docs/",
    "What is in ~/plans?",
    "And in ./plans?",
    "Who wrote this, according to AUTHORS?",
    "what does the readme say?",
    "What does the Makefile build?",
    "<system-reminder>\nToday is Monday.\n</system-reminder>\nOpen a.txt",
    "<command-name>/compact</command-name>\n<local-command-stdout>Compacted</local-command-stdout>\nOpen a.txt",
    "Open a.txt\n<system-reminder>\nPlan mode is on.\n</system-reminder>",
    "Move src/app.py to lib/",
    "\n\tWhat is in a.txt?\nI wrote it.",
    "What does .gitignore leave out?",
    "Who wrote /srv/data/list?",
]
ABOUT_THE_FILES = [
    "What does this repository do?",
    "Explain this codebase, please.",
    "What are the tests of the project called?",
    "What is in the current directory?",
    "what does this code do",
    "How do I build it here?",
]
NOT_NAMING = [
    # Piped text and pastes come after the first line.
    "Write a commit message\ndiff --git a/area.py b/area.py\n+++ b/area.py\n+this project",
    "Why does this fail?\n\nTraceback:\n  File /srv/app/main.py, line 3",
    "How do I start a project in Rust, and what is a repository?",
    "What does HTTP status code 404 mean, and where does code go?",
    "What is 17 plus 25?",
    "What is 3.5 times 2.0?",
    "What is JSON?",
    "tea and/or coffee, e.g. green tea ... or mate/cacao?",
    "What is the difference between TCP/IP and HTTP/2?",
    "Is https://example.org/a.html an address? And ada@example.org?",
    "What is node.js?",
    "a / b, and a division by 0",
    "<system-reminder>\nRead CLAUDE.md\n</system-reminder>\nHi!",
    "What does list.append do, and os.path.join() or console.log(x)?",
    "Is 2.5kg more than 3.x or 1.5B? At 5 p.m. in the U.S., says the Ph.D., z.B. in ASP.NET or .NET",
    "What do // and <br/> and </div> mean? ...ok.Then tell me",
    "How do I write a Dockerfile, and what is a good README? And what does TODO mean?",
    "so " * 400 + "a.txt",  # probably a pasted text; llama-server needs time to examine each word
    "Summarize it in <summary></summary>.\nDo NOT call any tools. Think of main.py and ./src/",
]


def reminder(words: str) -> str:
    return f"<system-reminder>\n{words}\n</system-reminder>"


def shows_file(name: str, line: str) -> list[str]:
    """What Claude Code sends of a file without a call: after a compaction, and where the user names @FILE."""
    return [
        reminder(f'Called the Read tool with the following input: {{"file_path":"/w/{name}"}}'),
        reminder(f"Result of calling the Read tool:\n1\t{line}"),
    ]


# As recorded from Claude Code 2.1.330 after /compact; in the middle of a turn, all of it stands in the tool's result.
COMPACTED = "This session is being continued from a previous conversation that ran out of context.\nSummary:\nAll read."
AFTER_COMPACTION = [
    *shows_file("a.txt", "first"), *shows_file("b.txt", "second"), reminder("# Environment\nDirectory: /w"),
    *shows_file("c.txt", "third"),
]  # fmt: skip


def call(name: str, arguments: Any, identifier: str = "c1") -> dict[str, Any]:
    return {"id": identifier, "type": "function", "function": {"name": name, "arguments": arguments}}


def result(text: Any, identifier: str = "c1") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": identifier, "content": text}


BASH = {"type": "function", "function": {"name": "Bash", "parameters": {"type": "object", "properties": {}}}}
EDIT = {"type": "function", "function": {"name": "Edit", "parameters": {"type": "object", "properties": {}}}}
HINT = "\n\n(A file is named here: use a tool for it.)"
ABOUT_HINT = "\n\n(This is about the files here: use a tool for it.)"
# Of the words after a result.
RAN = "Only you see this result"
MISSED = "File does not exist. Note: your current working directory is /w. Did you mean a.md?"
UNREAD = "<tool_use_error>File has not been read yet. Read it first before writing to it.</tool_use_error>"
USER = {"role": "user", "content": "What is in a.txt?"}
CALLED = {"role": "assistant", "content": "", "tool_calls": [call("Read", {"file_path": "/w/a.txt"})]}


@pytest.fixture(params=[True, False], ids=["trimmed blocks", "plain blocks"])
def render(request: pytest.FixtureRequest) -> Any:
    """A function that renders messages, with and without jinja's block trimming, in which engines differ."""
    environment = jinja2.Environment(
        trim_blocks=request.param, lstrip_blocks=request.param, undefined=jinja2.StrictUndefined
    )
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    template = environment.from_string(SOURCE)

    def rendered(messages: list[dict[str, Any]], tools: Any = None, add_generation_prompt: bool = True) -> str:
        filled = [{"content": None, "tool_calls": None, **message} for message in messages]
        return template.render(messages=filled, tools=tools, add_generation_prompt=add_generation_prompt)

    return rendered


def turns(prompt: str) -> list[tuple[str, str]]:
    """(role, text) of every finished turn of ``prompt``."""
    return re.findall(r"<\|im_start\|>(\w+)\n(.*?)<\|im_end\|>\n", prompt, re.DOTALL)


def test_a_conversation_without_tools_is_plain_chatml(render: Any) -> None:
    prompt = render([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}])
    assert prompt == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )


def test_the_generation_prompt_is_rendered_on_request_only(render: Any) -> None:
    assert render([USER]).endswith("<|im_start|>assistant\n")
    assert not render([USER], add_generation_prompt=False).endswith("<|im_start|>assistant\n")


def test_tools_are_listed_as_json_with_the_fenced_form_of_a_call(render: Any) -> None:
    role, system = turns(render([USER], tools=[READ, GLOB]))[0]
    assert role == "system"
    listed = re.search(r"<tools>\n(.*)\n</tools>", system, re.DOTALL)
    assert listed and [json.loads(line)["name"] for line in listed[1].splitlines()] == ["Read", "Glob"]
    assert '```json\n{"name": "TOOL", "arguments": {"PARAMETER": "VALUE"}}\n```' in system
    assert "- Read: Reads a file.\n" in system  # the first sentence only
    assert "- Glob: .\n" in system  # a tool without a description is no error


def test_a_past_call_is_rendered_in_the_fenced_form(render: Any) -> None:
    expected = '```json\n{"name": "Read", "arguments": {"file_path": "/w/a.txt"}}\n```'
    assert turns(render([USER, CALLED, result("x")], tools=[READ]))[2] == ("assistant", expected)
    as_text = {**CALLED, "tool_calls": [call("Read", '{"file_path": "/w/a.txt"}')]}
    assert turns(render([USER, as_text, result("x")], tools=[READ]))[2] == ("assistant", expected)


def test_text_before_a_call_comes_before_the_fence(render: Any) -> None:
    said = {**CALLED, "content": [{"type": "text", "text": "Let me look."}]}
    assert turns(render([USER, said, result("x")], tools=[READ]))[2][1].startswith("Let me look.\n```json\n")


def test_parallel_calls_share_one_fence(render: Any) -> None:
    both = {**CALLED, "tool_calls": [call("Read", {"file_path": "a"}), call("Read", {"file_path": "b"}, "c2")]}
    spoken = turns(render([USER, both, result("A"), result("B", "c2")], tools=[READ]))[2][1]
    assert spoken.count("```json") == 1
    calls = json.loads("[" + spoken.removeprefix("```json\n").removesuffix("\n```") + "]")
    assert [each["arguments"]["file_path"] for each in calls] == ["a", "b"]


def test_parallel_results_are_one_user_turn_that_says_the_tool_has_run(render: Any) -> None:
    both = {**CALLED, "tool_calls": [call("Read", {"file_path": "a"}), call("Read", {"file_path": "b"}, "c2")]}
    role, answer = turns(render([USER, both, result("A"), result("B", "c2")], tools=[READ]))[3]
    assert role == "user"
    assert answer.startswith("<tool_response>\nA\n</tool_response>\n<tool_response>\nB\n</tool_response>\n\n")
    assert answer.count(RAN) == 1


def test_only_tool_results_get_the_reminder(render: Any) -> None:
    prompt = render([USER, CALLED, result("x"), {"role": "assistant", "content": "x"}, USER], tools=[READ])
    users = [text for role, text in turns(prompt) if role == "user"]
    assert [RAN in text for text in users] == [False, True, False]
    assert users[0] == users[2] == "What is in a.txt?" + HINT


@pytest.mark.parametrize("words", NAMING)
def test_a_request_that_names_a_file_gets_a_hint(render: Any, words: str) -> None:
    assert turns(render([{"role": "user", "content": words}], tools=[READ]))[1][1] == words + HINT
    assert turns(render([{"role": "user", "content": words}]))[1][1] == words  # there is no tool to use


@pytest.mark.parametrize("words", ABOUT_THE_FILES)
def test_a_question_about_the_repository_gets_a_hint(render: Any, words: str) -> None:
    assert turns(render([{"role": "user", "content": words}], tools=[READ]))[1][1] == words + ABOUT_HINT
    assert turns(render([{"role": "user", "content": words}]))[1][1] == words


@pytest.mark.parametrize("words", NOT_NAMING)
def test_other_requests_get_no_hint(render: Any, words: str) -> None:
    assert turns(render([{"role": "user", "content": words}], tools=[READ]))[1][1] == words


@pytest.mark.parametrize(("text", "advice"), [(MISSED, "There is no such file."), (UNREAD, "The call failed.")])
def test_a_failed_call_may_be_repeated_but_not_forever(render: Any, text: str, advice: str) -> None:
    failed = [CALLED, result(text)]
    gave_up = {"role": "assistant", "content": "There is none."}
    prompt = render([USER, *failed * 4, gave_up, USER, *failed], tools=[READ])
    after = [spoken for role, spoken in turns(prompt) if role == "user"]
    assert [advice in text for text in after] == [False, True, True, False, False, False, True]
    assert [RAN in text for text in after] == [False, False, False, True, True, False, False]


def test_a_success_between_failures_allows_more_tries_but_not_forever(render: Any) -> None:
    prompt = render([USER, *[CALLED, result(MISSED), CALLED, result("1\tx")] * 8], tools=[READ])
    advised = ["There is no such file." in spoken for role, spoken in turns(prompt) if role == "user"]
    assert advised[1::2] == [True] * 6 + [False] * 2
    assert not any(advised[::2])


def test_good_results_beside_a_failed_one_keep_their_reminder(render: Any) -> None:
    both = {**CALLED, "tool_calls": [call("Read", {"file_path": "a"}), call("Read", {"file_path": "b"}, "c2")]}
    shown = turns(render([USER, both, result("1\tgood"), result(MISSED, "c2")], tools=[READ]))[-1][1]
    assert 0 < shown.index(RAN) < shown.index("There is no such file")
    none = turns(render([USER, both, result(MISSED), result(MISSED, "c2")], tools=[READ]))[-1][1]
    assert RAN not in none and none.count("There is no such file") == 1


@pytest.mark.parametrize(("text", "closing"), [("1\tx", RAN), (MISSED, "There is no such file")])
def test_a_reminder_beside_a_result_changes_nothing(render: Any, text: str, closing: str) -> None:
    """For example a hook's words after every call. They do not reset the limit of tries."""
    reminder = {"role": "user", "content": "<system-reminder>\nLinted a.txt.\n</system-reminder>"}
    prompt = render([USER, *[CALLED, result(text), reminder] * 3], tools=[READ])
    after = [spoken for role, spoken in turns(prompt) if role == "user"][1:]
    assert all("Linted a.txt." in spoken for spoken in after)
    assert [closing in spoken for spoken in after] == [True, True, text != MISSED]
    assert HINT not in "".join(after)


def test_words_beside_a_result_are_a_new_request(render: Any) -> None:
    words = {"role": "user", "content": "Stop. What is in b.txt?"}
    shown = turns(render([USER, CALLED, result("1\tx"), words], tools=[READ]))[-1][1]
    assert shown.endswith(words["content"] + HINT) and RAN not in shown


@pytest.mark.parametrize("tools", [[GLOB], [EDIT]], ids=["Glob", "Edit"])
def test_without_read_there_is_no_hint(render: Any, tools: Any) -> None:
    assert turns(render([USER], tools=tools))[1][1] == USER["content"]


def test_glob_is_suggested_only_when_it_is_offered(render: Any) -> None:
    shown = [turns(render([USER, CALLED, result(MISSED)], tools=tools))[-1][1] for tools in ([READ], [READ, GLOB])]
    assert ["Glob to find it" in text for text in shown] == [False, True]


def test_a_file_that_mentions_an_error_is_no_error(render: Any) -> None:
    shown = turns(render([USER, CALLED, result("1\tFile does not exist, it says.")], tools=[READ]))[-1][1]
    assert RAN in shown and "There is no such file" not in shown


def test_a_result_ends_with_what_the_user_asked(render: Any) -> None:
    """After 4,000 tokens of a file, the model answered with an example, or repeated what it was told to do."""
    asked = {"role": "user", "content": reminder("Today is Monday.") + "\nWhat is in a.txt?\nIt is mine."}
    nothing = {"role": "user", "content": reminder("Linted.")}
    done = {"role": "assistant", "content": "x"}
    shown = turns(render([asked, CALLED, result("1\tx"), nothing, CALLED, result("2"), done, USER], tools=[READ]))
    quoted = [text.count('The user asked: "What is in a.txt?"') for _, text in shown]
    assert quoted == [0, 0, 0, 1, 0, 1, 0, 0]
    # A pasted text without an end is not repeated, and a summary by Claude Code is not the user's words.
    for words, part in (("so " * 500, f'"{"so " * 66}so"'), (COMPACTED, "Answer the user's question in")):
        last = turns(render([{"role": "user", "content": words}, CALLED, result("1\tx")], tools=[READ]))[-1][1]
        assert part in last and "so so" not in last.split(part)[1]
    # What stands for a picture must not stand twice.
    picture = {"role": "user", "content": "Which bird is this? <__media__>"}
    last = turns(render([picture, CALLED, result("1\tx")], tools=[READ]))[-1][1]
    assert 'The user asked: "Which bird is this? " ' in last
    examples = turns(render([USER], tools=[READ, GLOB, EDIT]))[1:-1]
    asked_there, after = "", 0
    for role, text in examples:
        if text.startswith("<tool_response>"):
            after += 1
            assert f'The user asked: "{asked_there}" ' in text
        elif role == "user":
            asked_there = text.split("\n")[0]
    assert after == 5


def test_the_next_request_starts_with_what_the_last_one_rendered(render: Any) -> None:
    """Otherwise the server's prompt cache is lost at every step of a tool loop."""
    done: dict[str, Any] = {"role": "assistant", "content": "done"}
    reminder = {"role": "user", "content": "<system-reminder>\nLinted.\n</system-reminder>"}
    failed = [CALLED, result(MISSED), CALLED, result(UNREAD), reminder, CALLED, result(MISSED)]
    conversation: list[dict[str, Any]] = [
        USER,
        CALLED,
        result("x"),
        done,
        USER,
        *failed,
        CALLED,
        result("y"),
        done,
        USER,
    ]
    for end in range(1, len(conversation)):
        shorter = render(conversation[:end], tools=[READ], add_generation_prompt=False)
        if conversation[end]["role"] == "assistant":
            assert render(conversation, tools=[READ]).startswith(shorter)


def test_examples_come_before_the_conversation_when_glob_and_read_are_offered(render: Any) -> None:
    shown = turns(render([USER], tools=[READ, GLOB]))
    assert shown[0][0] == "system" and shown[-1] == ("user", "What is in a.txt?" + HINT)
    examples = shown[1:-1]
    assert [role for role, _ in examples] == ["user", "assistant"] * (len(examples) // 2)
    spoken = [text for role, text in examples if role == "assistant"]
    calls = [json.loads(text.removeprefix("```json\n").removesuffix("\n```")) for text in spoken if "```" in text]
    assert {each["name"] for each in calls} == {"Glob", "Read"}
    # More questions without a call than with one, and the last ones are without: that keeps plain chat free of calls.
    asked = [text for role, text in examples if role == "user" and not text.startswith("<tool_response>")]
    assert len(asked) > 2 * len(calls)
    assert not any("```" in text for _, text in examples[-4:])


def test_a_set_with_bash_has_no_examples_and_one_without_says_that_nothing_can_be_run(render: Any) -> None:
    """Examples are for small models, which get no Bash; without Bash they claimed that a script had been run."""
    with_bash, without = (turns(render([USER], tools=tools)) for tools in ([READ, GLOB, BASH], [READ, GLOB]))
    assert [role for role, _ in with_bash] == ["system", "user"]
    assert ["You cannot run" in shown[0][1] for shown in (with_bash, without)] == [False, True]


def test_every_word_of_the_examples_is_known_to_the_test_of_answers(render: Any) -> None:
    """tests/integration/test_small_models.py asks the real models, and looks for the telling words."""
    reminder = re.compile(r"</tool_response>.*", re.DOTALL)
    shown = [reminder.sub("", text) for _, text in turns(render([USER], tools=[READ, GLOB, EDIT]))[1:-1]]
    words = set(re.findall(r"[\w./*]+", " ".join(shown).replace("\\n", " ").lower()))
    words = {word.rstrip(".") for word in words} - {"", "tool_response", "/tool_response"}
    assert words - EVERYDAY <= TELLING and words >= TELLING - {"**"}


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("What did I ask you before?", False), ("Undo your last change.", False), ("And yet?\nmore", False),
        ("<system-reminder>\nYou said so.\n</system-reminder>\nHello!", True), ("Hello!\nas I said", True),
        ("What is the last line of a.txt?", True), ("What did we do in this project so far?", True),
        ("This session is being continued from a previous conversation that ran out of context.", True),
    ],
)  # fmt: skip
def test_who_asks_what_was_said_before_cannot_be_told_of_the_examples(render: Any, words: str, shown: bool) -> None:
    """Both models told of them. Words that name something to look at need them."""
    first = {"role": "user", "content": words}
    assert (len(turns(render([first], tools=[READ, GLOB]))) > 2) is shown
    # Later words change nothing: the prompt's beginning stays, and with it the server's cache.
    later = [first, {"role": "assistant", "content": "No."}, {"role": "user", "content": "What did I ask before?"}]
    assert (len(turns(render(later, tools=[READ, GLOB]))) > 4) is shown


@pytest.mark.parametrize("in_a_result", [False, True])
def test_files_that_claude_code_shows_again_after_a_compaction_are_named_only(render: Any, in_a_result: bool) -> None:
    """Five of them, up to 5,000 tokens each, fill a small window again. The user's own @c.txt is there in full."""
    first = {"role": "user", "content": COMPACTED}
    if in_a_result:
        messages = [first, CALLED, result("\n\n".join(["1\tzero", *AFTER_COMPACTION]))]
    else:
        parts = [*AFTER_COMPACTION, "<local-command-stdout>Compacted</local-command-stdout>", "What is in a.txt?"]
        messages = [first, {"role": "user", "content": [{"type": "text", "text": part} for part in parts]}]
    last = turns(render(messages, tools=[READ, GLOB]))[-1][1]
    assert "first" not in last and "second" not in last and ("zero" in last) is in_a_result
    assert all(words in last for words in ("/w/a.txt", "/w/b.txt", "Read the file again", "/w/c.txt", "1\tthird"))
    assert last.count("<system-reminder>") == last.count("</system-reminder>") == 7
    # In a new conversation, too, what the user names stands before the environment.
    assert "1\tfirst" in turns(render([{"role": "user", "content": "\n".join(AFTER_COMPACTION)}]))[-1][1]


def test_a_summary_leaves_the_examples_out(render: Any) -> None:
    """Without these words the 1.5B wrote that the user had asked how much 1 plus 1 is."""
    order = {"role": "user", "content": "Respond with TEXT ONLY. Do NOT call any tools.\nSum up a.txt."}
    first = {"role": "user", "content": "What is a tree?\n" + "It has leaves.\n" * 100}
    messages = [first, {"role": "assistant", "content": "A plant."}, order]
    last = turns(render(messages, tools=[READ, GLOB]))[-1][1]
    assert '"What is a tree?"' in last and "leave it out" in last and "leaves" not in last and HINT not in last
    again = turns(render([{"role": "user", "content": COMPACTED}, *messages[1:]], tools=[READ, GLOB]))[-1][1]
    assert '"This session is being continued from ' in again
    assert turns(render(messages, tools=[READ]))[-1][1] == order["content"], "there are no examples"


def test_no_path_of_the_examples_is_absolute(render: Any) -> None:
    """The model copies an example's directory: with /home/ada in an example, it read /home/ada/notes.md."""
    assert not re.search(r'": "/', "".join(text for _, text in turns(render([USER], tools=[READ, GLOB]))[1:-1]))


@pytest.mark.parametrize("tools", [None, [], [READ], [GLOB]], ids=["none", "no tool", "Read alone", "Glob alone"])
def test_tools_that_are_not_offered_have_no_examples(render: Any, tools: Any) -> None:
    assert [role for role, _ in turns(render([USER], tools=tools))] == ["system", "user"]


def test_leading_system_messages_become_the_system_turn(render: Any) -> None:
    prompt = render([{"role": "system", "content": "One."}, {"role": "system", "content": "Two."}, USER])
    assert turns(prompt)[0] == ("system", "One.\n\nTwo.")


def test_a_system_message_in_the_middle_is_folded_into_the_user_turn(render: Any) -> None:
    note = {"role": "system", "content": [{"type": "text", "text": "Skills: none."}]}
    prompt = render([{"role": "system", "content": "Be brief."}, USER, note])
    assert [role for role, _ in turns(prompt)] == ["system", "user"]
    # It comes before the user's words, which stay the last that the model reads.
    assert turns(prompt)[1][1] == "<system-reminder>\nSkills: none.\n</system-reminder>\nWhat is in a.txt?"


def test_the_example_of_an_edit_needs_the_tool_edit(render: Any) -> None:
    """Without the example the model overwrites a file that it has not read."""
    shown = [text for role, text in turns(render([USER], tools=[READ, GLOB, EDIT])) if role == "assistant"]
    named = [json.loads(text.strip("`json\n"))["name"] for text in shown if "```" in text]
    assert named[-2:] == ["Read", "Edit"]
    assert "Edit" not in "".join(text for _, text in turns(render([USER], tools=[READ, GLOB]))[1:])


def test_a_system_message_after_the_last_answer_is_not_lost(render: Any) -> None:
    prompt = render([USER, {"role": "assistant", "content": "x"}, {"role": "system", "content": "Plan mode is on."}])
    assert "Plan mode is on." in turns(prompt)[-1][1]


def test_text_blocks_are_joined_and_images_are_left_out(render: Any) -> None:
    content = [
        {"type": "text", "text": "one"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        {"type": "text", "text": "two"},
    ]
    assert turns(render([{"role": "user", "content": content}]))[1][1] == "one\ntwo"


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [{"role": "system", "content": "only this"}],
        [{"role": "assistant", "content": "first"}],
        [{"role": "user", "content": None}],
        [{"role": "user", "content": []}],
        [{"role": "someone", "content": "hello"}],
        [result("without a call")],
        [USER, USER, CALLED, CALLED],
    ],
)
def test_odd_conversations_render_without_an_error(render: Any, messages: list[dict[str, Any]]) -> None:
    for tools in (None, [], [READ]):
        assert render(messages, tools=tools).endswith("<|im_start|>assistant\n")


@pytest.mark.integration
def test_llama_server_renders_the_same_prompt(render: Any, server_url: str) -> None:
    """llama-server's own engine, through /apply-template, which generates nothing.

    CLAUDE_LOCAL_TEST_SERVER names a llama-server with this template; the default is the deployed one.
    """
    token = Path.home() / ".config/claude-local/token"
    headers = {"Authorization": f"Bearer {token.read_text().strip()}"} if token.is_file() else {}
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]},
        {"role": "system", "content": "Skills: none."},
        {"role": "assistant", "content": "Wait.", "tool_calls": [call("Read", '{"file_path": "é<"}')]},
        result("A"),
        result("B", "c2"),
        *[
            CALLED,
            result(MISSED),
            CALLED,
            result(UNREAD),
            {"role": "user", "content": "<system-reminder>A</system-reminder>"},
        ]
        * 3,
        {"role": "assistant", "content": "There is none."},
        {"role": "user", "content": "Then (docs/a.md), `.env`, the README or 'src/'?"},
        {"role": "assistant", "content": "No."},
        *[
            turn
            for words in [*NAMING, *NOT_NAMING]
            for turn in ({"role": "user", "content": words}, {"role": "assistant", "content": "No."})
        ],
        {"role": "user", "content": [{"type": "text", "text": part} for part in (COMPACTED, *AFTER_COMPACTION)]},
        CALLED,
        result("\n\n".join(AFTER_COMPACTION)),
        {
            "role": "user",
            "content": "<system-reminder>a.py</system-reminder>\nIs .env in ./src? "
            "<system-reminder>b</system-reminder>",
        },
    ]
    answer = requests.post(
        f"{server_url}/apply-template",
        json={"model": "claude-local", "messages": messages, "tools": [READ, GLOB, EDIT]},
        headers=headers,
        timeout=300,
    )
    assert answer.status_code == 200, answer.text
    # Engines order and space JSON differently in the lines of the tools. Everything else must be the same.
    expected = re.sub(r"<tools>.*</tools>", "", render(messages, tools=[READ, GLOB, EDIT]), flags=re.DOTALL)
    assert re.sub(r"<tools>.*</tools>", "", answer.json()["prompt"], flags=re.DOTALL) == expected
