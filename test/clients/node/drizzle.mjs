// Drizzle: the migration that drizzle-kit makes from the schema, then queries through drizzle-orm.
import { generateDrizzleJson, generateMigration } from 'drizzle-kit/api';
import { sql } from 'drizzle-orm';
import * as distances from 'drizzle-orm';
import { drizzle } from 'drizzle-orm/node-postgres';
import { bit, halfvec, index, integer, pgTable, sparsevec, vector } from 'drizzle-orm/pg-core';
import pg from 'pg';
import { SparseVector } from 'pgvector';
import { LIMIT, checkRows, checkSearch, checkVersion, dimensions, equal, operatorClass, rows, run, searches } from './common.mjs';

const items = pgTable('items', {
  id: integer().primaryKey(),
  embedding: vector({ dimensions: dimensions.embedding }),
  half: halfvec({ dimensions: dimensions.half }),
  sparse: sparsevec({ dimensions: dimensions.sparse }),
  bits: bit({ dimensions: dimensions.bits }),
}, (table) => searches.map((search) => index(operatorClass(search)).using('hnsw', table[search.column].op(operatorClass(search)))
  .with({ m: 12, ef_construction: 48 })));

const functions = {
  '<->': distances.l2Distance,
  '<#>': distances.innerProduct,
  '<=>': distances.cosineDistance,
  '<+>': distances.l1Distance,
  '<~>': distances.hammingDistance,
  '<%>': distances.jaccardDistance,
};

await run(async () => {
  const pool = new pg.Pool({ max: 2 });
  const db = drizzle(pool);
  await db.execute(sql`CREATE EXTENSION IF NOT EXISTS vector`);
  checkVersion((await db.execute(sql`SELECT extversion FROM pg_extension WHERE extname = 'vector'`)).rows[0].extversion);
  const statements = await generateMigration(generateDrizzleJson({}), generateDrizzleJson({ items }));
  equal(statements.filter((statement) => /USING hnsw .* WITH \(m=12,ef_construction=48\)/.test(statement)).length, searches.length, 'migration');
  for (const statement of statements) {
    await db.execute(sql.raw(statement));
  }
  await db.insert(items).values(rows.map((row) => ({ ...row, sparse: new SparseVector(row.sparse).toPostgres() })));
  const stored = await db.select().from(items);
  checkRows(stored.map((row) => ({ ...row, sparse: new SparseVector(row.sparse).toArray() })), 'rows');

  for (const search of searches) {
    const query = search.column === 'sparse' ? new SparseVector(search.query).toPostgres() : search.query;
    const distance = functions[search.operator](items[search.column], query);
    const found = await db.select({ id: items.id, distance: distance.mapWith(Number) }).from(items).orderBy(distance).limit(LIMIT);
    checkSearch(search, found.map((row) => [row.id, row.distance]));
  }
  await pool.end();
});
