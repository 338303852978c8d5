"""Reads the attachments of a dump with the public MCAP package alone, and prints them as one JSON object.

Usage: read_attachments.py DUMP
"""

import json
import sys

from mcap.reader import make_reader


def main(path: str) -> None:
    with open(path, "rb") as stream:
        reader = make_reader(stream, validate_crcs=True)
        summary = reader.get_summary()
        attachments = {
            attachment.name: {
                "media_type": attachment.media_type,
                "create_time": attachment.create_time,
                "log_time": attachment.log_time,
                "text": attachment.data.decode("utf-8", "replace"),
            }
            for attachment in reader.iter_attachments()
        }
    result = {"attachments": attachments, "stated": summary.statistics.attachment_count}
    json.dump(result, sys.stdout)


main(sys.argv[1])
