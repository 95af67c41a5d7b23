"""psycopg 3 with pgvector's adapters: parameters and results as text and in binary, COPY in both formats."""

import psycopg
from pgvector import Bit, HalfVector, SparseVector, Vector
from pgvector.psycopg import register_vector

import tap
from common import DIMENSIONS, LIMIT, ROWS, SEARCHES, TYPES, check_rows, check_search, check_version, column_type, operator_class

WRAP = {"embedding": Vector, "half": HalfVector, "sparse": SparseVector, "bits": Bit}
COLUMNS = ", ".join(DIMENSIONS)


def wrapped(row):
    return [row["id"], *(WRAP[column](row[column]) for column in DIMENSIONS)]


def plain(record):
    row = {"id": record[0]}
    for column, value in zip(DIMENSIONS, record[1:]):
        # bit comes back as text, or in its binary form
        if column == "bits":
            row[column] = value if isinstance(value, str) else Bit.from_binary(value).to_text()
        else:
            row[column] = value.to_list()
    return row


def stored(connection, binary=False):
    return [plain(record) for record in connection.cursor(binary=binary).execute(f"SELECT id, {COLUMNS} FROM items")]


def main():
    connection = psycopg.connect(autocommit=True)
    connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
    check_version(connection.execute("SELECT extversion FROM pg_extension WHERE extname = 'vector'").fetchone()[0])
    register_vector(connection)
    connection.execute(f"CREATE TABLE items (id int PRIMARY KEY, {', '.join(f'{c} {column_type(c)}' for c in DIMENSIONS)})")
    for search in SEARCHES:
        connection.execute(f"CREATE INDEX ON items USING hnsw ({search['column']} {operator_class(search)}) WITH (m = 8, ef_construction = 32)")

    placeholders = ", ".join(["%s"] * (len(DIMENSIONS) + 1))
    for mark in ("%t", "%b"):
        connection.execute("DELETE FROM items")
        connection.cursor().executemany(f"INSERT INTO items VALUES ({placeholders.replace('%s', mark)})", map(wrapped, ROWS))
        check_rows(stored(connection, binary=mark == "%b"), f"rows, {'text' if mark == '%t' else 'binary'}")

    for form in ("text", "binary"):
        connection.execute("DELETE FROM items")
        with connection.cursor().copy(f"COPY items FROM STDIN (FORMAT {form})") as copy:
            if form == "binary":
                copy.set_types(["int4", *TYPES.values()])
            for row in ROWS:
                copy.write_row(wrapped(row))
        check_rows(stored(connection), f"COPY FROM, {form}")
        with connection.cursor().copy(f"COPY (SELECT id, {COLUMNS} FROM items) TO STDOUT (FORMAT {form})") as copy:
            copy.set_types(["int4", *TYPES.values()])
            check_rows([plain(record) for record in copy.rows()], f"COPY TO, {form}")

    for search in SEARCHES:
        column, operator = search["column"], search["operator"]
        query = WRAP[column](search["query"])
        for mark, how in (("%t", ", text"), ("%b", ", binary")):
            # the operators < % > need their percent sign twice here
            distance = f"{column} {operator.replace('%', '%%')} {mark}::{TYPES[column]}{'' if column != 'bits' else f'({DIMENSIONS[column]})'}"
            found = connection.cursor(binary=mark == "%b").execute(
                f"SELECT id, {distance} FROM items ORDER BY {distance} LIMIT {LIMIT}", [query, query]).fetchall()
            check_search(search, found, how)

    try:
        connection.execute("INSERT INTO items (id, embedding) VALUES (0, %s)", [Vector([1, 2])])
    except psycopg.errors.DataException as error:
        tap.equal((error.sqlstate, error.diag.message_primary), ("22000", "expected 8 dimensions, not 2"), "error")


tap.run(main)
