// pgx with pgvector-go's codecs, as text and in binary, and COPY.
package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/pgvector/pgvector-go"
	pgxvector "github.com/pgvector/pgvector-go/pgx"
)

func bitValue(text string) pgtype.Bits {
	bytes := make([]byte, (len(text)+7)/8)
	for i, c := range text {
		if c == '1' {
			bytes[i/8] |= 0x80 >> (i % 8)
		}
	}
	return pgtype.Bits{Bytes: bytes, Len: int32(len(text)), Valid: true}
}

func bitText(bits pgtype.Bits) string {
	text := make([]byte, bits.Len)
	for i := range text {
		text[i] = '0' + bits.Bytes[i/8]>>(7-i%8)&1
	}
	return string(text)
}

func storedByPgx(ctx context.Context, connection *pgx.Conn, formats pgx.QueryResultFormats) []row {
	rows, err := connection.Query(ctx, "SELECT id, embedding, half, sparse, bits FROM items", formats)
	must(err)
	found, err := pgx.CollectRows(rows, func(record pgx.CollectableRow) (row, error) {
		var r row
		var embedding pgvector.Vector
		var half pgvector.HalfVector
		var sparse pgvector.SparseVector
		var bits pgtype.Bits
		err := record.Scan(&r.ID, &embedding, &half, &sparse, &bits)
		r.Embedding, r.Half, r.Sparse, r.Bits = embedding.Slice(), half.Slice(), sparse.Slice(), bitText(bits)
		return r, err
	})
	must(err)
	return found
}

func testPgx() {
	ctx := context.Background()
	connection, err := pgx.Connect(ctx, "")
	must(err)
	defer connection.Close(ctx)
	exec := func(statement string, values ...any) {
		_, err := connection.Exec(ctx, statement, values...)
		must(err)
	}
	exec("CREATE EXTENSION IF NOT EXISTS vector")
	must(pgxvector.RegisterTypes(ctx, connection))
	var version string
	must(connection.QueryRow(ctx, "SELECT extversion FROM pg_extension WHERE extname = 'vector'").Scan(&version))
	checkVersion(version)

	exec("CREATE TABLE items (id int PRIMARY KEY, embedding vector(8), half halfvec(6), sparse sparsevec(20), bits bit(35))")
	for _, s := range cases.Searches {
		exec(fmt.Sprintf("CREATE INDEX ON items USING hnsw (%s %s) WITH (m = 10)", s.Column, s.class()))
	}
	values := func(i int) []any {
		r := cases.Rows[i]
		return []any{r.ID, pgvector.NewVector(r.Embedding), pgvector.NewHalfVector(r.Half), pgvector.NewSparseVector(r.Sparse), bitValue(r.Bits)}
	}
	for i := range cases.Rows {
		exec("INSERT INTO items VALUES ($1, $2, $3, $4, $5)", values(i)...)
	}
	formats := map[string]int16{", text": pgx.TextFormatCode, ", binary": pgx.BinaryFormatCode}
	for name, code := range formats {
		checkRows(storedByPgx(ctx, connection, pgx.QueryResultFormats{code, code, code, code, code}), "rows"+name)
	}
	exec("DELETE FROM items")
	_, err = connection.CopyFrom(ctx, pgx.Identifier{"items"}, []string{"id", "embedding", "half", "sparse", "bits"},
		pgx.CopyFromSlice(len(cases.Rows), func(i int) ([]any, error) { return values(i), nil }))
	must(err)
	checkRows(storedByPgx(ctx, connection, pgx.QueryResultFormats{1, 1, 1, 1, 1}), "COPY, binary")

	modes := map[string]pgx.QueryExecMode{", prepared": pgx.QueryExecModeCacheStatement, ", simple protocol": pgx.QueryExecModeSimpleProtocol}
	for _, s := range cases.Searches {
		for name, mode := range modes {
			distance := fmt.Sprintf("%s %s $1::%s", s.Column, s.Operator, types[s.Column])
			value := s.value()
			if bits, isBits := value.(string); isBits {
				distance += "(35)"
				value = bitValue(bits)
				if mode == pgx.QueryExecModeSimpleProtocol {
					value = bits
				}
			}
			rows, err := connection.Query(ctx, fmt.Sprintf("SELECT id, %s AS distance FROM items ORDER BY %s LIMIT %d", distance, distance, limit), mode, value)
			must(err)
			found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[neighbor])
			must(err)
			checkSearch(s, found, name)
		}
	}
	_, err = connection.Exec(ctx, "INSERT INTO items (id, sparse) VALUES (0, $1)", pgvector.NewSparseVector([]float32{1, 2}))
	var refused *pgconn.PgError
	ok(errors.As(err, &refused) && refused.Code == "22000" && refused.Message == "expected 20 dimensions, not 2", "error")
}
