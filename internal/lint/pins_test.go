package lint

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"testing"
)

// pins are the versions that were tried together. With a lower one the programs do not build, do not start, or lose a
// measured property; a higher one is a decision for go.mod alone.
var pins = map[string]string{
	"go":                                      "1.26.6",                             // kernels and toolchain measured with it
	"github.com/cometbft/cometbft":            "v0.40.0",                            // consensus, ABCI 2.0; v1.x is an older line
	"github.com/versity/versitygw":            "v1.8.0",                             // the embedded S3 server
	"github.com/aws/aws-sdk-go-v2":            "v1.47.7",                            // checksum and retry settings as tested
	"github.com/aws/aws-sdk-go-v2/service/s3": "v1.114.8",                           // goes with the line above
	"github.com/libp2p/go-libp2p":             "v0.51.0",                            // announcements
	"github.com/libp2p/go-libp2p-pubsub":      "v0.19.0",                            // goes with the line above
	"github.com/ethereum/go-ethereum":         "v1.17.10",                           // keys and keystores
	"github.com/consensys/gnark-crypto":       "v0.18.1",                            // the beacon's BLS signatures
	"go.etcd.io/bbolt":                        "v1.5.0",                             // the chain's store
	"github.com/ebitengine/purego":            "v0.11.3",                            // the CUDA driver without cgo
	"github.com/urfave/cli/v2":                "v2.27.7",                            // flags; v3 has another API
	"gonum.org/v1/gonum":                      "v0.17.0",                            // BLAS contract, gradient checks
	"gonum.org/v1/plot":                       "v0.17.0",                            // loss.png, scores.png
	"gorgonia.org/gorgonia":                   "v0.9.18",                            // the oracle
	"gorgonia.org/tensor":                     "v0.9.23",                            // goes with the line above
	"go4.org/unsafe/assume-no-moving-gc":      "v0.0.0-20231121144256-b99613f794b6", // before it gorgonia panics at start
}

// lowered lists the pins that a go.mod does not hold.
func lowered(mod string) (found []string) {
	has := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^(?:\t|require )?(\S+) v?(\d\S*)`).FindAllStringSubmatch(mod, -1) {
		has[m[1]] = m[2]
	}
	for name, pin := range pins {
		if v := has[name]; older(v, strings.TrimPrefix(pin, "v")) {
			found = append(found, fmt.Sprintf("go.mod has %s %q, at least %s is needed: see LOG.md", name, v, pin))
		}
	}
	sort.Strings(found)
	return found
}

// older compares versions number by number; the date of a pseudo-version is one of them, a missing version the oldest.
func older(a, b string) bool {
	parts := func(v string) []string {
		return strings.FieldsFunc(v, func(r rune) bool { return r == '.' || r == '-' || r == '+' })
	}
	x, y := parts(a), parts(b)
	for i := range min(len(x), len(y), 4) {
		m, err1 := strconv.ParseUint(x[i], 10, 64)
		n, err2 := strconv.ParseUint(y[i], 10, 64)
		if err1 != nil || err2 != nil { // v1.2.3-rc1
			return err1 != nil && err2 == nil
		}
		if m != n {
			return m < n
		}
	}
	return len(x) < len(y) || len(x) > len(y) && len(y) == 3 && strings.Contains(a, "-") // a pre-release comes before its release
}

func readMod(t *testing.T) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("..", "..", "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func TestPins(t *testing.T) {
	for _, l := range lowered(readMod(t)) {
		t.Error(l)
	}
}

// Lowering any single pin, or dropping it, is noticed; raising it is not.
func TestPinsNotice(t *testing.T) {
	mod := readMod(t)
	for name := range pins {
		line := regexp.MustCompile(`(?m)^(\t?)` + regexp.QuoteMeta(name) + ` (v?)(\d+)(\S*)(.*)$`)
		if !line.MatchString(mod) {
			t.Errorf("%s is not in go.mod", name)
			continue
		}
		for what, c := range map[string]struct {
			to   string
			want int
		}{
			"lowered": {"${1}" + name + " ${2}0.0.0-20200101000000-aaaaaaaaaaaa", 1},
			"dropped": {"", 1},
			"raised":  {"${1}" + name + " ${2}9${3}$4", 0},
		} {
			if got := lowered(line.ReplaceAllString(mod, c.to)); len(got) != c.want {
				t.Errorf("%s %s: %q", name, what, got)
			}
		}
	}
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"1.2.3", "1.2.3", false}, {"1.2.3", "1.2.4", true}, {"1.10.0", "1.9.9", false}, {"1.2.3-rc1", "1.2.3", true}, {"", "0.0.1", true},
		{"0.0.0-20220101000000-ffffffffffff", "0.0.0-20231121144256-b99613f794b6", true}, {"0.0.0-20231121144256-b99613f794b6", "0.0.0-20231121144256-b99613f794b6", false},
	} {
		if got := older(c.a, c.b); got != c.want {
			t.Errorf("%q older than %q: %v", c.a, c.b, got)
		}
	}
}
