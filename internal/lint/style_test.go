package lint

import (
	"fmt"
	"go/ast"
	"sort"
	"testing"
)

// maxMethods is the most an interface may ask for: drivers need four, all others should do with three.
const maxMethods = 4

// mayPanic are the files that may panic, with the reason; tests always may.
var mayPanic = map[string]string{
	"chain/run.go":     "only a NaN makes a run descriptor impossible to encode, and Validate refuses it",
	"model/hf/read.go": "a panic that is no fault of mapped memory goes on as it came",
}

// report fails with all findings at once, sorted, so that one run shows everything there is to do.
func report(t *testing.T, found []string) {
	t.Helper()
	sort.Strings(found)
	for _, f := range found {
		t.Error(f)
	}
}

func (s source) at(n ast.Node) string {
	return fmt.Sprintf("%s:%04d", s.path, s.fset.Position(n.Pos()).Line)
}

func TestInterfacesAreSmall(t *testing.T) {
	var found []string
	for _, s := range sources(t) {
		ast.Inspect(s.file, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			if i, ok := spec.Type.(*ast.InterfaceType); ok && i.Methods.NumFields() > maxMethods {
				found = append(found, fmt.Sprintf("%s: interface %s has %d methods, at most %d: split it by who calls what", s.at(spec), spec.Name, i.Methods.NumFields(), maxMethods))
			}
			return true
		})
	}
	report(t, found)
}

func TestNoPanics(t *testing.T) {
	var found []string
	for _, s := range sources(t) {
		if _, ok := mayPanic[s.path]; ok || s.test {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok {
				if f, ok := call.Fun.(*ast.Ident); ok && f.Name == "panic" {
					found = append(found, s.at(call)+": panic; return an error, or name the file and the reason in mayPanic")
				}
			}
			return true
		})
	}
	report(t, found)
}

func TestExportedNamesAreDocumented(t *testing.T) {
	var found []string
	for _, s := range sources(t) {
		if s.test || s.generated || s.file.Name.Name == "main" {
			continue
		}
		for _, d := range s.file.Decls {
			for _, name := range undocumented(d) {
				found = append(found, fmt.Sprintf("%s: %s has no comment", s.at(d), name))
			}
		}
	}
	report(t, found)
}

// undocumented names what a declaration exports without a comment. In a group the group's comment, or one at the end of
// the line, will do; methods of unexported types are nobody's interface.
func undocumented(d ast.Decl) []string {
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Doc == nil && d.Name.IsExported() && (d.Recv == nil || ast.IsExported(receiver(d))) {
			return []string{d.Name.Name}
		}
	case *ast.GenDecl:
		var out []string
		for _, spec := range d.Specs {
			switch s := spec.(type) {
			case *ast.TypeSpec:
				if s.Name.IsExported() && d.Doc == nil && s.Doc == nil && s.Comment == nil {
					out = append(out, s.Name.Name)
				}
			case *ast.ValueSpec:
				for _, n := range s.Names {
					if n.IsExported() && d.Doc == nil && s.Doc == nil && s.Comment == nil {
						out = append(out, n.Name)
					}
				}
			}
		}
		return out
	}
	return nil
}

// receiver is the name of the type that a method belongs to.
func receiver(f *ast.FuncDecl) string {
	t := f.Recv.List[0].Type
	if p, ok := t.(*ast.StarExpr); ok {
		t = p.X
	}
	if g, ok := t.(*ast.IndexExpr); ok {
		t = g.X
	}
	if id, ok := t.(*ast.Ident); ok {
		return id.Name
	}
	return ""
}
