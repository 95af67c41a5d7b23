"""The cases, and how a client's answers are judged; each test_*.py beside this file is one client."""

import json
import os

import tap

with open(os.environ["CASES"], encoding="ascii") as file:
    CASES = json.load(file)
ROWS, SEARCHES, DIMENSIONS = CASES["rows"], CASES["searches"], CASES["dimensions"]
LIMIT = 5

# The operator classes that serve each operator.
CLASSES = {"<->": "l2", "<#>": "ip", "<=>": "cosine", "<+>": "l1", "<~>": "hamming", "<%>": "jaccard"}
TYPES = {"embedding": "vector", "half": "halfvec", "sparse": "sparsevec", "bits": "bit"}


def operator_class(search):
    return f"{TYPES[search['column']]}_{CLASSES[search['operator']]}_ops"


def column_type(column):
    return f"{TYPES[column]}({DIMENSIONS[column]})"


def check_version(version):
    tap.ok(tuple(map(int, version.split(".")[:2])) >= (0, 8), f"extension vector {version}")


def close(a, b):
    return abs(a - b) <= 1e-5 * max(1, abs(b))


def check_search(search, found, how=""):
    """found: pairs of id and distance, nearest first.  Rows at the same distance may come in any order."""
    name = f"{search['column']} {search['operator']}{how}"
    distances = search["distances"]
    tap.ok(len({key for key, _ in found}) == LIMIT
           and all(close(distance, distances[key - 1]) for key, distance in found)
           and all(close(distances[key - 1], want) for (key, _), want in zip(found, sorted(distances))), name)


def check_rows(found, name):
    """found: dictionaries like those of ROWS."""
    tap.equal(sorted(found, key=lambda row: row["id"]), ROWS, name)
