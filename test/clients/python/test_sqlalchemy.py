"""SQLAlchemy: mapped columns of all types, Index with postgresql_using, distances as expressions, reflection."""

import warnings

from pgvector import HalfVector, SparseVector, Vector
from pgvector.sqlalchemy import BIT, HALFVEC, SPARSEVEC, VECTOR, avg
from sqlalchemy import Index, Integer, MetaData, Table, create_engine, func, select, text
from sqlalchemy.orm import DeclarativeBase, Session, mapped_column

import tap
from common import DIMENSIONS, LIMIT, ROWS, SEARCHES, check_rows, check_search, check_version, close, operator_class

warnings.simplefilter("error")
WRAP = {"embedding": Vector, "half": HalfVector, "sparse": SparseVector, "bits": str}
METHODS = {"<->": "l2_distance", "<#>": "max_inner_product", "<=>": "cosine_distance", "<+>": "l1_distance",
           "<~>": "hamming_distance", "<%>": "jaccard_distance"}


class Base(DeclarativeBase):
    pass


class Item(Base):
    __tablename__ = "items"
    __table_args__ = tuple(
        Index(f"items_{operator_class(search)}", search["column"], postgresql_using="hnsw", postgresql_with={"m": 16, "ef_construction": 64},
              postgresql_ops={search["column"]: operator_class(search)}) for search in SEARCHES)
    id = mapped_column(Integer, primary_key=True)
    embedding = mapped_column(VECTOR(DIMENSIONS["embedding"]))
    half = mapped_column(HALFVEC(DIMENSIONS["half"]))
    sparse = mapped_column(SPARSEVEC(DIMENSIONS["sparse"]))
    bits = mapped_column(BIT(DIMENSIONS["bits"]))


def plain(item):
    return {"id": item.id, "embedding": list(item.embedding), "half": list(item.half), "sparse": item.sparse.to_list(), "bits": item.bits}


def main():
    engine = create_engine("postgresql+psycopg://")
    with Session(engine) as session:
        session.execute(text("CREATE EXTENSION IF NOT EXISTS vector"))
        check_version(session.scalar(text("SELECT extversion FROM pg_extension WHERE extname = 'vector'")))
        session.commit()
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all(Item(id=row["id"], embedding=row["embedding"], half=HalfVector(row["half"]), sparse=SparseVector(row["sparse"]),
                             bits=row["bits"]) for row in ROWS)
        session.commit()
    with Session(engine) as session:
        check_rows([plain(item) for item in session.scalars(select(Item))], "rows")
        for search in SEARCHES:
            column = search["column"]
            distance = getattr(getattr(Item, column), METHODS[search["operator"]])(WRAP[column](search["query"]))
            check_search(search, session.execute(select(Item.id, distance).order_by(distance).limit(LIMIT)).all())
        mean = [sum(row["embedding"][i] for row in ROWS) / len(ROWS) for i in range(DIMENSIONS["embedding"])]
        got = session.scalar(select(avg(Item.embedding)))
        tap.ok(all(map(close, got, mean)), "avg")
        tap.equal(session.scalar(select(func.count()).where(Item.embedding.l2_distance(ROWS[6]["embedding"]) == 0)), 1, "a distance as a condition")

    reflected = Table("items", MetaData(), autoload_with=engine)
    tap.equal([str(reflected.c[column].type) for column in ("embedding", "half", "sparse")], ["VECTOR(8)", "HALFVEC(6)", "SPARSEVEC(20)"], "reflected types")
    tap.equal({index.dialect_options["postgresql"]["using"] for index in reflected.indexes}, {"hnsw"}, "reflected indexes")


tap.run(main)
