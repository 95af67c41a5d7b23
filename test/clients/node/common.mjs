// The cases, and how a client's answers are judged; every other .mjs beside this file is one client.
import assert from 'node:assert';
import { readFileSync } from 'node:fs';

export const { rows, searches, dimensions } = JSON.parse(readFileSync(process.env.CASES, 'utf8'));
export const LIMIT = 5;
export const types = { embedding: 'vector', half: 'halfvec', sparse: 'sparsevec', bits: 'bit' };
const classes = { '<->': 'l2', '<#>': 'ip', '<=>': 'cosine', '<+>': 'l1', '<~>': 'hamming', '<%>': 'jaccard' };

export const connection = {
  host: process.env.PGHOST,
  port: Number(process.env.PGPORT),
  user: process.env.PGUSER,
  username: process.env.PGUSER,
  password: process.env.PGPASSWORD,
  database: process.env.PGDATABASE,
};

export function operatorClass(search) {
  return `${types[search.column]}_${classes[search.operator]}_ops`;
}

let count = 0;
let failed = 0;

export function ok(condition, name) {
  count += 1;
  failed += condition ? 0 : 1;
  console.log(`${condition ? 'ok' : 'not ok'} ${count} - ${name}`);
}

export function equal(got, want, name) {
  try {
    assert.deepStrictEqual(got, want);
    ok(true, name);
  } catch (error) {
    ok(false, name);
    console.log(`# ${error.message.replaceAll('\n', '\n# ')}`);
  }
}

export function checkVersion(version) {
  const [major, minor] = version.split('.').map(Number);
  ok(major > 0 || minor >= 8, `extension vector ${version}`);
}

function close(a, b) {
  return Math.abs(a - b) <= 1e-5 * Math.max(1, Math.abs(b));
}

// found: pairs of id and distance, nearest first.  Rows at the same distance may come in any order.
export function checkSearch(search, found, how = '') {
  const nearest = [...search.distances].sort((a, b) => a - b);
  ok(
    new Set(found.map(([id]) => id)).size === LIMIT &&
      found.every(([id, distance], i) => close(distance, search.distances[id - 1]) && close(search.distances[id - 1], nearest[i])),
    `${search.column} ${search.operator}${how}`,
  );
}

// found: objects like those of rows, in any order.
export function checkRows(found, name) {
  equal(found.sort((a, b) => a.id - b.id), rows, name);
}

export async function run(main) {
  try {
    await main();
  } catch (error) {
    ok(false, 'no exception');
    console.log(`# ${String(error.stack ?? error).replaceAll('\n', '\n# ')}`);
    if (error.cause) {
      console.log(`# ${String(error.cause).replaceAll('\n', '\n# ')}`);
    }
  }
  console.log(`1..${count}`);
  process.exit(failed > 0 ? 1 : 0);
}
