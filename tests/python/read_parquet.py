"""Reads Parquet with DuckDB and with pyarrow, and prints what both found as one JSON object.

Usage: read_parquet.py PATH PID

PATH is a file, or a directory parted by host and day.
"""

import json
import os
import sys

import duckdb
import pyarrow.dataset


def main(path: str, pid: str) -> None:
    is_directory = os.path.isdir(path)
    source = f"{path}/**/*.parquet" if is_directory else path
    relation = f"read_parquet('{source}', hive_partitioning = {is_directory})"
    count = duckdb.sql(f"select count(*) from {relation}").fetchall()[0][0]
    fatal = duckdb.sql(
        f"""select "order", epoch_ns("timestamp") as unix_ns, comm, signal, host,
            json_extract_string(body, '$.code.name') as code
            from {relation} where type = 'signal.fatal' and pid = {int(pid)}"""
    ).fetchall()
    caused = duckdb.sql(
        f"""select e.type, c.type from {relation} e join {relation} c on c."order" = e.cause
            where e.pid = {int(pid)}"""
    ).fetchall()
    partitioning = "hive" if is_directory else None
    table = pyarrow.dataset.dataset(path, format="parquet", partitioning=partitioning).to_table()
    result = {
        "duckdb": count,
        "pyarrow": table.num_rows,
        "columns": table.column_names,
        "timestamp": str(table.schema.field("timestamp").type),
        "fatal": [list(row) for row in fatal],
        "caused": [list(row) for row in caused],
        "days": sorted(set(map(str, table["day"].to_pylist()))) if is_directory else [],
    }
    json.dump(result, sys.stdout)


main(*sys.argv[1:])
