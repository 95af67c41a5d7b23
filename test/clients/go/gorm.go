// GORM: AutoMigrate of a model with hnsw indexes, distances as clause expressions.
package main

import (
	"fmt"

	"github.com/pgvector/pgvector-go"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/logger"
)

type Item struct {
	ID        int
	Embedding pgvector.Vector       `gorm:"type:vector(8);index:items_embedding,type:hnsw,expression:embedding vector_l2_ops"`
	Half      pgvector.HalfVector   `gorm:"type:halfvec(6);index:items_half,type:hnsw,expression:half halfvec_l2_ops"`
	Sparse    pgvector.SparseVector `gorm:"type:sparsevec(20);index:items_sparse,type:hnsw,expression:sparse sparsevec_l2_ops"`
	Bits      string                `gorm:"type:bit(35);index:items_bits,type:hnsw,expression:bits bit_hamming_ops"`
}

func testGorm() {
	db, err := gorm.Open(postgres.Open(""), &gorm.Config{Logger: logger.Default.LogMode(logger.Error)})
	must(err)
	must(db.Exec("CREATE EXTENSION IF NOT EXISTS vector").Error)
	var version string
	must(db.Raw("SELECT extversion FROM pg_extension WHERE extname = 'vector'").Scan(&version).Error)
	checkVersion(version)
	must(db.AutoMigrate(&Item{}))
	// a second time there is nothing to do
	must(db.AutoMigrate(&Item{}))
	for _, s := range cases.Searches {
		if s.Operator != "<->" && s.Operator != "<~>" {
			must(db.Exec(fmt.Sprintf("CREATE INDEX ON items USING hnsw (%s %s)", s.Column, s.class())).Error)
		}
	}

	items := make([]Item, len(cases.Rows))
	for i, r := range cases.Rows {
		items[i] = Item{r.ID, pgvector.NewVector(r.Embedding), pgvector.NewHalfVector(r.Half), pgvector.NewSparseVector(r.Sparse), r.Bits}
	}
	must(db.CreateInBatches(items, 100).Error)
	var stored []Item
	must(db.Find(&stored).Error)
	found := make([]row, len(stored))
	for i, item := range stored {
		found[i] = row{item.ID, item.Embedding.Slice(), item.Half.Slice(), item.Sparse.Slice(), item.Bits}
	}
	checkRows(found, "rows")

	for _, s := range cases.Searches {
		distance := clause.Expr{SQL: s.Column + " " + s.Operator + " ?", Vars: []any{s.value()}}
		var near []neighbor
		must(db.Model(&Item{}).Select("id, (?) AS distance", distance).Clauses(clause.OrderBy{Expression: distance}).Limit(limit).Scan(&near).Error)
		checkSearch(s, near, "")
	}
}
