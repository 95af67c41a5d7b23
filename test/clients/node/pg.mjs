// node-postgres with pgvector's type parsers.
import pg from 'pg';
import pgvector from 'pgvector/pg';
import { SparseVector } from 'pgvector';
import { LIMIT, checkRows, checkSearch, checkVersion, dimensions, equal, operatorClass, rows, run, searches, types } from './common.mjs';

function wrap(column, value) {
  if (column === 'bits') {
    return value;
  }
  return pgvector.toSql(column === 'sparse' ? new SparseVector(value) : value);
}

await run(async () => {
  const client = new pg.Client();
  await client.connect();
  await client.query('CREATE EXTENSION IF NOT EXISTS vector');
  checkVersion((await client.query("SELECT extversion FROM pg_extension WHERE extname = 'vector'")).rows[0].extversion);
  await pgvector.registerTypes(client);

  const columns = Object.keys(dimensions);
  await client.query(`CREATE TABLE items (id int PRIMARY KEY, ${columns.map((c) => `${c} ${types[c]}(${dimensions[c]})`).join(', ')})`);
  for (const search of searches) {
    await client.query(`CREATE INDEX ON items USING hnsw (${search.column} ${operatorClass(search)})`);
  }
  for (const row of rows) {
    await client.query({ name: 'insert', text: 'INSERT INTO items VALUES ($1, $2, $3, $4, $5)', values: [row.id, ...columns.map((c) => wrap(c, row[c]))] });
  }
  const stored = await client.query('SELECT * FROM items');
  checkRows(stored.rows.map((row) => ({ ...row, sparse: row.sparse.toArray() })), 'rows');

  for (const search of searches) {
    const distance = `${search.column} ${search.operator} $1`;
    const found = await client.query(`SELECT id, ${distance} AS distance FROM items ORDER BY ${distance} LIMIT ${LIMIT}`,
      [wrap(search.column, search.query)]);
    checkSearch(search, found.rows.map((row) => [row.id, row.distance]));
  }
  const error = await client.query('INSERT INTO items (id, half) VALUES (0, $1)', [pgvector.toSql([1, 2])]).catch((e) => e);
  equal([error.code, error.message], ['22000', 'expected 6 dimensions, not 2'], 'error');
  await client.end();
});
