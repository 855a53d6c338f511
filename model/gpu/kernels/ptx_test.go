package kernels_test

import (
	"regexp"
	"strconv"
	"strings"
	"testing"

	"sn3/model/gpu/cuda"
	"sn3/model/gpu/kernels"
)

var (
	ptxEntry  = regexp.MustCompile(`(?s)\.visible \.entry (\w+)\(\n(.*?)\n\)\n(.*?)\{`)
	ptxParam  = regexp.MustCompile(`^\.param \.([a-z]\d+)(?: \.ptr \.\w+ \.align \d+)? \w+,?$`)
	ptxShared = regexp.MustCompile(`(?m)^\.shared \.align (\d+) \.b8 \w+\[(\d+)\];$`)
)

// Every image has every kernel of the table, with its parameters and threads, at most 48 KiB of shared memory aligned for vectors,
// and no local memory: arrays that are meant for registers are in registers.
func TestImages(t *testing.T) {
	for _, cc := range [][2]int{{8, 0}, {9, 0}} {
		text := string(kernels.Image(cc[0], cc[1]))
		if !strings.Contains(text, "\n.version 8.0\n") || !strings.Contains(text, "\n.target sm_"+strconv.Itoa(cc[0]*10+cc[1])) {
			t.Fatalf("the image for %v begins with %.200q", cc, text)
		}
		found := ptxEntry.FindAllStringSubmatchIndex(text, -1)
		if len(found) != len(kernels.Table) {
			t.Errorf("%d kernels in the image for %v, %d in the table: run go generate ./model/gpu/kernels", len(found), cc, len(kernels.Table))
		}
		for i, m := range found {
			end := len(text)
			if i+1 < len(found) {
				end = found[i+1][0]
			}
			name, params, rest := text[m[2]:m[3]], text[m[4]:m[5]], text[m[6]:end]
			k, ok := kernels.Named(name)
			if !ok {
				t.Errorf("%s is not in the table: run go generate ./model/gpu/kernels", name)
				continue
			}
			checkParams(t, k, strings.Split(params, "\n"))
			if !strings.Contains(rest, ".maxntid "+strconv.Itoa(k.Threads)+", 1, 1\n") {
				t.Errorf("%s has not %d threads: %.80q", name, k.Threads, rest)
			}
			if strings.Contains(rest, "__local_depot") {
				t.Errorf("%s uses local memory", name)
			}
			shared := 0
			for _, s := range ptxShared.FindAllStringSubmatch(rest, -1) {
				n, err := strconv.Atoi(s[2])
				if err != nil || s[1] != "16" {
					t.Errorf("%s: %s", name, s[0])
				}
				shared += (n + 15) &^ 15
			}
			if shared > 48<<10 || strings.Count(rest, ".shared .align") != len(ptxShared.FindAllString(rest, -1)) {
				t.Errorf("%s has %d bytes of shared memory", name, shared)
			}
		}
	}
}

func checkParams(t *testing.T, k cuda.Kernel, lines []string) {
	t.Helper()
	if len(lines) != len(k.Params) {
		t.Errorf("%s has %d parameters, the table %d", k.Name, len(lines), len(k.Params))
		return
	}
	for i, line := range lines {
		m := ptxParam.FindStringSubmatch(line)
		want := map[cuda.Type]string{cuda.Pointer: "u64", cuda.Int32: "u32", cuda.Uint32: "u32", cuda.Float32: "f32", cuda.Int64: "u64", cuda.Uint64: "u64"}[k.Params[i].Type]
		if m == nil || m[1] != want {
			t.Errorf("%s, parameter %d (%s): %q is not .%s", k.Name, i, k.Params[i].Name, line, want)
		}
	}
}

func TestImageOfOldCards(t *testing.T) {
	for _, cc := range [][2]int{{7, 5}, {5, 0}, {0, 0}} {
		if kernels.Image(cc[0], cc[1]) != nil {
			t.Errorf("there is an image for %v", cc)
		}
	}
	for _, cc := range [][2]int{{8, 0}, {8, 6}, {8, 9}, {10, 0}, {12, 0}} {
		if !strings.Contains(string(kernels.Image(cc[0], cc[1])), ".target sm_80\n") {
			t.Errorf("the image for %v is not that of sm_80", cc)
		}
	}
}
