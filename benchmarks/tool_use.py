#!/usr/bin/env python3
"""How often does the local model really use a tool through the real Claude Code? Measured, not argued.

For each of Glob, Read, Write and Edit there are tasks worded as a user would type them, each in a fresh
workspace. A run counts as right only when (a) Claude Code's own event stream shows the tool call and a result
without an error, and (b) the evidence is there: the file on disk, or the word that only the file holds in the answer.
"Chat" is the other side: the tools are offered, none is needed, and none may be called.

The tasks in TUNED may be looked at while a chat template or a flag is being tuned; those in HELD_OUT are only counted,
and are spent once somebody has looked at how they fail: then they move to TUNED and new ones take their place. Nobody
changes the wording of either to make a model look better.

    benchmarks/tool_use.py                                  # through the installed claude-local
    benchmarks/tool_use.py --tool Read --tool Glob --half held-out --runs 3
    benchmarks/tool_use.py --command "claude-local --model qwen2.5-coder-0.5b" --json result.json

The command gets ``-p PROMPT --output-format stream-json --verbose --permission-mode acceptEdits --max-turns N``.
Exit status: 0 when each of Glob, Read and Write (as far as they were run) reaches ``--aim``, else 1; 130 or 143 when
it was stopped by Ctrl-C or SIGTERM, and then nothing that it started still runs.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

CHAT = "Chat"  # in the place of a tool's name: a task that needs no tool
GRACE = 10.0  # seconds that a command which is asked to end gets
JUDGED = ("Glob", "Read", "Write")  # the tools that --aim is about


@dataclass(frozen=True)
class Task:
    """One thing to ask for; ``tool`` is what has to be used for it, CHAT: none.

    ``files`` are put into the workspace before the run. ``answer`` are words that the final answer must contain (case
    does not matter); ``leaves`` maps a path to a regular expression that its text must match after the run, and
    ``spoils`` one that it must not match any more.
    """

    tool: str
    prompt: str
    files: dict[str, str] = field(default_factory=dict)
    answer: tuple[str, ...] = ()
    leaves: dict[str, str] = field(default_factory=dict)
    spoils: dict[str, str] = field(default_factory=dict)


def _named(*paths: str) -> dict[str, str]:
    """Files whose content does not matter."""
    return {path: f"content of {path}\n" for path in paths}


TUNED: tuple[Task, ...] = (
    # --- Read
    Task(
        "Read",
        "Read the file hello.txt and tell me the secret word.",
        {"hello.txt": "The secret word is pelican.\n"},
        ("pelican",),
    ),
    Task(
        "Read",
        "What is the secret word in notes.md?",
        {"notes.md": "# Notes\n\nRemember: the secret word is tangerine.\n", "other.md": "# Nothing here\n"},
        ("tangerine",),
    ),
    Task(
        "Read",
        "Open config.ini and tell me which port the server uses.",
        {"config.ini": "[server]\nhost = 10.1.2.3\nport = 4711\n"},
        ("4711",),
    ),
    Task(
        "Read",
        "Look into todo.txt. What is the first item on the list?",
        {"todo.txt": "1. Feed the axolotl\n2. Water the plants\n"},
        ("axolotl",),
    ),
    Task("Read", "Which version does version.txt say?", {"version.txt": "release 7.31.4\n"}, ("7.31.4",)),
    Task(
        "Read",
        "Please read recipe.md and tell me how many grams of sugar it needs.",
        {"recipe.md": "# Plum cake\n\n- 200 g flour\n- 135 g sugar\n- 3 eggs\n"},
        ("135",),
    ),
    Task(
        "Read",
        "What's the name of the function defined in main.py?",
        {"main.py": 'def greet_walrus(name):\n    return "hello " + name\n'},
        ("greet_walrus",),
    ),
    Task(
        "Read",
        "Show me what is written in letter.txt.",
        {"letter.txt": "Dear Ines,\nthe marzipan arrived on Tuesday.\n"},
        ("marzipan",),
    ),
    Task(
        "Read",
        "In data/people.csv, who lives in Lisbon?",
        {"data/people.csv": "name,city\nOsei,Accra\nQuintana,Lisbon\nLindqvist,Malmo\n"},
        ("quintana",),
    ),
    Task(
        "Read",
        "Check the file src/settings.json: what is the value of theme?",
        {"src/settings.json": '{\n  "theme": "cobalt",\n  "size": 12\n}\n'},
        ("cobalt",),
    ),
    # held out until 2026-11-23
    Task(
        "Read",
        "how many apples are on the list in groceries.txt?",
        {"groceries.txt": "milk: 2\napples: 17\nbread: 1\n"},
        ("17",),
    ),
    Task(
        "Read",
        "Have a look at server.log and tell me what went wrong.",
        {"server.log": "10:02 started\n10:07 ERROR disk quokka is full\n10:07 stopped\n"},
        ("quokka",),
    ),
    Task(
        "Read",
        "Summarize docs/plan.md for me in one sentence.",
        {"docs/plan.md": "# Plan\n\nWe build a lighthouse in Bergen next spring.\n", "main.py": "print(1)\n"},
        ("lighthouse",),
    ),
    Task(
        "Read",
        "What does the script backup.sh copy, and where to?",
        {"backup.sh": "#!/bin/sh\ncp -r /srv/photos /mnt/toucan\n"},
        ("photos", "toucan"),
    ),
    Task(
        "Read",
        "Can you tell me the email address in contact.html?",
        {"contact.html": "<p>Write to <a href='mailto:linnea@example.org'>us</a></p>\n"},
        ("linnea@example.org",),
    ),
    # held out on 2026-11-23
    Task(
        "Read",
        "What does the README say the project is called?",
        {"README.md": "# Project Pangolin\n\nA tool for maps.\n", "main.py": "print(1)\n"},
        ("pangolin",),
    ),
    Task(
        "Read",
        "Please open notes/friday.txt and tell me who is coming.",
        {"notes/friday.txt": "Coming on Friday: Marisol and Bo.\n"},
        ("marisol",),
    ),
    Task(
        "Read", "which license is mentioned in LICENSE?", {"LICENSE": "Released under the Zlib license.\n"}, ("zlib",)
    ),
    Task(
        "Read",
        "What is the last line of story.txt?",
        {"story.txt": "It rained.\nThe fox slept.\nThen came the heron.\n"},
        ("heron",),
    ),
    Task(
        "Read",
        "Read app.py and tell me which port it listens on.",
        {"app.py": "from server import run\n\nrun(port=5123)\n"},
        ("5123",),
    ),
    Task(
        "Read",
        "what's the timeout in settings.toml?",
        {"settings.toml": "[client]\nretries = 3\ntimeout = 47\n"},
        ("47",),
    ),
    Task(
        "Read",
        "Who wrote poem.txt?",
        {"poem.txt": "The Lamp\n\nA light, a light.\n\nby Ottoline Grey\n"},
        ("ottoline",),
    ),
    Task("Read", "What does greet.sh print?", {"greet.sh": "#!/bin/sh\necho 'Ahoy from the pier'\n"}, ("ahoy",)),
    Task(
        "Read",
        "Look at inventory.csv and tell me how many lamps there are.",
        {"inventory.csv": "item,count\nchair,4\nlamp,23\n"},
        ("23",),
    ),
    Task(
        "Read",
        "What is the phone number in contacts/ines.txt?",
        {"contacts/ines.txt": "Ines\nphone: 555-0147\n"},
        ("555-0147",),
    ),
    # held out until 2026-11-23, third lot
    Task(
        "Read",
        "What does the changelog say about version 2.4?",
        {"CHANGELOG.md": "# Changelog\n\n## 2.4\n\n- The kettle whistles in B flat.\n\n## 2.3\n\n- Fixes.\n"},
        ("b flat",),
    ),
    Task(
        "Read",
        "Read wishlist.txt and tell me what is number three.",
        {"wishlist.txt": "1. a bicycle\n2. a drum\n3. an accordion\n4. a tent\n"},
        ("accordion",),
    ),
    Task(
        "Read",
        "Which database does docker-compose.yml use?",
        {"docker-compose.yml": "services:\n  db:\n    image: mariadb:11\n  web:\n    image: nginx\n"},
        ("mariadb",),
    ),
    Task(
        "Read",
        "please check deadline.txt: when do I have to hand in the report?",
        {"deadline.txt": "essay: 3 May\nreport: 19 August\n"},
        ("19", "august"),
    ),
    Task("Read", "Who is the author according to AUTHORS?", {"AUTHORS": "Wilhelmina Tran\n"}, ("tran",)),
    Task(
        "Read",
        "What colour is the background in theme.css?",
        {"theme.css": "body {\n  color: black;\n  background: salmon;\n}\n"},
        ("salmon",),
    ),
    Task(
        "Read",
        "Tell me the name of the dog in story/chapter1.txt.",
        {"story/chapter1.txt": "It was dark. Anna called her cat Miso,\nbut only the dog, Bramble, came.\n"},
        ("bramble",),
    ),
    Task(
        "Read",
        "What is the default value of retries in client.py?",
        {"client.py": "def fetch(url, timeout=10, retries=6):\n    pass\n"},
        ("6",),
    ),
    Task(
        "Read",
        "How much did we spend on paint? See costs.csv.",
        {"costs.csv": "what,euro\nwood,310\npaint,84\nscrews,12\n"},
        ("84",),
    ),
    Task(
        "Read",
        "Open error.txt and explain what it says.",
        {"error.txt": "FATAL: cannot open gazelle.db: permission denied\n"},
        ("gazelle",),
    ),
    # --- Glob
    Task(
        "Glob",
        "Find all files matching *.txt",
        _named("walnut.txt", "lantern.txt", "photo.png"),
        ("walnut.txt", "lantern.txt"),
    ),
    Task(
        "Glob",
        "Which Python files are in this project?",
        _named("falcon.py", "lib/turnip.py", "README.md"),
        ("falcon.py", "turnip.py"),
    ),
    Task(
        "Glob", "List all markdown files here.", _named("guide.md", "changes.md", "run.sh"), ("guide.md", "changes.md")
    ),
    Task(
        "Glob",
        "Find every JSON file in the data folder.",
        _named("data/sparrow.json", "data/kettle.json", "data/readme.txt"),
        ("sparrow.json", "kettle.json"),
    ),
    Task(
        "Glob",
        "Is there a file called config.yaml somewhere in this directory? Where?",
        _named("deploy/harbour/config.yaml", "main.c"),
        ("harbour",),
    ),
    Task(
        "Glob",
        "Search for all .csv files and give me their names.",
        _named("violet.csv", "amber.csv", "notes.txt"),
        ("violet.csv", "amber.csv"),
    ),
    Task(
        "Glob",
        "What test files are there? They are named test_*.py.",
        _named("tests/test_badger.py", "tests/test_maple.py", "main.py"),
        ("test_badger.py", "test_maple.py"),
    ),
    Task(
        "Glob",
        "Use the Glob tool to find all *.log files.",
        _named("thunder.log", "ember.log", "main.go"),
        ("thunder.log", "ember.log"),
    ),
    Task(
        "Glob",
        "Find all TypeScript files under src.",
        _named("src/willow.ts", "src/parts/cedar.ts", "src/style.css"),
        ("willow.ts", "cedar.ts"),
    ),
    Task(
        "Glob",
        "Which shell scripts (*.sh) does this folder contain?",
        _named("glacier.sh", "pebble.sh", "notes.md"),
        ("glacier.sh", "pebble.sh"),
    ),
    # --- Write
    Task("Write", "Create a file named out.txt containing the word hello.", leaves={"out.txt": r"(?i)^\s*hello\W*$"}),
    Task(
        "Write",
        "Write a file called greeting.txt with the text: Good morning, Ada",
        leaves={"greeting.txt": r"^\s*Good morning, Ada\W*$"},
    ),
    Task(
        "Write",
        "Make a new file shopping.txt that lists apples, pears and plums.",
        leaves={"shopping.txt": r"(?is)apples.*pears.*plums"},
    ),
    Task(
        "Write",
        "Create hello.py, a Python script that prints Hello from badger.",
        leaves={"hello.py": r"print\(.*Hello from badger"},
    ),
    Task(
        "Write",
        "Save the sentence 'The quick otter sleeps.' in a file called otter.txt.",
        leaves={"otter.txt": r"^\s*'?The quick otter sleeps\.'?\s*$"},
    ),
    Task(
        "Write",
        "Please create notes.md with the heading '# Meeting' and the line 'Bring cake'.",
        leaves={"notes.md": r"(?s)^\s*# Meeting\s+\W*Bring cake"},
    ),
    Task(
        "Write",
        'I need a file settings.json with the content {"color": "teal"}.',
        leaves={"settings.json": r'^\s*\{\s*"color":\s*"teal"\s*\}\s*$'},
    ),
    Task(
        "Write",
        "Write the numbers 1 to 5, one on each line, into numbers.txt.",
        leaves={"numbers.txt": r"^\s*1\s*\n2\s*\n3\s*\n4\s*\n5\s*$"},
    ),
    Task(
        "Write", "Put the word flamingo into a new file named bird.txt.", leaves={"bird.txt": r"(?i)^\s*flamingo\W*$"}
    ),
    Task(
        "Write",
        "Create a file docs/intro.txt that says Welcome to Saturn.",
        leaves={"docs/intro.txt": r"^\s*Welcome to Saturn\W*$"},
    ),
    # held out until 2026-11-23
    Task(
        "Write",
        "make me a file called poem.txt with the line: The moon is made of brass",
        leaves={"poem.txt": r"^\s*The moon is made of brass\W*$"},
    ),
    Task(
        "Write",
        "Create a Python file add.py with a function add(a, b) that returns the sum.",
        leaves={"add.py": r"def add\(a.*, b.*\).*:\s+(\"\"\".*\"\"\"\s+)?return a \+ b"},
    ),
    Task(
        "Write",
        "Please save 'Call Henrik at noon' to reminder.txt",
        leaves={"reminder.txt": r"^\W*Call Henrik at noon\W*$"},
    ),
    Task(
        "Write",
        "Can you write a short README.md for a project called Cormorant?",
        leaves={"README.md": r"Cormorant"},
    ),
    Task(
        "Write",
        "Write a shell script hello.sh that prints 'hello from the attic'.",
        leaves={"hello.sh": r"(echo|printf) .*hello from the attic"},
    ),
    # --- Edit
    Task(
        "Edit",
        "Change pelican to heron in hello.txt.",
        {"hello.txt": "The secret word is pelican.\nEnd of file.\n"},
        leaves={"hello.txt": r"is heron\.\s+End of file"},
        spoils={"hello.txt": "pelican"},
    ),
    Task(
        "Edit",
        "In config.ini, set the port to 9090.",
        {"config.ini": "[server]\nhost = 10.1.2.3\nport = 8080\n"},
        leaves={"config.ini": r"(?s)host = 10\.1\.2\.3\s+port\s*=\s*9090"},
        spoils={"config.ini": "8080"},
    ),
    Task(
        "Edit",
        "Replace the word blue with green in colors.txt.",
        {"colors.txt": "red\nblue\nyellow\n"},
        leaves={"colors.txt": r"red\s+green\s+yellow"},
        spoils={"colors.txt": "blue"},
    ),
    Task(
        "Edit",
        "Rename the function foo to bar in main.py.",
        {"main.py": "def foo():\n    return 42\n"},
        leaves={"main.py": r"def bar\(\):\s+return 42"},
        spoils={"main.py": "foo"},
    ),
    Task(
        "Edit",
        "Fix the spelling mistake 'teh' in letter.txt.",
        {"letter.txt": "Dear Ines,\nI saw teh swans.\n"},
        leaves={"letter.txt": r"Dear Ines,\s+I saw the swans"},
        spoils={"letter.txt": "teh"},
    ),
    # held out until 2026-11-23, third lot
    Task(
        "Edit",
        "Use the Edit tool to change 'draft' to 'final' in status.txt.",
        {"status.txt": "owner: Osei\nstate: draft\n"},
        leaves={"status.txt": r"owner: Osei\s+state: final"},
        spoils={"status.txt": "draft"},
    ),
    Task(
        "Edit",
        "In todo.md, mark the task 'buy milk' as done by changing [ ] to [x].",
        {"todo.md": "- [ ] call Ada\n- [ ] buy milk\n"},
        leaves={"todo.md": r"- \[ \] call Ada\s+- \[x\] buy milk"},
    ),
    Task(
        "Edit",
        "Update the version in version.txt from 1.2.3 to 1.3.0.",
        {"version.txt": "name: otter\nversion: 1.2.3\n"},
        leaves={"version.txt": r"name: otter\s+version: 1\.3\.0"},
        spoils={"version.txt": r"1\.2\.3"},
    ),
    Task(
        "Edit",
        "The name in card.txt is wrong: it should be Grace instead of Greta. Please correct it.",
        {"card.txt": "Happy birthday, Greta!\nSee you on Friday.\n"},
        leaves={"card.txt": r"Happy birthday, Grace!\s+See you on Friday"},
        spoils={"card.txt": "Greta"},
    ),
    Task(
        "Edit",
        "Change debug from true to false in settings.json.",
        {"settings.json": '{\n  "debug": true,\n  "size": 12\n}\n'},
        leaves={"settings.json": r'"debug": false,\s+"size": 12'},
        spoils={"settings.json": "true"},
    ),
    # held out until 2026-11-23, fourth lot
    Task(
        "Edit",
        "Please change the price of tea to 5 in prices.txt.",
        {"prices.txt": "tea 3\ncoffee 4\nwater 1\n"},
        leaves={"prices.txt": r"tea 5\s+coffee 4\s+water 1"},
    ),
    Task(
        "Edit",
        "the variable cnt in count.py should be called total, can you rename it",
        {"count.py": "cnt = 0\nprint(cnt)\n"},
        leaves={"count.py": r"total = 0\s+print\(total\)"},
        spoils={"count.py": "cnt"},
    ),
    Task(
        "Edit",
        "In index.html, replace the title 'Old' by 'New Otter'.",
        {"index.html": "<html>\n<title>Old</title>\n<p>text</p>\n</html>\n"},
        leaves={"index.html": r"<title>New Otter</title>\s+<p>text</p>"},
    ),
    Task(
        "Edit",
        "Set the log level to debug in logging.conf.",
        {"logging.conf": "file = a.log\nlevel = info\nrotate = 7\n"},
        leaves={"logging.conf": r"file = a\.log\s+level = debug\s+rotate = 7"},
    ),
    Task(
        "Edit",
        "Correct 'recieve' to 'receive' in mail.md.",
        {"mail.md": "Dear Bo,\ndid you recieve it?\nYours, Al\n"},
        leaves={"mail.md": r"Dear Bo,\s+did you receive it\?\s+Yours, Al"},
    ),
    # --- Chat
    Task(CHAT, "What is 17 plus 25?", answer=("42",)),
    Task(CHAT, "Hi! Who are you?"),
    Task(CHAT, "What is the capital of Portugal?", answer=("lisbon",)),
    Task(CHAT, "Explain in two sentences what a hash table is.", answer=("key",)),
    Task(CHAT, "Translate 'good night' into German.", answer=("gute nacht",)),
    Task(CHAT, "What does the git command 'git stash' do?", _named("main.py"), ("stash",)),
    # held out until 2026-11-23
    Task(CHAT, "how do I write a for loop in python?", _named("main.py"), ("for", "in")),
    Task(CHAT, "What is 9 times 8?", answer=("72",)),
    Task(CHAT, "Thanks, that helped a lot!"),
    Task(CHAT, "What is the difference between a list and a tuple in Python?", answer=("tuple",)),
    Task(CHAT, "Who wrote Romeo and Juliet?", answer=("shakespeare",)),
    Task(CHAT, "Give me three ideas for a name for my cat."),
    # held out until 2026-11-23, fourth lot
    Task(CHAT, "What is JSON?", answer=("data",)),
    Task(CHAT, "What is 144 divided by 12?", answer=("12",)),
    Task(CHAT, "how do I reverse a list in python?", _named("main.py"), ("revers",)),
    Task(CHAT, "What is express.js used for?", answer=("web",)),
    Task(CHAT, "Can you recommend a name for a sailing boat?"),
    Task(CHAT, "What does HTTP status 404 mean?", answer=("not found",)),
    Task(CHAT, "Good morning!"),
    Task(CHAT, "Explain the difference between TCP and UDP.", _named("notes.md"), ("tcp",)),
)

HELD_OUT: tuple[Task, ...] = (
    # --- Read
    Task(
        "Read",
        "can you check what port is configured in settings.toml?",
        {"settings.toml": '[server]\nhost = "0.0.0.0"\nport = 6543\n'},
        ("6543",),
    ),
    Task(
        "Read",
        "Who is responsible for the garden? It's in duties.md.",
        {"duties.md": "# Duties\n\nkitchen: Otto\ngarden: Ludmila\ncellar: Femi\n"},
        ("ludmila",),
    ),
    Task(
        "Read",
        "What does the function in utils/text.js return?",
        {"utils/text.js": "export function label() {\n  return 'marzipan';\n}\n"},
        ("marzipan",),
    ),
    Task("Read", "Read password_hint.txt to me.", {"password_hint.txt": "name of the first parrot\n"}, ("parrot",)),
    Task(
        "Read",
        "I forgot the phone number of the plumber, it should be somewhere in contacts.txt",
        {"contacts.txt": "baker 555-0143\nplumber 555-0178\ndentist 555-0121\n"},
        ("0178",),
    ),
    Task(
        "Read",
        "What is the first line of poem.txt?",
        {"poem.txt": "Beneath the copper moon\nthe river sleeps\n"},
        ("copper moon",),
    ),
    Task(
        "Read",
        "Explain what the script deploy.sh does.",
        {"deploy.sh": "#!/bin/sh\nrsync -a site/ /srv/walnut/\n"},
        ("walnut",),
    ),
    Task(
        "Read",
        "Which license does this project have? Look at LICENSE.",
        {"LICENSE": "Mozilla Public License Version 2.0\n"},
        ("mozilla",),
    ),
    Task(
        "Read",
        "What was the temperature on Tuesday according to data/weather.csv?",
        {"data/weather.csv": "day,celsius\nMonday,14\nTuesday,23\nWednesday,18\n"},
        ("23",),
    ),
    Task(
        "Read",
        "Please tell me the name of the main class in App.java.",
        {"App.java": "public class PelicanApp {\n    int size = 3;\n}\n"},
        ("pelicanapp",),
    ),
    Task(
        "Read",
        "Take a look at Procfile and tell me the command of the worker.",
        {"Procfile": "web: gunicorn app\nworker: celery-owl -q\n"},
        ("celery-owl",),
    ),
    Task(
        "Read",
        "summarize minutes.md",
        {"minutes.md": "# Minutes\n\nWe decided to buy a trombone for the orchestra.\n"},
        ("trombone",),
    ),
    # --- Glob
    Task(
        "Glob", "show me all the yaml files", _named("anchor.yaml", "ci/ribbon.yaml", "main.rs"), ("anchor", "ribbon")
    ),
    Task(
        "Glob",
        "Which images (png files) are in the assets directory?",
        _named("assets/puffin.png", "assets/comet.png", "assets/style.css"),
        ("puffin.png", "comet.png"),
    ),
    Task(
        "Glob",
        "Find the file named Makefile.",
        _named("tools/gravel/Makefile", "main.c"),
        ("gravel",),
    ),
    Task(
        "Glob",
        "What .html files do we have?",
        _named("index.html", "pages/saffron.html", "app.js"),
        ("index.html", "saffron.html"),
    ),
    Task(
        "Glob",
        "Give me a list of all C source files (*.c) in this repo.",
        _named("src/tundra.c", "src/io/beacon.c", "src/io/beacon.h"),
        ("tundra.c", "beacon.c"),
    ),
    Task(
        "Glob",
        "Where is the file orchid.txt?",
        _named("archive/velvet/orchid.txt", "readme.md"),
        ("velvet",),
    ),
    Task(
        "Glob",
        "Find all files in the logs folder whose name starts with error.",
        _named("logs/error-harp.log", "logs/error-mint.log", "logs/access.log"),
        ("error-harp.log", "error-mint.log"),
    ),
    Task(
        "Glob",
        "Please look for rust files and tell me what they are called.",
        _named("src/lynx.rs", "src/bin/quarry.rs", "Cargo.toml"),
        ("lynx.rs", "quarry.rs"),
    ),
    Task(
        "Glob",
        "Are there any .sql files in here?",
        _named("db/parsnip.sql", "db/readme.md"),
        ("parsnip.sql",),
    ),
    Task(
        "Glob",
        "List every file in the notes directory.",
        _named("notes/tulip.md", "notes/marble.txt", "main.py"),
        ("tulip.md", "marble.txt"),
    ),
    # --- Write
    Task(
        "Write", "Create a file called haiku.txt with a haiku about the sea.", leaves={"haiku.txt": r"(?s)\w.*\n.*\w"}
    ),
    Task(
        "Write",
        "write 'meeting moved to Friday' into note.txt please",
        leaves={"note.txt": r"(?i)meeting moved to Friday"},
    ),
    Task(
        "Write",
        "Make a .gitignore that ignores *.pyc and the folder build.",
        leaves={".gitignore": r"(?s)^(?=.*\*\.pyc)(?=.*build)"},
    ),
    Task(
        "Write",
        "Create a JavaScript file sum.js with a function that adds two numbers.",
        leaves={"sum.js": r"(return|=>)\s*\w+\s*\+\s*\w+"},
    ),
    Task(
        "Write",
        "Generate a requirements.txt with requests and numpy in it.",
        leaves={"requirements.txt": r"(?s)^(?=.*requests)(?=.*numpy)"},
    ),
    Task(
        "Write",
        "Add a new file styles.css in which the body has a grey background.",
        leaves={"styles.css": r"body\s*\{[^}]*background(-color)?:\s*(grey|gray|#)"},
    ),
    Task(
        "Write",
        "Please write a small HTML page index.html with the headline 'Hello Otter'.",
        leaves={"index.html": r"<h[1-6][^>]*>\s*Hello Otter"},
    ),
    Task(
        "Write",
        "create the file src/config.yml with the key timeout set to 30",
        leaves={"src/config.yml": r"timeout:\s*30"},
    ),
    Task(
        "Write",
        "I want a to-do list in todo.md with three items: sweep, cook, sleep.",
        leaves={"todo.md": r"(?is)sweep.*cook.*sleep"},
    ),
    Task("Write", "Put today's motto 'Slow and steady' in motto.txt", leaves={"motto.txt": r"Slow and steady"}),
    # --- Edit
    Task(
        "Edit",
        "Raise the timeout in fetch.py to 60.",
        {"fetch.py": "timeout = 20\nretries = 3\n"},
        leaves={"fetch.py": r"timeout = 60\s+retries = 3"},
    ),
    Task(
        "Edit",
        "Please make the word 'lake' in travel.md 'ocean'.",
        {"travel.md": "# Travel\n\nWe swam in the lake.\nIt rained.\n"},
        leaves={"travel.md": r"# Travel\s+We swam in the ocean\.\s+It rained"},
    ),
    Task(
        "Edit",
        "Otto moved: his street in addresses.txt is Elm Road now.",
        {"addresses.txt": "Ida, Oak Street\nOtto, Fir Lane\nUte, Ash Court\n"},
        leaves={"addresses.txt": r"Ida, Oak Street\s+Otto, Elm Road\s+Ute, Ash Court"},
    ),
    Task(
        "Edit",
        "turn off verbose in options.yaml",
        {"options.yaml": "colour: auto\nverbose: true\nlimit: 9\n"},
        leaves={"options.yaml": r"colour: auto\s+verbose: (false|off|no)\s+limit: 9"},
    ),
    # --- Chat
    Task(CHAT, "What is 33 minus 8?", answer=("25",)),
    Task(CHAT, "What is YAML?", answer=("data",)),
    Task(CHAT, "how do I check if a string is empty in bash?", _named("run.sh"), ("-z",)),
    Task(CHAT, "What does the D in SOLID stand for?", answer=("dependency",)),
    Task(CHAT, "Say hello in three languages."),
    Task(CHAT, "Which is bigger, a kilobyte or a megabyte?", answer=("megabyte",)),
)


@dataclass
class Outcome:
    """What one run showed. ``problem`` is empty when it counts as right."""

    tool: str
    held_out: bool
    prompt: str
    problem: str
    calls: list[str]
    answer: str
    seconds: float
    input_tokens: int
    output_tokens: int


def tasks_of(tools: Iterable[str]) -> list[tuple[Task, bool]]:
    """The tasks of ``tools`` in their order, each with whether it is held out."""
    return [
        (task, held_out)
        for tool in tools
        for held_out, tasks in ((False, TUNED), (True, HELD_OUT))
        for task in tasks
        if task.tool == tool
    ]


def prepare(task: Task, workspace: Path) -> None:
    """Put the task's files into ``workspace``."""
    for name, text in task.files.items():
        path = workspace / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def events_of(output: str) -> list[dict[str, Any]]:
    """The JSON objects in ``claude``'s stream-json ``output``, one a line; other lines are skipped."""
    events = []
    for line in output.splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict):
            events.append(event)
    return events


def calls_of(events: Sequence[dict[str, Any]]) -> list[tuple[str, bool]]:
    """Every tool call in ``events`` as (tool, ended without an error), in order."""
    names: dict[str, str] = {}
    order: list[str] = []
    good: dict[str, bool] = {}
    for event in events:
        content = (event.get("message") or {}).get("content")
        if not isinstance(content, list):
            continue
        for block in content:
            if block.get("type") == "tool_use":
                names[block["id"]] = block["name"]
                order.append(block["id"])
            elif block.get("type") == "tool_result":
                good[block["tool_use_id"]] = not block.get("is_error")
    return [(names[call], good.get(call, False)) for call in order]


def judge(task: Task, workspace: Path, events: Sequence[dict[str, Any]]) -> tuple[str, list[tuple[str, bool]], str]:
    """(problem or "", the calls, the final answer) of a finished run of ``task`` in ``workspace``."""
    calls = calls_of(events)
    result: dict[str, Any] = next((event for event in reversed(events) if event.get("type") == "result"), {})
    answer = str(result.get("result") or "")
    if task.tool == CHAT:
        if calls:
            return f"{calls[0][0]} was called, no tool is needed", calls, answer
        if not answer.strip() or "```json" in answer:
            return "no answer in words", calls, answer
    elif not calls:
        return "no tool was called", calls, answer
    elif not any(name == task.tool for name, _ in calls):
        return f"{task.tool} was not called", calls, answer
    elif not any(name == task.tool and good for name, good in calls):
        return f"every {task.tool} call ended with an error", calls, answer
    missing = [word for word in task.answer if word.lower() not in answer.lower()]
    if missing:
        return f"the answer lacks {', '.join(missing)}", calls, answer
    for name, pattern in task.leaves.items():
        path = workspace / name
        if not path.is_file():
            return f"{name} is not there", calls, answer
        text = path.read_text(errors="replace")
        if not re.search(pattern, text):
            return f"{name} holds {text[:80]!r}", calls, answer
        if name in task.spoils and re.search(task.spoils[name], text):
            return f"{name} still holds {task.spoils[name]}", calls, answer
    return "", calls, answer


def end(process: subprocess.Popen[str]) -> tuple[str, str]:
    """End ``process`` and its whole group (asked first, killed after GRACE); what it had written, and its errors."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.communicate(timeout=GRACE)
    return "", ""  # somebody outside the group holds the pipes open


def stop(number: int, frame: FrameType | None) -> None:
    """Handles SIGTERM, SIGHUP and SIGINT: leave through every ``finally``, with the exit status a shell would give."""
    raise SystemExit(128 + number)


def run(task: Task, held_out: bool, command: Sequence[str], timeout: float, max_turns: int) -> Outcome:
    """Run ``task`` once in a workspace of its own, at most ``timeout`` seconds."""
    workspace = Path(tempfile.mkdtemp(prefix="claude-local-benchmark-", dir=Path.home()))
    try:
        prepare(task, workspace)
        started = time.monotonic()
        process = subprocess.Popen(
            [
                *command,
                "-p",
                task.prompt,
                "--output-format",
                "stream-json",
                "--verbose",
                "--permission-mode",
                "acceptEdits",
                "--max-turns",
                str(max_turns),
            ],
            cwd=workspace,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        late = False
        try:
            output, errors = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            late = True
            output, errors = end(process)
        except BaseException:
            end(process)
            raise
        seconds = time.monotonic() - started
        events = events_of(output)
        problem, calls, answer = judge(task, workspace, events)
        if late:
            problem = f"not done after {timeout:.0f} s"
        elif not events:
            problem = f"no events; exit status {process.returncode}: {errors.strip()[-200:]}"
        result: dict[str, Any] = next((event for event in reversed(events) if event.get("type") == "result"), {})
        usage = result.get("usage") or {}
        return Outcome(
            tool=task.tool,
            held_out=held_out,
            prompt=task.prompt,
            problem=problem,
            calls=[name if good else f"{name} (error)" for name, good in calls],
            answer=answer,
            seconds=round(seconds, 1),
            input_tokens=int(usage.get("input_tokens") or 0) + int(usage.get("cache_read_input_tokens") or 0),
            output_tokens=int(usage.get("output_tokens") or 0),
        )
    finally:
        shutil.rmtree(workspace, ignore_errors=True)


def table(outcomes: Sequence[Outcome]) -> str:
    """The figures of each tool as a table: right, of how many, mean seconds and tokens of one run."""
    lines = [f"{'tool':<6} {'tuned':>7} {'held out':>9} {'all':>7} {'s/run':>6} {'in/run':>7} {'out/run':>8}"]
    for tool in dict.fromkeys(outcome.tool for outcome in outcomes):
        mine = [outcome for outcome in outcomes if outcome.tool == tool]
        cells = []
        for part in (
            [outcome for outcome in mine if not outcome.held_out],
            [outcome for outcome in mine if outcome.held_out],
            mine,
        ):
            cells.append(f"{sum(not outcome.problem for outcome in part)}/{len(part)}")
        count = len(mine)
        lines.append(
            f"{tool:<6} {cells[0]:>7} {cells[1]:>9} {cells[2]:>7} {sum(o.seconds for o in mine) / count:>6.1f} "
            f"{sum(o.input_tokens for o in mine) / count:>7.0f} {sum(o.output_tokens for o in mine) / count:>8.0f}"
        )
    return "\n".join(lines)


def reached(outcomes: Sequence[Outcome], aim: float) -> bool:
    """Whether each of the judged tools that were run was right in at least ``aim`` (0 to 1) of its runs."""
    for tool in JUDGED:
        mine = [outcome for outcome in outcomes if outcome.tool == tool]
        if mine and sum(not outcome.problem for outcome in mine) < aim * len(mine):
            return False
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], epilog="See the top of this file.")
    parser.add_argument("--command", default="claude-local", help="what to run, one string (default: claude-local)")
    parser.add_argument(
        "--tool", action="append", choices=["Glob", "Read", "Write", "Edit", CHAT], help="only this; repeatable"
    )
    parser.add_argument("--half", choices=["tuned", "held-out"], help="only these tasks")
    parser.add_argument("--runs", type=int, default=1, help="how often each task runs (default: 1)")
    parser.add_argument("--timeout", type=float, default=300, help="seconds that one run may take (default: 300)")
    parser.add_argument("--max-turns", type=int, default=8, help="turns that one run may take (default: 8)")
    parser.add_argument("--aim", type=float, default=0.9, help="share that Glob, Read and Write must reach (0.9)")
    parser.add_argument("--json", type=Path, help="also write every outcome here")
    options = parser.parse_args()

    command = shlex.split(options.command)
    if not command or not shutil.which(command[0]):
        print(f"{options.command}: not found; install it with ./provision or name it with --command", file=sys.stderr)
        return 2
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    outcomes = []
    for task, held_out in tasks_of(options.tool or ["Glob", "Read", "Write", "Edit", CHAT]):
        if options.half and held_out != (options.half == "held-out"):
            continue
        for _ in range(options.runs):
            outcome = run(task, held_out, command, options.timeout, options.max_turns)
            outcomes.append(outcome)
            mark = "ok  " if not outcome.problem else "FAIL"
            print(f"{mark} {outcome.tool:<5} {outcome.seconds:6.1f} s  {task.prompt}", flush=True)
            if outcome.problem:
                print(f"       {outcome.problem}; calls: {', '.join(outcome.calls) or 'none'}")
                print(f"       answer: {outcome.answer[:160]!r}", flush=True)
            if options.json:
                options.json.write_text(json.dumps([asdict(each) for each in outcomes], indent=1) + "\n")
    print()
    print(table(outcomes))
    return 0 if reached(outcomes, options.aim) else 1


if __name__ == "__main__":
    sys.exit(main())
