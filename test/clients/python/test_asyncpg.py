"""asyncpg with pgvector's codecs: everything in binary, prepared statements, COPY of records."""

import asyncio

import asyncpg
from pgvector import HalfVector, SparseVector, Vector
from pgvector.asyncpg import register_vector

import tap
from common import DIMENSIONS, LIMIT, ROWS, SEARCHES, check_rows, check_search, check_version, column_type, operator_class

WRAP = {"embedding": Vector, "half": HalfVector, "sparse": SparseVector, "bits": asyncpg.BitString}


def wrapped(row):
    return [row["id"], *(WRAP[column](row[column]) for column in DIMENSIONS)]


async def stored(connection):
    return [{"id": record["id"], "bits": record["bits"].as_string().replace(" ", "")}
            | {column: record[column].to_list() for column in DIMENSIONS if column != "bits"}
            for record in await connection.fetch("SELECT * FROM items")]


async def run():
    connection = await asyncpg.connect()
    await connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
    check_version(await connection.fetchval("SELECT extversion FROM pg_extension WHERE extname = 'vector'"))
    await register_vector(connection)
    await connection.execute(f"CREATE TABLE items (id int PRIMARY KEY, {', '.join(f'{c} {column_type(c)}' for c in DIMENSIONS)})")
    for search in SEARCHES:
        await connection.execute(f"CREATE INDEX ON items USING hnsw ({search['column']} {operator_class(search)})")

    await connection.executemany("INSERT INTO items VALUES ($1, $2, $3, $4, $5)", map(wrapped, ROWS))
    check_rows(await stored(connection), "rows")
    await connection.execute("DELETE FROM items")
    await connection.copy_records_to_table("items", records=map(wrapped, ROWS), columns=["id", *DIMENSIONS])
    check_rows(await stored(connection), "COPY of records")

    for search in SEARCHES:
        column = search["column"]
        distance = f"{column} {search['operator']} $1"
        statement = await connection.prepare(f"SELECT id, {distance} AS distance FROM items ORDER BY {distance} LIMIT {LIMIT}")
        # the seventh execution uses a generic plan
        for _ in range(7):
            records = await statement.fetch(WRAP[column](search["query"]))
        check_search(search, [(record["id"], record["distance"]) for record in records])
    await connection.close()


tap.run(lambda: asyncio.run(run()))
