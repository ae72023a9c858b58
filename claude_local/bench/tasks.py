"""The graded tasks: twenty small ones of a working day, each with a check on the files or on the words of the answer.

You may look at how the open ones fail while you tune a chat template or a flag. The tasks that are ``held_out`` are
only counted: once somebody has tuned for one, it becomes open and a new one takes its place. No task has a word of the
chat templates' examples. Do not reword a task to make a model look better.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Task:
    """One request, worded as a user would type it. ``kind``: what it asks for, in a word or two.

    * ``files``: path -> text of the files in the workspace before the run
    * ``answer``: words that the final answer must contain, in upper or lower case; ``2|two`` is either
    * ``never``: words that it must not contain
    * ``leaves``: path -> regular expression that the file must match after the run
    * ``spoils``: path -> regular expression that the file must not match after the run
    """

    kind: str
    prompt: str
    files: dict[str, str] = field(default_factory=dict)
    answer: tuple[str, ...] = ()
    never: tuple[str, ...] = ()
    leaves: dict[str, str] = field(default_factory=dict)
    spoils: dict[str, str] = field(default_factory=dict)
    held_out: bool = False


_ATLAS = "def load_map(path):\n    return path.read_text()\n"
_ATLAS_USER = "from atlas import load_map\n\nprint(load_map(HOME))\n"
_SEATS = "MAX_SEATS = 48\n\n\ndef free(taken):\n    return MAX_SEATS - taken\n"
_SEATS_USER = "from room import MAX_SEATS\n\nassert MAX_SEATS > 0\n"
_TOTAL = "def total(prices):\n    result = 1\n    for price in prices:\n        result += price\n    return result\n"
_TOTAL_TEST = "from total import total\n\n\ndef test_total():\n    assert total([2, 3]) == 5\n"
_LEAP = "def is_leap(year):\n    return year % 4 == 0 and year % 100 == 0 or year % 400 == 0\n"
_LEAP_TEST = "from leap import is_leap\n\n\ndef test_leap():\n    assert is_leap(2024) and not is_leap(1900)\n"
_DIFF = (
    "--- a/fetch.py\n+++ b/fetch.py\n@@ -1,3 +1,3 @@\n import socket\n \n-TIMEOUT = 30  # seconds\n"
    "+TIMEOUT = 60  # seconds\n"
)

TASKS: tuple[Task, ...] = (
    Task(
        "explain",
        "What does the function settle in ledger.py do?",
        {"ledger.py": "def settle(debts):\n    return {who: sum for who, sum in debts.items() if sum > 0}\n"},
        answer=("positive|greater than|more than|above|larger than|> 0",),
    ),
    Task(
        "explain",
        "Explain the regular expression in codes.py.",
        {"codes.py": 'import re\n\nCODE = re.compile(r"^[A-Z]{2}-[0-9]{4}$")\n'},
        answer=("2|two", "4|four", "digit|number"),
        held_out=True,
    ),
    Task(
        "find",
        "In which file is the function parse_tide defined?",
        {
            "src/reader.py": "def parse_tide(line):\n    return float(line)\n",
            "src/writer.py": "def format_tide(tide):\n    return str(tide)\n",
            "main.py": "from src import reader, writer\n",
        },
        answer=("reader.py",),
        never=("writer.py",),
    ),
    Task(
        "read",
        "What is the largest upload that limits/upload.yaml allows?",
        {"limits/upload.yaml": "upload:\n  minimum_kb: 3\n  maximum_mb: 37\n"},
        answer=("37",),
        held_out=True,
    ),
    Task(
        "glob",
        "List the TypeScript files of this project.",
        {"src/lantern.ts": "let a = 1;\n", "src/ui/curtain.ts": "let b = 2;\n", "src/style.css": "p {}\n"},
        answer=("lantern.ts", "curtain.ts"),
    ),
    Task(
        "glob",
        "Which files are in the folder migrations?",
        {
            "migrations/0001_harbor.sql": "CREATE TABLE harbor;\n",
            "migrations/0002_pilot.sql": "CREATE TABLE pilot;\n",
            "main.go": "package main\n",
        },
        answer=("0001_harbor.sql", "0002_pilot.sql"),
        held_out=True,
    ),
    Task(
        "grep",
        "Which files mention the word kestrel?",
        {
            "birds.txt": "heron\nkestrel\n",
            "walk.md": "We saw a kestrel above the mill.\n",
            "rain.md": "It rained all day.\n",
        },
        answer=("birds.txt", "walk.md"),
        never=("rain.md",),
    ),
    Task(
        "grep",
        "Find the TODO comments in the Python files and tell me what is to be done.",
        {"pump.py": "# TODO: close the valve\nrun()\n", "farm.py": "run()\n# TODO: count the sheep\n"},
        answer=("valve", "sheep"),
        held_out=True,
    ),
    Task(
        "write",
        "Create pins.csv with the columns name and colour, and one row for Ada whose colour is teal.",
        leaves={"pins.csv": r"(?i)name\s*,\s*colour\s*\n\s*Ada\s*,\s*teal"},
    ),
    Task(
        "write",
        "Write a Python file temperature.py with a function to_fahrenheit that converts degrees Celsius.",
        leaves={"temperature.py": r"(?s)def to_fahrenheit\(\w+.*(9\s*/\s*5|1\.8)"},
        held_out=True,
    ),
    Task(
        "edit",
        "Change the retry limit in client.cfg to 12.",
        {"client.cfg": "[client]\nretry_limit = 3\ntimeout = 9\n"},
        leaves={"client.cfg": r"^\[client\]\s+retry_limit = 12\s+timeout = 9"},
    ),
    Task(
        "edit",
        "In shop.py, make the discount 15 percent instead of 10.",
        {"shop.py": "DISCOUNT = 0.10\n\n\ndef price(full):\n    return full * (1 - DISCOUNT)\n"},
        leaves={"shop.py": r"DISCOUNT = 0\.15\s+def price\(full\):\s+return full \* \(1 - DISCOUNT\)"},
        held_out=True,
    ),
    Task(
        "docstring",
        "Add a docstring to the function area in shapes.py.",
        {"shapes.py": "def area(width, height):\n    return width * height\n"},
        leaves={"shapes.py": r"def area\(width, height\):\s+r?(\"\"\"|''')[\s\S]+?\1\s+return width \* height"},
    ),
    Task(
        "rename",
        "Rename the function load_map to read_map in atlas.py and in main.py.",
        {"atlas.py": _ATLAS, "main.py": _ATLAS_USER},
        leaves={"atlas.py": r"def read_map\(path\):", "main.py": r"import read_map\s+print\(read_map\(HOME\)\)"},
        spoils={"atlas.py": "load_map", "main.py": "load_map"},
    ),
    Task(
        "rename",
        "The constant MAX_SEATS should be called SEAT_LIMIT. It is in room.py and booking.py.",
        {"room.py": _SEATS, "booking.py": _SEATS_USER},
        leaves={"room.py": r"SEAT_LIMIT = 48\s+def free", "booking.py": r"import SEAT_LIMIT\s+assert SEAT_LIMIT > 0"},
        spoils={"room.py": "MAX_SEATS", "booking.py": "MAX_SEATS"},
        held_out=True,
    ),
    Task(
        "fix a test",
        "The test in test_total.py fails. Fix total.py.",
        {"total.py": _TOTAL, "test_total.py": _TOTAL_TEST},
        leaves={"total.py": r"result = 0|sum\(prices\)", "test_total.py": r"total\(\[2, 3\]\) == 5"},
        spoils={"total.py": "result = 1"},
    ),
    Task(
        "fix a test",
        "test_leap.py fails because of a mistake in leap.py. Please correct it.",
        {"leap.py": _LEAP, "test_leap.py": _LEAP_TEST},
        leaves={"leap.py": r"year % 100 != 0", "test_leap.py": r"not is_leap\(1900\)"},
        spoils={"leap.py": r"year % 100 == 0"},
        held_out=True,
    ),
    Task(
        "shell script",
        "Write a shell script archive.sh that packs the folder photos into photos.tar.gz.",
        {"photos/lake.txt": "a photo\n"},
        leaves={"archive.sh": r"tar\s[^\n]*photos\.tar\.gz[\"']?\s[^\n]*photos"},
        held_out=True,
    ),
    Task(
        "commit message",
        "Write a commit message for the change in change.diff.",
        {"change.diff": _DIFF},
        answer=("timeout", "60|double|increase|raise|longer"),
    ),
    Task(
        "two steps",
        "Read crew.txt and write the same names in alphabetical order to sorted.txt.",
        {"crew.txt": "Quinn\nAbebe\nMora\n"},
        leaves={"sorted.txt": r"^Abebe\s+Mora\s+Quinn\s*$"},
        held_out=True,
    ),
)  # fmt: skip
