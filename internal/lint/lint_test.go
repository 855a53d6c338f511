// Package lint holds the rules that reviewers would otherwise have to remember: which package may import which, and how
// long files and functions may be.
package lint

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"testing"
)

// rule forbids imports: packages under from must not import what starts with one of not, for the reason why.
type rule struct {
	from, why string
	only      []string // of ours, only these (and below); nil: anything not forbidden
	not       []string
}

// rules are the arrows of DESIGN.md, "Layout". The first rule whose from matches a package counts.
var rules = []rule{
	{"chain/local/node", "the consensus engine's adapter", nil, []string{"sn3/storage", "sn3/model"}},
	{"chain/chaind", "a main wires", nil, []string{"sn3/storage", "sn3/gradients"}},
	{"chain/chaintest", "the contract of drivers knows none of them", []string{"sn3/chain"}, []string{"sn3/chain/local"}},
	{"chain/local", "the client and the state machine know no model and no storage", []string{"sn3/chain", "sn3/internal/preset"}, nil},
	{"chain/timelock", "arithmetic on points", []string{"sn3/chain/bls"}, nil},
	{"chain/drand", "a source of rounds knows no chain of ours", []string{"sn3/chain"}, []string{"sn3/chain/local", "sn3/chain/yuma"}},
	{"chain/yuma", "pure arithmetic", []string{"sn3/internal/golden"}, nil},
	{"chain", "the root names the system and imports nothing of ours", []string{}, nil},
	{"storage/", "storage below its root may use it and the mains' frame", []string{"sn3/storage", "sn3/internal/proc"}, nil},
	{"storage", "the root imports nothing of ours", []string{}, nil},
	{"model/data", "data knows the chain's types", []string{"sn3/chain", "sn3/model"}, nil},
	{"model/gpu/memory", "a plan needs no driver, and every tool may print it", []string{"sn3/model"}, []string{"sn3/model/cpu", "sn3/model/gpu/cuda", "sn3/model/gpu/kernels"}},
	{"model/gpu/roofline", "arithmetic on a plan", []string{"sn3/model", "sn3/model/gpu/memory"}, []string{"sn3/model/cpu", "sn3/model/gpu/cuda", "sn3/model/gpu/kernels"}},
	{"model/", "engines and formats know the model's types", []string{"sn3/model", "sn3/internal/golden"}, nil},
	{"model", "the root imports nothing of ours", []string{}, nil},
	{"gradients", "the codec knows layouts and identifiers", []string{"sn3/model", "sn3/chain"}, nil},
	{"miner/mining", "a loop reaches storage only through the replica", nil, []string{"sn3/storage", "sn3/validator"}},
	{"validator/scoring", "a loop reaches storage only through the replica", nil, []string{"sn3/storage", "sn3/miner"}},
	{"internal/replica", "below the loops", []string{"sn3/chain", "sn3/storage", "sn3/model", "sn3/gradients", "sn3/internal/events", "sn3/internal/spec"}, nil},
	{"internal/spec", "what chain and model say of each other", []string{"sn3/chain", "sn3/model"}, nil},
	{"internal/plan", "sizes only", []string{"sn3/chain", "sn3/model", "sn3/internal/spec", "sn3/internal/preset"}, nil},
	{"internal/preset", "a descriptor in a file", []string{"sn3/chain", "sn3/internal/spec"}, nil},
}

// exclusive are libraries that only some packages may link.
var exclusive = map[string][]string{
	"github.com/cometbft/":                     {"chain/local/node"},
	"github.com/consensys/":                    {"chain/bls", "chain/timelock", "chain/local/beacon"},
	"github.com/versity/versitygw":             {"storage/embedded", "storage/s3d"},
	"gorgonia.org/":                            {"model/graph"},
	"github.com/libp2p/":                       {"internal/gossip"},
	"github.com/aws/aws-sdk-go-v2":             {"storage"},
	"github.com/parquet-go/":                   {"model/data/pack"}, // a miner reads no parquet
	"github.com/Shopify/toxiproxy":             {"storage/embedded", "scripts/chainsoak"},
	"github.com/ethereum/go-ethereum/accounts": {"chain/local/wallet"}, // its keystores are checked there first
	"github.com/ebitengine/purego":             {"model/gpu/dl", "model/gpu/cuda", "model/gpu/standin", "miner"},
}

type source struct {
	path, pkg string // relative to the root; pkg is the folder
	lines     int
	test      bool
	generated bool
	file      *ast.File
	fset      *token.FileSet
}

func sources(t *testing.T) []source {
	t.Helper()
	root := filepath.Join("..", "..")
	var out []source
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() && path != root && (strings.HasPrefix(name, ".") || name == "bin" || name == "testdata") {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(name, ".go") {
			return nil
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, path, raw, parser.ParseComments)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		out = append(out, source{rel, filepath.ToSlash(filepath.Dir(rel)), strings.Count(string(raw), "\n"), strings.HasSuffix(name, "_test.go"),
			strings.Contains(string(raw[:min(len(raw), 300)]), "Code generated"), f, fset})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(out) < 50 {
		t.Fatalf("only %d files found", len(out))
	}
	return out
}

func under(pkg string, list []string) bool {
	for _, l := range list {
		if pkg == l || strings.HasPrefix(pkg, l+"/") || strings.HasSuffix(l, "/") && strings.HasPrefix(pkg, l) {
			return true
		}
	}
	return false
}

func TestImports(t *testing.T) {
	for _, s := range sources(t) {
		for _, imp := range s.file.Imports {
			path, err := strconv.Unquote(imp.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			for lib, where := range exclusive {
				if strings.HasPrefix(path, lib) && !under(s.pkg, where) {
					t.Errorf("%s imports %s; only %s may", s.path, path, strings.Join(where, ", "))
				}
			}
			if s.test || !strings.HasPrefix(path, "sn3/") {
				continue
			}
			for _, r := range rules {
				if s.pkg != r.from && !strings.HasPrefix(s.pkg, strings.TrimSuffix(r.from, "/")+"/") || strings.HasSuffix(r.from, "/") && s.pkg+"/" == r.from {
					continue
				}
				if under(path, r.not) || r.only != nil && !under(path, r.only) {
					t.Errorf("%s imports %s: %s", s.path, path, r.why)
				}
				break
			}
		}
	}
}

func TestBudgets(t *testing.T) {
	for _, s := range sources(t) {
		if s.generated {
			continue
		}
		if limit := map[bool]int{false: 400, true: 600}[s.test]; s.lines > limit {
			t.Errorf("%s has %d lines, at most %d: split it by idea", s.path, s.lines, limit)
		}
		for _, d := range s.file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			if f.Name.Name == "init" && f.Recv == nil {
				t.Errorf("%s: init function; run() builds everything", s.path)
			}
			if n := s.fset.Position(f.End()).Line - s.fset.Position(f.Pos()).Line + 1; n > 80 {
				t.Errorf("%s: %s has %d lines, at most 80", s.path, f.Name.Name, n)
			}
		}
	}
}

func TestPackagesAreDocumented(t *testing.T) {
	documented := map[string]bool{}
	for _, s := range sources(t) {
		if !s.test || strings.HasPrefix(s.pkg, "internal/lint") {
			documented[s.pkg] = documented[s.pkg] || s.file.Doc != nil
		}
	}
	var missing []string
	for p, ok := range documented {
		if !ok {
			missing = append(missing, p)
		}
	}
	sort.Strings(missing)
	for _, p := range missing {
		t.Errorf("%s has no package comment", p)
	}
}

func TestNoExitBelowMain(t *testing.T) {
	for _, s := range sources(t) {
		ast.Inspect(s.file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			sel, ok := call.Fun.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			pkg, ok := sel.X.(*ast.Ident)
			if !ok {
				return true
			}
			at := s.fset.Position(call.Pos()).Line
			switch name := pkg.Name + "." + sel.Sel.Name; {
			case name == "os.Exit" && s.file.Name.Name != "main" && !s.test, name == "log.Fatal", name == "log.Fatalf":
				t.Errorf("%s:%d: %s below main", s.path, at, name)
			case name == "time.Sleep" && s.test && !strings.HasPrefix(s.pkg, "storage"): // one in a synctest bubble, one polls a process
				t.Errorf("%s:%d: time.Sleep in a test; wait for the event instead", s.path, at)
			}
			return true
		})
	}
}
