"""What peers that are libraries do: peers.py NAME SOURCE TARGET SINCE."""
import sys
from pathlib import Path


def duckdb(source, target, since):
    import duckdb

    connection = duckdb.connect(config={"threads": 2})
    connection.execute("SET preserve_insertion_order = false")
    # Whole objects and times as text: of what was tried (columns by schema, lines by read_csv, times as timestamps) the
    # quickest way, and the bytes stay as they are.
    connection.execute(f"""
        COPY (SELECT json->>'$.resourceType' AS type, json
              FROM read_ndjson_objects('{source}', maximum_object_size = 4000000)
              WHERE json->>'$.meta.lastUpdated' >= '{since}')
        TO '{target}/out' (FORMAT csv, HEADER false, DELIMITER e'\\x02', QUOTE '', ESCAPE '', PARTITION_BY (type))
    """)


def polars(source, target, since):
    import polars

    for file in sorted(Path(source).glob("*.ndjson")):
        frame = polars.scan_ndjson(file)
        kept = frame.filter(polars.col("meta").struct.field("lastUpdated") >= since)
        kept.sink_ndjson(Path(target) / file.name)


def datafusion(source, target, since):
    import datafusion

    context = datafusion.SessionContext(datafusion.SessionConfig().with_target_partitions(2))
    for file in sorted(Path(source).glob("*.ndjson")):
        name = file.stem.lower()
        context.register_json(name, str(file), file_extension=".ndjson")
        query = f"COPY (SELECT * FROM {name} WHERE meta['lastUpdated'] >= '{since}') TO '{target}/{name}.json' STORED AS JSON"
        context.sql(query).collect()


def obstore(source, target, _since):
    import obstore
    from obstore.store import S3Store

    store = S3Store("bench", endpoint=target, access_key_id="AKIDEXAMPLE", secret_access_key="wJalrEXAMPLEKEY",
                    region="us-east-1", unsigned_payload=True, client_options={"allow_http": True})
    for file in sorted(Path(source).rglob("*.ndjson")):
        obstore.put(store, f"obstore/{file.name}", file, chunk_size=8 << 20, max_concurrency=8)


def cut(source, target, _since):
    """The first 64 MiB, by type and then as a whole: that it is there says that all are."""
    with open(source, "rb") as data:
        lines = data.read(64 << 20).split(b"\n")[:-1]
    files = {}
    for line in lines:
        name = line.split(b'"', 4)[3].decode()
        files.setdefault(name, []).append(line)
    for name, own in files.items():
        (Path(target) / f"{name}.ndjson").write_bytes(b"\n".join(own) + b"\n")
    (Path(target) / "slice.all").write_bytes(b"\n".join(lines) + b"\n")


if __name__ == "__main__":
    name, *rest = sys.argv[1:]
    {"duckdb": duckdb, "polars": polars, "datafusion": datafusion, "obstore": obstore, "slice": cut}[name](*rest)
