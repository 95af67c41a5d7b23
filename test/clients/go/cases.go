// The cases, and how a client's answers are judged; pgx.go and gorm.go are the clients.
package main

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"reflect"
	"sort"
	"strconv"
	"strings"

	"github.com/pgvector/pgvector-go"
)

const limit = 5

type row struct {
	ID        int       `json:"id"`
	Embedding []float32 `json:"embedding"`
	Half      []float32 `json:"half"`
	Sparse    []float32 `json:"sparse"`
	Bits      string    `json:"bits"`
}

type search struct {
	Column    string          `json:"column"`
	Operator  string          `json:"operator"`
	Query     json.RawMessage `json:"query"`
	Distances []float64       `json:"distances"`
}

type neighbor struct {
	ID       int
	Distance float64
}

var (
	cases struct {
		Rows     []row    `json:"rows"`
		Searches []search `json:"searches"`
	}
	checks, failures int
	types            = map[string]string{"embedding": "vector", "half": "halfvec", "sparse": "sparsevec", "bits": "bit"}
	classes          = map[string]string{"<->": "l2", "<#>": "ip", "<=>": "cosine", "<+>": "l1", "<~>": "hamming", "<%>": "jaccard"}
)

func (s search) class() string {
	return fmt.Sprintf("%s_%s_ops", types[s.Column], classes[s.Operator])
}

// value is the query as the library's type.
func (s search) value() any {
	if s.Column == "bits" {
		var bits string
		must(json.Unmarshal(s.Query, &bits))
		return bits
	}
	var numbers []float32
	must(json.Unmarshal(s.Query, &numbers))
	switch s.Column {
	case "half":
		return pgvector.NewHalfVector(numbers)
	case "sparse":
		return pgvector.NewSparseVector(numbers)
	default:
		return pgvector.NewVector(numbers)
	}
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func ok(condition bool, name string) {
	checks++
	verdict := "ok"
	if !condition {
		failures++
		verdict = "not ok"
	}
	fmt.Printf("%s %d - %s\n", verdict, checks, name)
}

func checkVersion(version string) {
	parts := strings.Split(version, ".")
	major, err := strconv.Atoi(parts[0])
	must(err)
	minor, err := strconv.Atoi(parts[1])
	must(err)
	ok(major > 0 || minor >= 8, "extension vector "+version)
}

func near(a, b float64) bool {
	return math.Abs(a-b) <= 1e-5*math.Max(1, math.Abs(b))
}

// checkSearch wants the nearest first; rows at the same distance may come in any order.
func checkSearch(s search, found []neighbor, how string) {
	nearest := append([]float64(nil), s.Distances...)
	sort.Float64s(nearest)
	ids := map[int]bool{}
	good := len(found) == limit
	for i, n := range found {
		ids[n.ID] = true
		good = good && near(n.Distance, s.Distances[n.ID-1]) && near(s.Distances[n.ID-1], nearest[i])
	}
	ok(good && len(ids) == limit, s.Column+" "+s.Operator+how)
}

func checkRows(found []row, name string) {
	sort.Slice(found, func(i, j int) bool { return found[i].ID < found[j].ID })
	ok(reflect.DeepEqual(found, cases.Rows), name)
}

func main() {
	text, err := os.ReadFile(os.Getenv("CASES"))
	must(err)
	must(json.Unmarshal(text, &cases))
	switch os.Args[1] {
	case "pgx":
		testPgx()
	case "gorm":
		testGorm()
	default:
		panic("no such client: " + os.Args[1])
	}
	fmt.Printf("1..%d\n", checks)
	if failures > 0 {
		os.Exit(1)
	}
}
