package state

import (
	"fmt"
	"go/ast"
	"go/build"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"testing"
)

// anyOrder is the comment that a loop over a map needs on its line, with the reason why the order does not matter.
const anyOrder = "// any order: "

// forbidden are packages whose functions give another answer every time or on every machine; maps gives its keys in any
// order, which only slices.Sorted around it makes right.
var forbidden = map[string]bool{"time": true, "math/rand": true, "math/rand/v2": true, "crypto/rand": true, "os": true, "runtime": true,
	"context": true, "net": true, "net/http": true, "log/slog": true, "maps": true}

// loader type-checks our packages from source and remembers their functions.
type loader struct {
	fset  *token.FileSet
	other types.Importer
	pkgs  map[string]*types.Package
	info  *types.Info
	funcs map[*types.Func]*ast.FuncDecl
	lines map[string]bool // file:line that has an anyOrder comment
}

// newLoader makes a loader that takes what is not ours from the build cache.
func newLoader(t *testing.T) *loader {
	t.Helper()
	out, err := exec.Command("go", "list", "-export", "-deps", "-f", "{{.ImportPath}}={{.Export}}", "sn3/chain/local/ledger").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	exports := map[string]string{}
	for line := range strings.Lines(string(out)) {
		path, file, _ := strings.Cut(strings.TrimSpace(line), "=")
		exports[path] = file
	}
	lookup := func(path string) (io.ReadCloser, error) { return os.Open(exports[path]) }
	fset := token.NewFileSet()
	return &loader{fset, importer.ForCompiler(fset, "gc", lookup), map[string]*types.Package{},
		&types.Info{Types: map[ast.Expr]types.TypeAndValue{}, Uses: map[*ast.Ident]types.Object{}, Defs: map[*ast.Ident]types.Object{}},
		map[*types.Func]*ast.FuncDecl{}, map[string]bool{}}
}

// Import implements types.Importer.
func (l *loader) Import(path string) (*types.Package, error) {
	if !strings.HasPrefix(path, "sn3/") {
		return l.other.Import(path)
	}
	if p := l.pkgs[path]; p != nil {
		return p, nil
	}
	b, err := build.Default.ImportDir(filepath.Join("..", "..", "..", filepath.FromSlash(strings.TrimPrefix(path, "sn3/"))), 0)
	if err != nil {
		return nil, err
	}
	var files []*ast.File
	for _, name := range b.GoFiles {
		f, err := parser.ParseFile(l.fset, filepath.Join(b.Dir, name), nil, parser.ParseComments)
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	conf := types.Config{Importer: l}
	if l.pkgs[path], err = conf.Check(path, l.fset, files, l.info); err != nil {
		return nil, err
	}
	for _, f := range files {
		l.remember(f)
	}
	return l.pkgs[path], nil
}

func (l *loader) remember(f *ast.File) {
	for _, d := range f.Decls {
		if fd, ok := d.(*ast.FuncDecl); ok && fd.Body != nil {
			l.funcs[l.info.Defs[fd.Name].(*types.Func)] = fd
		}
	}
	for _, group := range f.Comments {
		for _, c := range group.List {
			if strings.HasPrefix(c.Text, anyOrder) {
				l.lines[l.line(c)] = true
			}
		}
	}
}

func (l *loader) line(n ast.Node) string {
	p := l.fset.Position(n.Pos())
	return fmt.Sprintf("%s:%d", filepath.ToSlash(p.Filename), p.Line)
}

// method finds a method of one of our types.
func (l *loader) method(path, typ, name string) (*types.Func, error) {
	p, err := l.Import(path)
	if err != nil {
		return nil, err
	}
	obj, _, _ := types.LookupFieldOrMethod(types.NewPointer(p.Scope().Lookup(typ).Type()), true, p, name)
	f, ok := obj.(*types.Func)
	if !ok {
		return nil, fmt.Errorf("%s.%s has no method %s", path, typ, name)
	}
	return f, nil
}

// reach is every function of ours that f may call: what it names, and every method with the name of an interface's method
// that it calls.
func (l *loader) reach(f *types.Func, seen map[*types.Func]bool) {
	fd := l.funcs[f]
	if fd == nil || seen[f] {
		return
	}
	seen[f] = true
	ast.Inspect(fd.Body, func(n ast.Node) bool {
		id, ok := n.(*ast.Ident)
		if !ok {
			return true
		}
		callee, ok := l.info.Uses[id].(*types.Func)
		if !ok {
			return true
		}
		l.reach(callee.Origin(), seen)
		if recv := callee.Signature().Recv(); recv != nil && types.IsInterface(recv.Type()) {
			for m := range l.funcs {
				if m.Name() == callee.Name() && m.Signature().Recv() != nil {
					l.reach(m, seen)
				}
			}
		}
		return true
	})
}

// check lists what a function does that two nodes might do differently.
func (l *loader) check(fd *ast.FuncDecl) (found []string) {
	bad := func(n ast.Node, what string) {
		found = append(found, fmt.Sprintf("%s: %s: %s", l.line(n), fd.Name.Name, what))
	}
	sorted := map[ast.Node]bool{}
	ast.Inspect(fd, func(n ast.Node) bool {
		switch x := n.(type) {
		case *ast.GoStmt:
			bad(n, "a goroutine")
		case *ast.SelectStmt, *ast.SendStmt, *ast.ChanType:
			bad(n, "a channel")
		case *ast.RangeStmt:
			if _, ok := l.info.TypeOf(x.X).Underlying().(*types.Map); ok && !l.lines[l.line(n)] {
				bad(n, "a loop over a map; sort its keys, or say why it may go in "+anyOrder)
			}
		case *ast.CallExpr:
			if f := l.callee(x); f != nil && f.FullName() == "slices.Sorted" {
				sorted[x.Args[0]] = true
			}
			if f := l.callee(x); f != nil && f.Pkg() != nil && forbidden[f.Pkg().Path()] && f.Signature().Recv() == nil && !(f.Pkg().Path() == "maps" && sorted[x]) {
				bad(n, "a call of "+f.FullName())
			}
		}
		if e, ok := n.(ast.Expr); ok {
			if b, ok := types.Default(typeOf(l.info, e)).Underlying().(*types.Basic); ok && b.Info()&(types.IsFloat|types.IsComplex) != 0 {
				bad(n, "a float")
			}
		}
		return true
	})
	return found
}

func typeOf(info *types.Info, e ast.Expr) types.Type {
	if t := info.TypeOf(e); t != nil {
		return t
	}
	return types.Typ[types.Invalid]
}

func (l *loader) callee(c *ast.CallExpr) *types.Func {
	fun := ast.Unparen(c.Fun)
	switch x := fun.(type) {
	case *ast.IndexExpr:
		fun = x.X
	case *ast.SelectorExpr:
		fun = x.Sel
	}
	id, ok := fun.(*ast.Ident)
	if !ok {
		return nil
	}
	f, _ := l.info.Uses[id].(*types.Func)
	return f
}

// What a block runs of ours, everywhere below Execute, knows no float, no map order, no clock, no randomness and no goroutine.
func TestDeterminism(t *testing.T) {
	l := newLoader(t)
	root, err := l.method("sn3/chain/local/ledger", "Ledger", "Execute")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[*types.Func]bool{}
	l.reach(root, seen)
	names := map[string]bool{}
	var found []string
	for f := range seen {
		names[f.FullName()] = true
		found = append(found, l.check(l.funcs[f])...)
	}
	sort.Strings(found)
	for _, x := range found {
		t.Error(x)
	}
	for _, name := range []string{"(*sn3/chain/local/state.State).Finalize", "sn3/chain.Select", "sn3/chain/yuma.Epoch", "sn3/chain/local/beacon.Verify", "sn3/chain/bls.Verify", "sn3/chain/local/beacon/dkg.Finish", "(*sn3/chain/local/beacon/dkg.Complaint).Check", "sn3/chain/timelock.Open",
		"sn3/chain/local.ParseTx", "(sn3/chain/local.SetWeights).append", "(sn3/chain/yuma.fixed).mul"} {
		if !names[name] {
			t.Errorf("%s is not found to be part of a block, so this test checks less than it says", name)
		}
	}
	t.Logf("%d functions", len(seen))
}

// The check above sees what it should.
func TestDeterminismSees(t *testing.T) {
	l := newLoader(t)
	const src = `package x
import ("maps"; "math/rand"; "slices"; "time")
func f(m map[int]int) (n int) {
	go f(nil)
	for k := range m { n += k }
	for k := range m { n += k } // any order: a sum
	for k := range maps.Keys(m) { n += k }
	_ = slices.Sorted(maps.Keys(m))
	n += int(time.Now().Unix()) + rand.Int()
	c := make(chan int, 1)
	c <- 1
	return n + int(float32(n) * 0.5)
}`
	f, err := parser.ParseFile(l.fset, "x.go", src, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	conf := types.Config{Importer: l}
	if _, err := conf.Check("x", l.fset, []*ast.File{f}, l.info); err != nil {
		t.Fatal(err)
	}
	l.remember(f)
	lines := map[string]bool{}
	for _, fd := range l.funcs {
		for _, x := range l.check(fd) {
			lines[strings.SplitN(strings.TrimPrefix(x, "x.go:"), ":", 2)[0]] = true
		}
	}
	for _, want := range []string{"4", "5", "7", "9", "10", "11", "12"} {
		if !lines[want] {
			t.Errorf("line %s is not found", want)
		}
		delete(lines, want)
	}
	if len(lines) != 0 {
		t.Errorf("found in harmless lines %v", lines)
	}
}
