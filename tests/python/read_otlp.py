"""Parses OpenTelemetry logs by their own Protobuf schema, and prints what is in them as one JSON object.

Usage: read_otlp.py FILE PID
"""

import json
import sys

from google.protobuf import json_format
from opentelemetry.proto.logs.v1.logs_pb2 import LogsData


def value(of):
    kind = of.WhichOneof("value")
    return getattr(of, kind) if kind in ("string_value", "int_value", "bool_value", "double_value") else kind


def main(path: str, pid: str) -> None:
    count = 0
    found = []
    resources = []
    with open(path, encoding="utf-8") as stream:
        for line in stream:
            batch = json_format.Parse(line, LogsData())
            for resource in batch.resource_logs:
                resources.append({one.key: value(one.value) for one in resource.resource.attributes})
                for record in resource.scope_logs[0].log_records:
                    count += 1
                    attributes = {one.key: value(one.value) for one in record.attributes}
                    if attributes.get("process.pid") == int(pid):
                        found.append({
                            "time": record.time_unix_nano,
                            "severity": record.severity_number,
                            "event": record.event_name,
                            "message": record.body.string_value,
                            "attributes": attributes,
                        })
    json.dump({"count": count, "events": found, "resource": resources[0]}, sys.stdout)


main(*sys.argv[1:])
