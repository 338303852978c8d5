"""Reads a dump with the public MCAP packages alone, and prints what it found as one JSON object.

Usage: read_dump.py DUMP
"""

import json
import sys
from collections import Counter

from google.protobuf.json_format import MessageToDict
from mcap.reader import make_reader
from mcap_protobuf.decoder import DecoderFactory


def main(path: str) -> None:
    topics: Counter[str] = Counter()
    schemas: dict[str, str] = {}
    fatal = []
    exits = []
    last_time = 0
    in_order = True
    with open(path, "rb") as stream:
        reader = make_reader(stream, validate_crcs=True, decoder_factories=[DecoderFactory()])
        header = reader.get_header()
        summary = reader.get_summary()
        metadata = {record.name: dict(record.metadata) for record in reader.iter_metadata()}
        for schema, channel, message, decoded in reader.iter_decoded_messages():
            topics[channel.topic] += 1
            schemas[channel.topic] = schema.name
            in_order = in_order and last_time <= message.log_time
            last_time = message.log_time
            if channel.topic in ("signal.fatal", "process.exit"):
                known = MessageToDict(decoded, preserving_proto_field_name=True)
                known["log_time"] = message.log_time
                (fatal if channel.topic == "signal.fatal" else exits).append(known)
    result = {
        "library": header.library,
        "profile": header.profile,
        "messages": summary.statistics.message_count,
        "topics": topics,
        "schemas": schemas,
        "metadata": metadata,
        "in_order": in_order,
        "signal.fatal": fatal,
        "process.exit": exits,
    }
    json.dump(result, sys.stdout)


main(sys.argv[1])
