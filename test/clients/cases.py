"""The rows that every client stores and the distances it has to find, as JSON on standard output.

The distances are computed here from their definitions, in Python's double precision; nothing of the extension or of a
client library takes part.  Numbers are multiples of 1/8, which float4 and binary16 hold exactly.
"""

import json
import math
import random

ROWS = 300
DIMENSIONS = {"embedding": 8, "half": 6, "sparse": 20, "bits": 35}
SEED = 20260101


def l2(a, b):
    return math.sqrt(sum((x - y) ** 2 for x, y in zip(a, b)))


def negative_inner_product(a, b):
    return -sum(x * y for x, y in zip(a, b))


def cosine(a, b):
    return 1 + negative_inner_product(a, b) / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


def l1(a, b):
    return sum(abs(x - y) for x, y in zip(a, b))


def hamming(a, b):
    return sum(x != y for x, y in zip(a, b))


def jaccard(a, b):
    both = sum(x == y == "1" for x, y in zip(a, b))
    return 1 - both / sum("1" in pair for pair in zip(a, b)) if both else 1


NUMBERS = {"<->": l2, "<#>": negative_inner_product, "<=>": cosine, "<+>": l1}
OPERATORS = {"embedding": NUMBERS, "half": NUMBERS, "sparse": NUMBERS, "bits": {"<~>": hamming, "<%>": jaccard}}


def value(column, rng):
    size = DIMENSIONS[column]
    if column == "bits":
        return "".join(rng.choice("01") for _ in range(size))
    if column == "sparse":
        dense = [0.0] * size
        for i in rng.sample(range(size), 5):
            dense[i] = rng.choice((-1, 1)) * rng.randint(1, 64) / 8
        return dense
    return [rng.randint(-64, 64) / 8 for _ in range(size)]


def cases():
    rng = random.Random(SEED)
    rows = [{"id": i + 1} | {column: value(column, rng) for column in DIMENSIONS} for i in range(ROWS)]
    searches = []
    for column, operators in OPERATORS.items():
        for operator, distance in operators.items():
            query = value(column, rng)
            searches.append({"column": column, "operator": operator, "query": query,
                             "distances": [distance(row[column], query) for row in rows]})
    return {"dimensions": DIMENSIONS, "rows": rows, "searches": searches}


if __name__ == "__main__":
    print(json.dumps(cases()))
