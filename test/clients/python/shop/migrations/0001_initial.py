import pgvector.django
from django.db import migrations, models

from shop.models import item_indexes


class Migration(migrations.Migration):
    initial = True
    operations = [
        pgvector.django.VectorExtension(),
        migrations.CreateModel(
            name="Item",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("embedding", pgvector.django.VectorField(dimensions=8)),
                ("half", pgvector.django.HalfVectorField(dimensions=6)),
                ("sparse", pgvector.django.SparseVectorField(dimensions=20)),
                ("bits", pgvector.django.BitField(length=35)),
            ],
            options={"db_table": "items", "indexes": item_indexes()},
        ),
        migrations.CreateModel(
            name="Note",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("embedding", pgvector.django.VectorField(dimensions=3)),
            ],
            options={"indexes": [pgvector.django.IvfflatIndex(name="note_lists", fields=["embedding"], lists=1, opclasses=["vector_l2_ops"])]},
        ),
    ]
