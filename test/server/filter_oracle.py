#!/usr/bin/env python3
"""Random filters and the rows that they match, computed the plain way.

    filter_oracle.py COUNT SEED < rows.jsonl > filters.tsv

Reads one row a line, as to_jsonb() shows it, with an integer "id"; writes one filter a line, a tab, and the ids of
the rows that match, as a PostgreSQL array.  The columns are those of test/t/050_filter.pl.
"""

import datetime
import json
import random
import sys
from decimal import Decimal

STRINGS = ["a", "b", "B", "", "Zoë", "日本", "o'brien", "x\"y", "\\", "{}", "%", "'; DROP TABLE t; --", "$1", "a.b", "\U0001f3b5"]
INJECTION = ["1) OR (1=1", "'); DROP TABLE items; --", "$eq", "\\'; SELECT 1 --", "E'\\''"]
NUMBERS = [-7, 0, 1, 2, 3, 10, 100]
DATES = ["1969-07-20", "1999-12-31", "2000-01-01", "2024-02-29", "2026-11-21"]
UUIDS = [f"00000000-0000-4000-8000-00000000000{i}" for i in range(4)]
COLUMNS = {
    "i": "int", "b8": "int", "n": "number", "f4": "number", "f8": "number", "ok": "bool", "t": "string", "v": "string",
    "d": "date", "ts": "time", "tz": "time", "u": "uuid", "e": "enum", "odd \"Name'": "string", "dotted.name": "int",
    "tags": "string[]", "nums": "int[]", "days": "date[]", "j": "json", "plain": "json",
    "j.k": "json", "j.k.l": "json", "j.list": "json", "j.list.0": "json", "plain.k": "json", "j.o'x": "json",
}
MOODS = ["sad", "ok", "happy"]


class Oracle:
    def __init__(self, seed):
        self.random = random.Random(seed)

    # ---- making filters

    def scalar(self, kind):
        r = self.random
        if kind == "int":
            return r.choice(NUMBERS)
        if kind == "number":
            return r.choice(NUMBERS + [0.5, 0.1, 2.25, 1e10, 0.123456789012])
        if kind == "bool":
            return r.random() < 0.5
        if kind == "date":
            return r.choice(DATES)
        if kind == "time":
            return r.choice(DATES) + r.choice(["", "T10:00:00", "T10:00:00.5", "T23:59:59"])
        if kind == "uuid":
            return r.choice([r.choice(UUIDS), r.choice(UUIDS).upper()])
        if kind == "enum":
            return r.choice(MOODS)
        if kind == "json":
            return self.scalar(r.choice(["int", "number", "bool", "string"]))
        return r.choice(STRINGS + INJECTION)

    def value(self, kind):
        if kind == "json" and self.random.random() < 0.15:
            return self.random.choice([[], [1, 2], {"l": 1}, ["a"], {}, [1, "a", None], [[1]]])
        if kind.endswith("[]"):
            element = kind[:-2]
            if self.random.random() < 0.3:
                return [self.scalar(element) for _ in range(self.random.randint(0, 3))]
            return self.scalar(element)
        return self.scalar(kind)

    def maybe_null(self, value, share=0.08):
        return None if self.random.random() < share else value

    def operator(self, kind):
        r = self.random
        ranged = not kind.endswith("[]") and kind != "bool"
        op = r.choice(["$eq", "$ne", "$in", "$nin", "$exists", "$not"] + ["$gt", "$gte", "$lt", "$lte"] * ranged +
                      ["$contains"] * (kind.endswith("[]") or kind == "json"))
        if op in ("$eq", "$ne"):
            return op, self.maybe_null(self.value(kind))
        if op in ("$in", "$nin"):
            element = kind.removesuffix("[]")
            return op, [self.maybe_null(self.scalar(element)) for _ in range(r.randint(0, 4))]
        if op == "$exists":
            return op, r.random() < 0.5
        if op == "$not":
            inner = self.operator(kind)
            return op, dict([inner])
        if op == "$contains":
            return op, self.value(kind)
        value = self.scalar(kind)
        return op, value if not isinstance(value, bool) else 1

    def filter(self, depth=0):
        r = self.random
        if depth < 4 and r.random() < 0.45:
            kind = r.choice(["$and", "$or", "$not", "several"])
            if kind == "$not":
                return {"$not": self.filter(depth + 1)}
            if kind == "several":
                return {**self.filter(depth + 1), **self.filter(depth + 1)}
            return {kind: [self.filter(depth + 1) for _ in range(r.randint(0, 3))]}
        if r.random() < 0.02:
            return {}
        column = r.choice(list(COLUMNS))
        kind = COLUMNS[column]
        if r.random() < 0.3:
            value = self.maybe_null(self.value(kind))
            if not isinstance(value, dict):
                return {column: value}
        return {column: dict(self.operator(kind) for _ in range(r.choice([1, 1, 1, 2])))}


# ---- evaluating them


def place(row, key):
    if key in row:
        return row[key]
    parts = key.split(".")
    value = row.get(parts[0])
    for part in parts[1:]:
        if isinstance(value, dict):
            value = value.get(part)
        elif isinstance(value, list) and part.lstrip("-").isdigit():
            value = value[int(part)] if -len(value) <= int(part) < len(value) else None
        else:
            return None
    return value


def comparable(value, kind):
    """A key for sorting and equality, or None where JSON has another type than it should."""
    if isinstance(value, bool):
        return ("bool", value)
    if isinstance(value, (int, Decimal)):
        return ("number", Decimal(value))
    if isinstance(value, float):
        return ("number", Decimal(repr(value)))
    if kind == "time":
        moment = datetime.datetime.fromisoformat(value)
        return ("time", moment if moment.tzinfo else moment.replace(tzinfo=datetime.timezone.utc))
    if kind == "enum":
        return ("enum", MOODS.index(value))
    if kind == "uuid":
        return ("uuid", value.lower())
    return ("string", value)


def special(value):
    return value in ("NaN", "Infinity", "-Infinity")


def equal(a, b, kind):
    if b is None or a is None:
        return a is None and b is None
    if isinstance(a, (dict, list)) or isinstance(b, (dict, list)):
        return json_equal(a, b)
    if kind == "number" and special(a):
        return False
    return comparable(a, kind) == comparable(b, kind)


def json_equal(a, b):
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(json_equal(x, y) for x, y in zip(a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(json_equal(a[k], b[k]) for k in a)
    if isinstance(a, (dict, list)) or isinstance(b, (dict, list)):
        return False
    return a is None and b is None if a is None or b is None else comparable(a, "json") == comparable(b, "json")


def has(value, wanted, kind):
    """The value equals the wanted one, or is a list that has it."""
    if isinstance(value, list) and not isinstance(wanted, (list, dict)) and wanted is not None:
        if kind.endswith("[]"):
            value = flat(value)
        return any(equal(x, wanted, kind.removesuffix("[]")) for x in value if not isinstance(x, (list, dict)))
    return equal(value, wanted, kind.removesuffix("[]"))


def flat(value):
    """The elements of an array column, whatever its dimensions."""
    return [y for x in value for y in (flat(x) if isinstance(x, list) else [x])]


def contains(value, wanted, top=True):
    """JSON containment, as PostgreSQL defines it."""
    if isinstance(wanted, dict):
        return isinstance(value, dict) and all(k in value and contains(value[k], v, False) for k, v in wanted.items())
    if isinstance(wanted, list):
        return isinstance(value, list) and all(
            any(contains(x, w, False) if isinstance(w, (list, dict)) else json_equal(x, w) for x in value) for w in wanted)
    if top and isinstance(value, list):
        return any(json_equal(x, wanted) for x in value)
    return json_equal(value, wanted)


def ordered(op, value, bound, kind):
    if value is None or isinstance(value, (dict, list)):
        return False
    if kind == "number" and special(value):
        a, b = (-1 if value == "-Infinity" else 1), 0
    else:
        (left, a), (right, b) = comparable(value, kind), comparable(bound, kind)
        if left != right:
            return False
    return {"$gt": a > b, "$gte": a >= b, "$lt": a < b, "$lte": a <= b}[op]


def condition(op, value, operand, kind):
    if op == "$not":
        return not all(condition(o, value, v, kind) for o, v in operand.items())
    if op == "$ne":
        return not condition("$eq", value, operand, kind)
    if op == "$nin":
        return not condition("$in", value, operand, kind)
    if op == "$eq":
        return has(value, operand, kind)
    if op == "$in":
        return any(has(value, x, kind) for x in operand)
    if op == "$exists":
        return (value is not None) == operand
    if op == "$contains":
        if value is None:
            return False
        if kind.endswith("[]"):
            return all(has(value, x, kind) for x in (operand if isinstance(operand, list) else [operand]))
        return contains(value, operand)
    return ordered(op, value, operand, kind)


def matches(row, tree):
    for key, value in tree.items():
        if key == "$and":
            good = all(matches(row, x) for x in value)
        elif key == "$or":
            good = any(matches(row, x) for x in value)
        elif key == "$not":
            good = not matches(row, value)
        else:
            operators = value if isinstance(value, dict) else {"$eq": value}
            good = all(condition(op, place(row, key), v, COLUMNS[key]) for op, v in operators.items())
        if not good:
            return False
    return True


def main():
    rows = [json.loads(line, parse_float=Decimal) for line in sys.stdin if line.strip()]
    oracle = Oracle(int(sys.argv[2]))
    for _ in range(int(sys.argv[1])):
        tree = json.loads(json.dumps(oracle.filter()), parse_float=Decimal)
        ids = [row["id"] for row in rows if matches(row, tree)]
        text = json.dumps(tree, ensure_ascii=oracle.random.random() < 0.5, default=float)
        print(text.replace("\\", "\\\\") + "\t{" + ",".join(map(str, sorted(ids))) + "}")


if __name__ == "__main__":
    main()
