"""A machine from its recording: RECORDED_MACHINE holds the arguments of RecordedMachine as JSON, RECORDED_RESULT the
file that says afterwards what was done to it. pyinfra's @fake runs it, with the machine's answers instead of canned
ones."""

import atexit as _atexit
import json as _json
import os as _os
from pathlib import Path as _Path
from typing import Any as _Any

from pyinfra.connectors.fake import FakeConnector as _FakeConnector
from pyinfra.connectors.util import CommandOutput as _CommandOutput
from pyinfra.connectors.util import OutputLine as _OutputLine

from tests.plan.recorded_machine import RecordedMachine as _RecordedMachine

_machine = _RecordedMachine(**_json.loads(_os.environ["RECORDED_MACHINE"]))


def _answer(_: _FakeConnector, command: str) -> tuple[bool, _CommandOutput]:
    ok, lines = _machine.run(command)
    return ok, _CommandOutput([_OutputLine("stdout", line) for line in lines])


def _put_file(_: _FakeConnector, content: _Any, remote_filename: str, *rest: _Any, **options: _Any) -> bool:
    data = _Path(content).read_bytes() if isinstance(content, str) else content.getvalue()
    text = data if isinstance(data, str) else data.decode("utf-8", "replace")
    _machine.uploads[remote_filename.removesuffix(".claude-local-new")] = text
    return True


_FakeConnector._lookup_response = _answer
_FakeConnector.put_file = _put_file
_atexit.register(lambda: _Path(_os.environ["RECORDED_RESULT"]).write_text(_json.dumps(_machine.dump())))

recorded = [("@fake/recorded", {"fake_delay": 0, "fake_delay_jitter": 0})]
