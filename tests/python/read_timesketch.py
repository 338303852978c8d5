"""Takes a timeline in as Timesketch's server does, and prints the events of one process as one JSON object.

Usage: read_timesketch.py jsonl|csv FILE PID
"""

import json
import sys

from timesketch.lib import utils

READERS = {"jsonl": utils.read_and_validate_jsonl, "csv": utils.read_and_validate_csv}


def main(kind: str, path: str, pid: str) -> None:
    count = 0
    found = []
    with open(path, encoding="utf-8") as stream:
        for event in READERS[kind](stream):
            count += 1
            if str(event.get("pid", "")).split(".")[0] == pid:
                found.append({name: str(value) for name, value in event.items()})
    json.dump({"count": count, "events": found}, sys.stdout)


main(*sys.argv[1:])
