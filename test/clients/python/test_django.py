"""Django: the extension, the table and its indexes come from migrations; queries through the ORM."""

import os

import django
from django.conf import settings

settings.configure(
    INSTALLED_APPS=["django.contrib.postgres", "shop"],
    DATABASES={"default": {"ENGINE": "django.db.backends.postgresql", "NAME": os.environ["PGDATABASE"]}},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
)
django.setup()

from django.core.management import call_command  # noqa: E402
from django.db import connection  # noqa: E402
from django.db.models import Avg, Value  # noqa: E402
from pgvector import HalfVector, SparseVector  # noqa: E402
from pgvector.django import (BitField, CosineDistance, HammingDistance, JaccardDistance,  # noqa: E402,F401
                             L1Distance, L2Distance, MaxInnerProduct)
from shop.models import Item  # noqa: E402

import tap  # noqa: E402
from common import LIMIT, ROWS, SEARCHES, check_rows, check_search, check_version, close  # noqa: E402

DISTANCES = {"<->": L2Distance, "<#>": MaxInnerProduct, "<=>": CosineDistance, "<+>": L1Distance, "<~>": HammingDistance, "<%>": JaccardDistance}
WRAP = {"embedding": list, "half": HalfVector, "sparse": SparseVector, "bits": str}


def plain(item):
    return {"id": item.id, "embedding": list(item.embedding), "half": list(item.half), "sparse": item.sparse.to_list(), "bits": item.bits}


def main():
    call_command("makemigrations", "shop", check_changes=True, dry_run=True, verbosity=0)
    tap.ok(True, "the migration makes what the models say")
    call_command("migrate", verbosity=0)
    call_command("migrate", "shop", "zero", verbosity=0)
    tap.ok("items" not in connection.introspection.table_names(), "migrated back")
    call_command("migrate", verbosity=0)
    with connection.cursor() as cursor:
        cursor.execute("SELECT extversion FROM pg_extension WHERE extname = 'vector'")
        check_version(cursor.fetchone()[0])

    Item.objects.bulk_create(Item(id=row["id"], embedding=row["embedding"], half=HalfVector(row["half"]), sparse=SparseVector(row["sparse"]),
                                  bits=row["bits"]) for row in ROWS)
    check_rows([plain(item) for item in Item.objects.all()], "rows")
    for search in SEARCHES:
        column = search["column"]
        query = WRAP[column](search["query"])
        if column == "bits":
            query = Value(query, output_field=BitField(length=35))
        found = Item.objects.annotate(distance=DISTANCES[search["operator"]](column, query)).order_by("distance")[:LIMIT]
        check_search(search, [(item.id, item.distance) for item in found])
    mean = [sum(row["embedding"][i] for row in ROWS) / len(ROWS) for i in range(8)]
    tap.ok(all(map(close, Item.objects.aggregate(mean=Avg("embedding"))["mean"], mean)), "avg")


tap.run(main)
