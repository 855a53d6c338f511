package pack

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// kind is how documents lie in a file.
type kind uint8

const (
	textFile    kind = iota // the file is a document
	linesFile               // a JSON object on each line, one field of which is a document
	parquetFile             // a value of one column is a document
)

// input is a file to read.
type input struct {
	path   string // as the operating system knows it
	name   string // below its argument, with "/": the same on every machine
	kind   kind
	packed string // "", ".gz" or ".zst"
	size   int64
	stamp  int64 // time of the last change
}

// endings are the kinds by name.
var endings = map[string]kind{".txt": textFile, ".jsonl": linesFile, ".ndjson": linesFile, ".parquet": parquetFile}

// kindOf goes by the name alone; asText are more endings of text files.
func kindOf(name string, asText []string) (k kind, packed string, ok bool) {
	ext := strings.ToLower(path.Ext(name))
	if ext == ".gz" || ext == ".zst" {
		packed = ext
		ext = strings.ToLower(path.Ext(name[:len(name)-len(ext)]))
	}
	if slices.Contains(asText, ext) {
		return textFile, packed, true
	}
	k, ok = endings[ext]
	return k, packed, ok
}

// Skipped counts files of folders that were left out, and names the first.
type Skipped struct {
	Files int
	First string
}

// list finds the files of the arguments, in the order of the arguments, those of a folder by name. Links to files are followed,
// names with a leading dot left out, and so are files of other kinds, which are counted.
func list(args, asText []string) (files []input, skipped Skipped, err error) {
	for i, arg := range args {
		info, err := os.Stat(arg)
		if err != nil {
			return nil, skipped, fmt.Errorf("find input: %w", err)
		}
		if !info.IsDir() {
			if !info.Mode().IsRegular() {
				return nil, skipped, fmt.Errorf("find input: %s is no file that can be read again after an interruption; write it to one", arg)
			}
			k, packed, ok := kindOf(arg, asText)
			if !ok {
				return nil, skipped, fmt.Errorf("find input: %s is none of .txt, .jsonl, .ndjson, .parquet, alone or with .gz or .zst; --as-text %s reads it as text",
					arg, max(path.Ext(arg), ".EXT"))
			}
			files = append(files, input{arg, fmt.Sprintf("%d/%s", i, filepath.Base(arg)), k, packed, info.Size(), info.ModTime().UnixNano()})
			continue
		}
		found, err := walk(arg, i, asText, &skipped)
		if err != nil {
			return nil, skipped, fmt.Errorf("find input in %s: %w", arg, err)
		}
		files = append(files, found...)
	}
	if len(files) == 0 {
		return nil, skipped, fmt.Errorf("find input: no file to read in %s (%d of other kinds)", strings.Join(args, ", "), skipped.Files)
	}
	return files, skipped, nil
}

func walk(dir string, arg int, asText []string, skipped *Skipped) (files []input, err error) {
	root, err := filepath.EvalSymlinks(dir) // WalkDir does not enter a root that is a link
	if err != nil {
		return nil, err
	}
	err = filepath.WalkDir(root, func(p string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case p != root && strings.HasPrefix(e.Name(), "."):
			if e.IsDir() {
				return fs.SkipDir
			}
			return nil
		case e.IsDir():
			return nil
		}
		info, err := os.Stat(p) // a link stands for what it leads to: that is how hubs lay out their caches
		if err != nil {
			return err
		}
		k, packed, ok := kindOf(p, asText)
		if !ok || !info.Mode().IsRegular() {
			if skipped.Files++; skipped.First == "" {
				skipped.First = p
			}
			return nil
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		files = append(files, input{p, fmt.Sprintf("%d/%s", arg, filepath.ToSlash(rel)), k, packed, info.Size(), info.ModTime().UnixNano()})
		return nil
	})
	slices.SortFunc(files, func(a, b input) int { return strings.Compare(a.name, b.name) })
	return files, err
}

// part keeps every n-th file, from the i-th (1 to n) on.
func part(files []input, i, n int) ([]input, error) {
	var out []input
	for at := i - 1; at < len(files); at += n {
		out = append(out, files[at])
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("part %d of %d has no file: there are %d; make fewer parts, or cut by --part-by document", i, n, len(files))
	}
	return out, nil
}

// isBroken says whether an error is about what is in a file, which does not go away, and not about reading it.
func isBroken(err error) bool {
	return err != nil && !errors.As(err, new(*fs.PathError))
}
