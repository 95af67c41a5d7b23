// TypeORM: entity with vector and halfvec columns, the schema and its indexes by a migration, the query builder.
import 'reflect-metadata';
import { DataSource, EntitySchema } from 'typeorm';
import pgvector, { SparseVector } from 'pgvector';
import { LIMIT, checkRows, checkSearch, checkVersion, connection, dimensions, operatorClass, rows, run, searches, types } from './common.mjs';

const Item = new EntitySchema({
  name: 'Item',
  tableName: 'items',
  columns: {
    id: { type: 'int', primary: true },
    embedding: { type: 'vector', length: String(dimensions.embedding) },
    half: { type: 'halfvec', length: String(dimensions.half) },
    bits: { type: 'bit', length: String(dimensions.bits) },
  },
});

// What TypeORM's schema builder does not know: the type sparsevec and hnsw.
class Indexes1700000000000 {
  async up(runner) {
    await runner.query(`ALTER TABLE items ADD sparse sparsevec(${dimensions.sparse})`);
    for (const search of searches) {
      await runner.query(`CREATE INDEX ${operatorClass(search)} ON items USING hnsw (${search.column} ${operatorClass(search)})`);
    }
  }
}

await run(async () => {
  const source = new DataSource({ type: 'postgres', ...connection, entities: [Item], migrations: [Indexes1700000000000], logging: ['error'] });
  await source.initialize();
  checkVersion((await source.query("SELECT extversion FROM pg_extension WHERE extname = 'vector'"))[0].extversion);
  await source.synchronize();
  await source.runMigrations();

  const repository = source.getRepository(Item);
  await repository.insert(rows.map(({ sparse, ...row }) => row));
  for (const row of rows) {
    await source.query('UPDATE items SET sparse = $1 WHERE id = $2', [pgvector.toSql(new SparseVector(row.sparse)), row.id]);
  }
  const stored = await repository.find();
  const sparse = new Map((await source.query('SELECT id, sparse FROM items')).map((row) => [row.id, new SparseVector(row.sparse).toArray()]));
  checkRows(stored.map((row) => ({ ...row, sparse: sparse.get(row.id) })), 'rows');

  for (const search of searches) {
    const { column, operator } = search;
    const query = column === 'bits' ? search.query : pgvector.toSql(column === 'sparse' ? new SparseVector(search.query) : search.query);
    const distance = `item.${column} ${operator} :query::${types[column]}(${dimensions[column]})`;
    const found = await repository.createQueryBuilder('item').select('item.id', 'id').addSelect(distance, 'distance')
      .orderBy(distance).setParameter('query', query).limit(LIMIT).getRawMany();
    checkSearch(search, found.map((row) => [row.id, row.distance]));
  }
  await source.destroy();
});
