"""The tasks of benchmarks/tool_use.py, each worded as a user would type it.

You may look at the tasks in TUNED while you tune a chat template or a flag. The tasks in HELD_OUT are only counted.
Once somebody has looked at how one fails, it moves to TUNED and a new one takes its place. Do not reword a task to make
a model look better.
"""

from __future__ import annotations

from claude_local.bench.tasks import Task

# The kind of a task is the tool that must be used for it, or one of these: none may be used, any will do.
CHAT, ABOUT = "Chat", "About"


def _named(paths: str) -> dict[str, str]:
    """Files at these paths (separated by blanks) whose content does not matter."""
    return {path: f"content of {path}\n" for path in paths.split()}


def read(prompt: str, files: dict[str, str], *answer: str) -> Task:
    """The answer must contain words that only a file has."""
    return Task("Read", prompt, files, answer)


def glob(prompt: str, paths: str, *answer: str) -> Task:
    """The answer must contain names of files."""
    return Task("Glob", prompt, _named(paths), answer)


def write(prompt: str, path: str, text: str) -> Task:
    """The new file must match the regular expression ``text``."""
    return Task("Write", prompt, leaves={path: text})


def edit(prompt: str, path: str, before: str, after: str, gone: str = "") -> Task:
    """The file must match the regular expression ``after``, and no longer match ``gone``."""
    return Task("Edit", prompt, {path: before}, leaves={path: after}, spoils={path: gone} if gone else {})


def chat(prompt: str, *answer: str, paths: str = "") -> Task:
    """No tool may be used, although the workspace may have files."""
    return Task(CHAT, prompt, _named(paths), answer)


def about(prompt: str, files: dict[str, str], *answer: str) -> Task:
    """A question about the workspace that names no file. The answer must contain words that only its files have."""
    return Task(ABOUT, prompt, files, answer)


# fmt: off
TUNED: tuple[Task, ...] = (
    # --- Read
    read("Read the file hello.txt and tell me the secret word.", {"hello.txt": "The secret word is pelican.\n"},
         "pelican"),
    read("What is the secret word in notes.md?",
         {"notes.md": "# Notes\n\nRemember: the secret word is tangerine.\n", "other.md": "# Nothing here\n"},
         "tangerine"),
    read("Open config.ini and tell me which port the server uses.",
         {"config.ini": "[server]\nhost = 10.1.2.3\nport = 4711\n"}, "4711"),
    read("Look into todo.txt. What is the first item on the list?",
         {"todo.txt": "1. Feed the axolotl\n2. Water the plants\n"}, "axolotl"),
    read("Which version does version.txt say?", {"version.txt": "release 7.31.4\n"}, "7.31.4"),
    read("Please read recipe.md and tell me how many grams of sugar it needs.",
         {"recipe.md": "# Plum cake\n\n- 200 g flour\n- 135 g sugar\n- 3 eggs\n"}, "135"),
    read("What's the name of the function defined in main.py?",
         {"main.py": 'def greet_walrus(name):\n    return "hello " + name\n'}, "greet_walrus"),
    read("Show me what is written in letter.txt.", {"letter.txt": "Dear Ines,\nthe marzipan arrived on Tuesday.\n"},
         "marzipan"),
    read("In data/people.csv, who lives in Lisbon?",
         {"data/people.csv": "name,city\nOsei,Accra\nQuintana,Lisbon\nLindqvist,Malmo\n"}, "quintana"),
    read("Check the file src/settings.json: what is the value of theme?",
         {"src/settings.json": '{\n  "theme": "cobalt",\n  "size": 12\n}\n'}, "cobalt"),
    # held out until 2026-11-23
    read("how many apples are on the list in groceries.txt?", {"groceries.txt": "milk: 2\napples: 17\nbread: 1\n"},
         "17"),
    read("Have a look at server.log and tell me what went wrong.",
         {"server.log": "10:02 started\n10:07 ERROR disk quokka is full\n10:07 stopped\n"}, "quokka"),
    read("Summarize docs/plan.md for me in one sentence.",
         {"docs/plan.md": "# Plan\n\nWe build a lighthouse in Bergen next spring.\n", "main.py": "print(1)\n"},
         "lighthouse"),
    read("What does the script backup.sh copy, and where to?",
         {"backup.sh": "#!/bin/sh\ncp -r /srv/photos /mnt/toucan\n"}, "photos", "toucan"),
    read("Can you tell me the email address in contact.html?",
         {"contact.html": "<p>Write to <a href='mailto:linnea@example.org'>us</a></p>\n"}, "linnea@example.org"),
    # held out on 2026-11-23
    read("What does the README say the project is called?",
         {"README.md": "# Project Pangolin\n\nA tool for maps.\n", "main.py": "print(1)\n"}, "pangolin"),
    read("Please open notes/friday.txt and tell me who is coming.",
         {"notes/friday.txt": "Coming on Friday: Marisol and Bo.\n"}, "marisol"),
    read("which license is mentioned in LICENSE?", {"LICENSE": "Released under the Zlib license.\n"}, "zlib"),
    read("What is the last line of story.txt?", {"story.txt": "It rained.\nThe fox slept.\nThen came the heron.\n"},
         "heron"),
    read("Read app.py and tell me which port it listens on.",
         {"app.py": "from server import run\n\nrun(port=5123)\n"}, "5123"),
    read("what's the timeout in settings.toml?", {"settings.toml": "[client]\nretries = 3\ntimeout = 47\n"}, "47"),
    read("Who wrote poem.txt?", {"poem.txt": "The Lamp\n\nA light, a light.\n\nby Ottoline Grey\n"}, "ottoline"),
    read("What does greet.sh print?", {"greet.sh": "#!/bin/sh\necho 'Ahoy from the pier'\n"}, "ahoy"),
    read("Look at inventory.csv and tell me how many lamps there are.",
         {"inventory.csv": "item,count\nchair,4\nlamp,23\n"}, "23"),
    read("What is the phone number in contacts/ines.txt?", {"contacts/ines.txt": "Ines\nphone: 555-0147\n"},
         "555-0147"),
    # held out until 2026-11-23, third lot
    read("What does the changelog say about version 2.4?",
         {"CHANGELOG.md": "# Changelog\n\n## 2.4\n\n- The kettle whistles in B flat.\n\n## 2.3\n\n- Fixes.\n"},
         "b flat"),
    read("Read wishlist.txt and tell me what is number three.",
         {"wishlist.txt": "1. a bicycle\n2. a drum\n3. an accordion\n4. a tent\n"}, "accordion"),
    read("Which database does docker-compose.yml use?",
         {"docker-compose.yml": "services:\n  db:\n    image: mariadb:11\n  web:\n    image: nginx\n"}, "mariadb"),
    read("please check deadline.txt: when do I have to hand in the report?",
         {"deadline.txt": "essay: 3 May\nreport: 19 August\n"}, "19", "august"),
    read("Who is the author according to AUTHORS?", {"AUTHORS": "Wilhelmina Tran\n"}, "tran"),
    read("What colour is the background in theme.css?",
         {"theme.css": "body {\n  color: black;\n  background: salmon;\n}\n"}, "salmon"),
    read("Tell me the name of the dog in story/chapter1.txt.",
         {"story/chapter1.txt": "It was dark. Anna called her cat Miso,\nbut only the dog, Bramble, came.\n"},
         "bramble"),
    read("What is the default value of retries in client.py?",
         {"client.py": "def fetch(url, timeout=10, retries=6):\n    pass\n"}, "6"),
    read("How much did we spend on paint? See costs.csv.",
         {"costs.csv": "what,euro\nwood,310\npaint,84\nscrews,12\n"}, "84"),
    read("Open error.txt and explain what it says.",
         {"error.txt": "FATAL: cannot open gazelle.db: permission denied\n"}, "gazelle"),
    # --- Glob
    glob("Find all files matching *.txt", "walnut.txt lantern.txt photo.png", "walnut.txt", "lantern.txt"),
    glob("Which Python files are in this project?", "falcon.py lib/turnip.py README.md", "falcon.py", "turnip.py"),
    glob("List all markdown files here.", "guide.md changes.md run.sh", "guide.md", "changes.md"),
    glob("Find every JSON file in the data folder.", "data/sparrow.json data/kettle.json data/readme.txt",
         "sparrow.json", "kettle.json"),
    glob("Is there a file called config.yaml somewhere in this directory? Where?",
         "deploy/harbour/config.yaml main.c", "harbour"),
    glob("Search for all .csv files and give me their names.", "violet.csv amber.csv notes.txt", "violet.csv",
         "amber.csv"),
    glob("What test files are there? They are named test_*.py.", "tests/test_badger.py tests/test_maple.py main.py",
         "test_badger.py", "test_maple.py"),
    glob("Use the Glob tool to find all *.log files.", "thunder.log ember.log main.go", "thunder.log", "ember.log"),
    glob("Find all TypeScript files under src.", "src/willow.ts src/parts/cedar.ts src/style.css", "willow.ts",
         "cedar.ts"),
    glob("Which shell scripts (*.sh) does this folder contain?", "glacier.sh pebble.sh notes.md", "glacier.sh",
         "pebble.sh"),
    # --- Write
    write("Create a file named out.txt containing the word hello.", "out.txt", r"(?i)^\s*hello\W*$"),
    write("Write a file called greeting.txt with the text: Good morning, Ada", "greeting.txt",
          r"^\s*Good morning, Ada\W*$"),
    write("Make a new file shopping.txt that lists apples, pears and plums.", "shopping.txt",
          "(?is)apples.*pears.*plums"),
    write("Create hello.py, a Python script that prints Hello from badger.", "hello.py",
          r"print\(.*Hello from badger"),
    write("Save the sentence 'The quick otter sleeps.' in a file called otter.txt.", "otter.txt",
          r"^\s*'?The quick otter sleeps\.'?\s*$"),
    write("Please create notes.md with the heading '# Meeting' and the line 'Bring cake'.", "notes.md",
          r"(?s)^\s*# Meeting\s+\W*Bring cake"),
    write('I need a file settings.json with the content {"color": "teal"}.', "settings.json",
          r'^\s*\{\s*"color":\s*"teal"\s*\}\s*$'),
    write("Write the numbers 1 to 5, one on each line, into numbers.txt.", "numbers.txt",
          r"^\s*1\s*\n2\s*\n3\s*\n4\s*\n5\s*$"),
    write("Put the word flamingo into a new file named bird.txt.", "bird.txt", r"(?i)^\s*flamingo\W*$"),
    write("Create a file docs/intro.txt that says Welcome to Saturn.", "docs/intro.txt",
          r"^\s*Welcome to Saturn\W*$"),
    # held out until 2026-11-23
    write("make me a file called poem.txt with the line: The moon is made of brass", "poem.txt",
          r"^\s*The moon is made of brass\W*$"),
    write("Create a Python file add.py with a function add(a, b) that returns the sum.", "add.py",
          r'def add\(a.*, b.*\).*:\s+(\"\"\".*\"\"\"\s+)?return a \+ b'),
    write("Please save 'Call Henrik at noon' to reminder.txt", "reminder.txt", r"^\W*Call Henrik at noon\W*$"),
    write("Can you write a short README.md for a project called Cormorant?", "README.md", "Cormorant"),
    write("Write a shell script hello.sh that prints 'hello from the attic'.", "hello.sh",
          "(echo|printf) .*hello from the attic"),
    # --- Edit
    edit("Change pelican to heron in hello.txt.", "hello.txt", "The secret word is pelican.\nEnd of file.\n",
         r"is heron\.\s+End of file", gone="pelican"),
    edit("In config.ini, set the port to 9090.", "config.ini", "[server]\nhost = 10.1.2.3\nport = 8080\n",
         r"(?s)host = 10\.1\.2\.3\s+port\s*=\s*9090", gone="8080"),
    edit("Replace the word blue with green in colors.txt.", "colors.txt", "red\nblue\nyellow\n",
         r"red\s+green\s+yellow", gone="blue"),
    edit("Rename the function foo to bar in main.py.", "main.py", "def foo():\n    return 42\n",
         r"def bar\(\):\s+return 42", gone="foo"),
    edit("Fix the spelling mistake 'teh' in letter.txt.", "letter.txt", "Dear Ines,\nI saw teh swans.\n",
         r"Dear Ines,\s+I saw the swans", gone="teh"),
    # held out until 2026-11-23, third lot
    edit("Use the Edit tool to change 'draft' to 'final' in status.txt.", "status.txt", "owner: Osei\nstate: draft\n",
         r"owner: Osei\s+state: final", gone="draft"),
    edit("In todo.md, mark the task 'buy milk' as done by changing [ ] to [x].", "todo.md",
         "- [ ] call Ada\n- [ ] buy milk\n", r"- \[ \] call Ada\s+- \[x\] buy milk"),
    edit("Update the version in version.txt from 1.2.3 to 1.3.0.", "version.txt", "name: otter\nversion: 1.2.3\n",
         r"name: otter\s+version: 1\.3\.0", gone=r"1\.2\.3"),
    edit("The name in card.txt is wrong: it should be Grace instead of Greta. Please correct it.", "card.txt",
         "Happy birthday, Greta!\nSee you on Friday.\n", r"Happy birthday, Grace!\s+See you on Friday", gone="Greta"),
    edit("Change debug from true to false in settings.json.", "settings.json",
         '{\n  "debug": true,\n  "size": 12\n}\n', r'"debug": false,\s+"size": 12', gone="true"),
    # held out until 2026-11-23, fourth lot
    edit("Please change the price of tea to 5 in prices.txt.", "prices.txt", "tea 3\ncoffee 4\nwater 1\n",
         r"tea 5\s+coffee 4\s+water 1"),
    edit("the variable cnt in count.py should be called total, can you rename it", "count.py",
         "cnt = 0\nprint(cnt)\n", r"total = 0\s+print\(total\)", gone="cnt"),
    edit("In index.html, replace the title 'Old' by 'New Otter'.", "index.html",
         "<html>\n<title>Old</title>\n<p>text</p>\n</html>\n", r"<title>New Otter</title>\s+<p>text</p>"),
    edit("Set the log level to debug in logging.conf.", "logging.conf", "file = a.log\nlevel = info\nrotate = 7\n",
         r"file = a\.log\s+level = debug\s+rotate = 7"),
    edit("Correct 'recieve' to 'receive' in mail.md.", "mail.md", "Dear Bo,\ndid you recieve it?\nYours, Al\n",
         r"Dear Bo,\s+did you receive it\?\s+Yours, Al"),
    # --- Chat
    chat("What is 17 plus 25?", "42"),
    chat("Hi! Who are you?"),
    chat("What is the capital of Portugal?", "lisbon"),
    chat("Explain in two sentences what a hash table is.", "key"),
    chat("Translate 'good night' into German.", "gute nacht"),
    chat("What does the git command 'git stash' do?", "stash", paths="main.py"),
    # held out until 2026-11-23
    chat("how do I write a for loop in python?", "for", "in", paths="main.py"),
    chat("What is 9 times 8?", "72"),
    chat("Thanks, that helped a lot!"),
    chat("What is the difference between a list and a tuple in Python?", "tuple"),
    chat("Who wrote Romeo and Juliet?", "shakespeare"),
    chat("Give me three ideas for a name for my cat."),
    # held out until 2026-11-23, fourth lot
    chat("What is JSON?", "data"),
    chat("What is 144 divided by 12?", "12"),
    chat("how do I reverse a list in python?", "revers", paths="main.py"),
    chat("What is express.js used for?", "web"),
    chat("Can you recommend a name for a sailing boat?"),
    chat("What does HTTP status 404 mean?", "not found"),
    chat("Good morning!"),
    chat("Explain the difference between TCP and UDP.", "tcp", paths="notes.md"),
    # --- held out until 2026-11-29
    # --- Read
    read("can you check what port is configured in settings.toml?",
         {"settings.toml": '[server]\nhost = "0.0.0.0"\nport = 6543\n'}, "6543"),
    read("Who is responsible for the garden? It's in duties.md.",
         {"duties.md": "# Duties\n\nkitchen: Otto\ngarden: Ludmila\ncellar: Femi\n"}, "ludmila"),
    read("What does the function in utils/text.js return?",
         {"utils/text.js": "export function label() {\n  return 'marzipan';\n}\n"}, "marzipan"),
    read("Read password_hint.txt to me.", {"password_hint.txt": "name of the first parrot\n"}, "parrot"),
    read("I forgot the phone number of the plumber, it should be somewhere in contacts.txt",
         {"contacts.txt": "baker 555-0143\nplumber 555-0178\ndentist 555-0121\n"}, "0178"),
    read("What is the first line of poem.txt?", {"poem.txt": "Beneath the copper moon\nthe river sleeps\n"},
         "copper moon"),
    read("Explain what the script deploy.sh does.", {"deploy.sh": "#!/bin/sh\nrsync -a site/ /srv/walnut/\n"},
         "walnut"),
    read("Which license does this project have? Look at LICENSE.",
         {"LICENSE": "Mozilla Public License Version 2.0\n"}, "mozilla"),
    read("What was the temperature on Tuesday according to data/weather.csv?",
         {"data/weather.csv": "day,celsius\nMonday,14\nTuesday,23\nWednesday,18\n"}, "23"),
    read("Please tell me the name of the main class in App.java.",
         {"App.java": "public class PelicanApp {\n    int size = 3;\n}\n"}, "pelicanapp"),
    read("Take a look at Procfile and tell me the command of the worker.",
         {"Procfile": "web: gunicorn app\nworker: celery-owl -q\n"}, "celery-owl"),
    read("summarize minutes.md", {"minutes.md": "# Minutes\n\nWe decided to buy a trombone for the orchestra.\n"},
         "trombone"),
    # --- Glob
    glob("show me all the yaml files", "anchor.yaml ci/ribbon.yaml main.rs", "anchor", "ribbon"),
    glob("Which images (png files) are in the assets directory?",
         "assets/puffin.png assets/comet.png assets/style.css", "puffin.png", "comet.png"),
    glob("Find the file named Makefile.", "tools/gravel/Makefile main.c", "gravel"),
    glob("What .html files do we have?", "index.html pages/saffron.html app.js", "index.html", "saffron.html"),
    glob("Give me a list of all C source files (*.c) in this repo.", "src/tundra.c src/io/beacon.c src/io/beacon.h",
         "tundra.c", "beacon.c"),
    glob("Where is the file orchid.txt?", "archive/velvet/orchid.txt readme.md", "velvet"),
    glob("Find all files in the logs folder whose name starts with error.",
         "logs/error-harp.log logs/error-mint.log logs/access.log", "error-harp.log", "error-mint.log"),
    glob("Please look for rust files and tell me what they are called.", "src/lynx.rs src/bin/quarry.rs Cargo.toml",
         "lynx.rs", "quarry.rs"),
    glob("Are there any .sql files in here?", "db/parsnip.sql db/readme.md", "parsnip.sql"),
    glob("List every file in the notes directory.", "notes/tulip.md notes/marble.txt main.py", "tulip.md",
         "marble.txt"),
    # --- Write
    write("Create a file called haiku.txt with a haiku about the sea.", "haiku.txt", r"(?s)\w.*\n.*\w"),
    write("write 'meeting moved to Friday' into note.txt please", "note.txt", "(?i)meeting moved to Friday"),
    write("Make a .gitignore that ignores *.pyc and the folder build.", ".gitignore",
          r"(?s)^(?=.*\*\.pyc)(?=.*build)"),
    write("Create a JavaScript file sum.js with a function that adds two numbers.", "sum.js",
          r"(return|=>)\s*\w+\s*\+\s*\w+"),
    write("Generate a requirements.txt with requests and numpy in it.", "requirements.txt",
          "(?s)^(?=.*requests)(?=.*numpy)"),
    write("Add a new file styles.css in which the body has a grey background.", "styles.css",
          r"body\s*\{[^}]*background(-color)?:\s*(grey|gray|#)"),
    write("Please write a small HTML page index.html with the headline 'Hello Otter'.", "index.html",
          r"<h[1-6][^>]*>\s*Hello Otter"),
    write("create the file src/config.yml with the key timeout set to 30", "src/config.yml", r"timeout:\s*30"),
    write("I want a to-do list in todo.md with three items: sweep, cook, sleep.", "todo.md",
          "(?is)sweep.*cook.*sleep"),
    write("Put today's motto 'Slow and steady' in motto.txt", "motto.txt", "Slow and steady"),
    # --- Edit
    edit("Raise the timeout in fetch.py to 60.", "fetch.py", "timeout = 20\nretries = 3\n",
         r"timeout = 60\s+retries = 3"),
    edit("Please make the word 'lake' in travel.md 'ocean'.", "travel.md",
         "# Travel\n\nWe swam in the lake.\nIt rained.\n", r"# Travel\s+We swam in the ocean\.\s+It rained"),
    edit("Otto moved: his street in addresses.txt is Elm Road now.", "addresses.txt",
         "Ida, Oak Street\nOtto, Fir Lane\nUte, Ash Court\n", r"Ida, Oak Street\s+Otto, Elm Road\s+Ute, Ash Court"),
    edit("turn off verbose in options.yaml", "options.yaml", "colour: auto\nverbose: true\nlimit: 9\n",
         r"colour: auto\s+verbose: (false|off|no)\s+limit: 9"),
    # --- Chat
    chat("What is 33 minus 8?", "25"),
    chat("What is YAML?", "data"),
    chat("how do I check if a string is empty in bash?", "-z", paths="run.sh"),
    chat("What does the D in SOLID stand for?", "dependency"),
    chat("Say hello in three languages."),
    chat("Which is bigger, a kilobyte or a megabyte?", "megabyte"),
    # --- About (2026-11-29): where the answers quoted the chat template's examples
    about("What does this repository do?",
          {"README.md": "# Larkspur\n\nSorts old photographs by the shadows in them.\n", "lark.py": "print(1)\n"},
          "photo"),
    about("what is this project about?",
          {"README.md": "# Otis\n\nOtis rings a gong when a lift is stuck.\n", "otis.go": "package main\n"}, "lift"),
    about("Explain this codebase to me.",
          {"main.py": "def weigh(parcel):\n    return parcel.grams\n", "README.md": "Weighs parcels in a shop.\n"},
          "parcel"),
    about("How do I start the application in this repo?",
          {"README.md": "# Fennel\n\nRun `make serve` to start it.\n", "Makefile": "serve:\n\tpython3 app.py\n"},
          "make serve"),
)

HELD_OUT: tuple[Task, ...] = (
    # --- Read
    read("What's in ingredients.txt?", {"ingredients.txt": "rye flour\ncaraway\nwater\n"}, "caraway"),
    read("Tell me the name of the ship in voyage.md.",
         {"voyage.md": "# Voyage\n\nThe Esmeralda left on a Monday.\n"}, "esmeralda"),
    read("what does max_users mean in limits.yml, and what is it set to?",
         {"limits.yml": "max_users: 350\nmax_rooms: 12\n"}, "350"),
    read("Please look at src/cart.py. Which function computes the total?",
         {"src/cart.py": "def add(item):\n    pass\n\ndef sum_basket(items):\n    return sum(i.price for i in items)"},
         "sum_basket"),
    read("Which packages does environment.yml install?",
         {"environment.yml": "name: bio\ndependencies:\n  - samtools\n  - pandas\n"}, "samtools", "pandas"),
    read("When is the dentist appointment? I wrote it down in diary.txt.",
         {"diary.txt": "4 June cinema\n11 June dentist, 15:20\n"}, "15:20"),
    read("Is there a bug in average.py?",
         {"average.py": "def average(numbers):\n    return sum(numbers) / len(number)\n"}, "number"),
    read("What does the comment at the top of main.rs say?",
         {"main.rs": "// Counts the steps of a heron.\nfn main() {\n    println!(\"0\");\n}\n"}, "heron"),
    # --- Glob
    glob("Which Java files are there?", "src/Turtle.java src/Basin.java pom.xml", "turtle", "basin"),
    glob("find all files that end with .tmp", "cache/aspen.tmp lupin.tmp keep.txt", "aspen.tmp", "lupin.tmp"),
    glob("Do we have a docker-compose.yml anywhere?", "infra/meadow/docker-compose.yml app.py", "meadow"),
    glob("list the images in the folder pictures", "pictures/fig.jpg pictures/quince.jpg text.md", "fig.jpg",
         "quince.jpg"),
    glob("What tests does this project have? Just the file names.", "tests/test_owl.py tests/test_reed.py setup.py",
         "test_owl", "test_reed"),
    glob("In which directory is the file schema.graphql?", "api/copper/schema.graphql package.json", "copper"),
    glob("Give me the names of all Go files.", "harrow.go cmd/thistle.go go.mod", "harrow.go", "thistle.go"),
    glob("How many CSS files are in here, and what are they called?", "web/ivory.css web/dusk.css web/app.js",
         "ivory.css", "dusk.css"),
    # --- Write
    write("Create the file names.txt with three first names, one a line.", "names.txt",
          r"(?m)^\W*\w+\s*\n\W*\w+\s*\n\W*\w+"),
    write("Write 'do not disturb' to sign.txt", "sign.txt", "(?i)do not disturb"),
    write("Add a file square.py with a function that squares a number.", "square.py",
          r"return \w+\s*(\*\*\s*2|\*\s*\w+)"),
    write("please make an empty package.json with only the name heron and version 1.0.0", "package.json",
          r"(?s)\"name\":\s*\"heron\".*1\.0\.0"),
    write("Create a Dockerfile that starts from python:3.12 and copies the app.", "Dockerfile",
          r"(?s)FROM python:3\.12.*COPY"),
    write("Save a short thank-you letter to Aunt Rosa as letter.md.", "letter.md", "Rosa"),
    # --- Edit
    edit("Change the city in profile.json from Oslo to Turin.", "profile.json",
         '{\n  "name": "Ada",\n  "city": "Oslo"\n}\n', r'"name": "Ada",\s+"city": "Turin"', gone="Oslo"),
    edit("in volume.ini the volume should be 40", "volume.ini", "[sound]\nvolume = 75\nbalance = 0\n",
         r"volume = 40\s+balance = 0"),
    # --- Chat
    chat("What is 12 times 12?", "144"),
    chat("Which city is the capital of Kenya?", "nairobi"),
    chat("hello there"),
    chat("What does a compiler do?", "code"),
    chat("How do I sort a dictionary by value in Python?", "sort", paths="data.py"),
    chat("What is a monad? One sentence, please."),
    chat("Write me a limerick about a programmer."),
    chat("What did I ask you first?"),
    # --- About
    about("What is this repository for?",
          {"README.md": "# Tansy\n\nTansy predicts the tides at Brest from old logbooks.\n", "tansy.py": "print(2)\n"},
          "tide"),
    about("Summarize this project in two sentences.",
          {"README.md": "# Brindle\n\nBrindle translates knitting patterns into machine code.\n",
           "src/brindle.c": "int main(void) { return 0; }\n"}, "knitting"),
    about("what language is this written in?", {"src/hall.rs": "fn main() {}\n", "Cargo.toml": "[package]\n"}, "rust"),
    about("What does the code in this folder do?",
          {"moth.py": "import time\n\ndef count_moths(lamp):\n    return lamp.moths\n"}, "moth"),
    about("How do I run the tests here?",
          {"README.md": "# Wren\n\n## Tests\n\nRun `tox -e fast`.\n", "wren.py": "print(3)\n"}, "tox"),
    about("Who maintains this project?",
          {"README.md": "# Plover\n\nMaintained by Ifeoma Adeyemi.\n", "plover.js": "let a = 1;\n"}, "ifeoma"),
)
# fmt: on
