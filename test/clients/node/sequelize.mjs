// Sequelize: model, sync() with hnsw indexes, and pgvector's distance functions.
import { DataTypes, Sequelize } from 'sequelize';
import * as pgvector from 'pgvector/sequelize';
import { SparseVector } from 'pgvector';
import { LIMIT, checkRows, checkSearch, checkVersion, connection, dimensions, operatorClass, rows, run, searches } from './common.mjs';

const functions = {
  '<->': pgvector.l2Distance,
  '<#>': pgvector.maxInnerProduct,
  '<=>': pgvector.cosineDistance,
  '<+>': pgvector.l1Distance,
  '<~>': pgvector.hammingDistance,
  '<%>': pgvector.jaccardDistance,
};

await run(async () => {
  pgvector.registerTypes(Sequelize);
  const options = { ...connection, dialect: 'postgres', logging: false };
  const first = new Sequelize(options);
  await first.query('CREATE EXTENSION IF NOT EXISTS vector');
  await first.close();
  // types are looked up with the first connection
  const sequelize = new Sequelize(options);
  checkVersion((await sequelize.query("SELECT extversion FROM pg_extension WHERE extname = 'vector'"))[0][0].extversion);

  const Item = sequelize.define('Item', {
    id: { type: DataTypes.INTEGER, primaryKey: true },
    embedding: DataTypes.VECTOR(dimensions.embedding),
    half: DataTypes.HALFVEC(dimensions.half),
    sparse: DataTypes.SPARSEVEC(dimensions.sparse),
    bits: `bit(${dimensions.bits})`,
  }, {
    tableName: 'items',
    timestamps: false,
    indexes: searches.map((search) => ({
      name: operatorClass(search),
      using: 'hnsw',
      fields: [{ name: search.column, operator: operatorClass(search) }],
    })),
  });
  await sequelize.sync();
  await Item.bulkCreate(rows.map((row) => ({ ...row, sparse: new SparseVector(row.sparse) })));
  const stored = await Item.findAll();
  checkRows(stored.map((item) => ({ ...item.get({ plain: true }), sparse: item.sparse.toArray() })), 'rows');

  for (const search of searches) {
    const query = search.column === 'sparse' ? new SparseVector(search.query) : search.query;
    const distance = functions[search.operator](search.column, query, sequelize);
    const found = await Item.findAll({ attributes: ['id', [distance, 'distance']], order: distance, limit: LIMIT });
    checkSearch(search, found.map((item) => [item.id, item.get('distance')]));
  }
  await sequelize.close();
});
