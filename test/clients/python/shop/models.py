from django.db import models
from pgvector.django import BitField, HalfVectorField, HnswIndex, IvfflatIndex, SparseVectorField, VectorField

from common import DIMENSIONS, SEARCHES, operator_class


def item_indexes():
    return [HnswIndex(name=operator_class(search), fields=[search["column"]], m=16, ef_construction=64, opclasses=[operator_class(search)])
            for search in SEARCHES]


class Item(models.Model):
    embedding = VectorField(dimensions=DIMENSIONS["embedding"])
    half = HalfVectorField(dimensions=DIMENSIONS["half"])
    sparse = SparseVectorField(dimensions=DIMENSIONS["sparse"])
    bits = BitField(length=DIMENSIONS["bits"])

    class Meta:
        app_label = "shop"
        db_table = "items"
        indexes = item_indexes()


class Note(models.Model):
    embedding = VectorField(dimensions=3)

    class Meta:
        app_label = "shop"
        indexes = [IvfflatIndex(name="note_lists", fields=["embedding"], lists=1, opclasses=["vector_l2_ops"])]
