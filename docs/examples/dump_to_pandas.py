#!/usr/bin/env python3
"""Opens a dump without the recorder: pip install mcap mcap-protobuf-support pandas

Usage: dump_to_pandas.py DUMP

Prints what the dump is about, how many events of each type it has, who used most, and how processes ended.
"""

import json
import sys

import pandas
from google.protobuf.json_format import MessageToDict
from mcap.reader import make_reader
from mcap_protobuf.decoder import DecoderFactory


def read(path):
    """Returns what the dump says of itself, and its events as a table."""
    with open(path, "rb") as file:
        reader = make_reader(file, decoder_factories=[DecoderFactory()])
        about = {record.name: json.loads(record.metadata["json"]) for record in reader.iter_metadata()}
        rows = [
            {
                "time": message.log_time,
                "type": channel.topic,
                "cpu": channel.metadata.get("cpu"),
                **MessageToDict(event, preserving_proto_field_name=True),
            }
            for _, channel, message, event in reader.iter_decoded_messages()
        ]
    events = pandas.json_normalize(rows)
    events["time"] = pandas.to_datetime(events["time"], unit="ns", utc=True)
    return about, events


def main(path):
    about, events = read(path)
    print(about["recorder.incident"]["summary"])
    print(f"on {about['recorder.host']['hostname']}, loss: {about['recorder.loss']['verdict']}\n")
    print(events["type"].value_counts().to_string(), "\n")
    exits = events[events["type"] == "process.exit"]
    columns = ["time", "process.pid", "process.comm", "signal.name", "exit_code"]
    failed = exits[exits.reindex(columns=columns)["signal.name"].notna()]
    print(failed.reindex(columns=columns).to_string(index=False))


if __name__ == "__main__":
    main(sys.argv[1])
