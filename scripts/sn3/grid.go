package main

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"sn3/chain"
)

// grid is a table for a terminal.
type grid struct {
	right string // columns with figures, which are aligned on the right: an "r" in their place
	rows  [][]string
}

// add puts a row at the end.
func (g *grid) add(cells ...any) {
	row := make([]string, len(cells))
	for i, c := range cells {
		row[i] = fmt.Sprint(c)
	}
	g.rows = append(g.rows, row)
}

// print writes the rows, two spaces between columns and none at the end of a line.
func (g *grid) print(w io.Writer) error {
	var width []int
	for _, r := range g.rows {
		for i, c := range r {
			if i == len(width) {
				width = append(width, 0)
			}
			width[i] = max(width[i], utf8.RuneCountInString(c))
		}
	}
	for _, r := range g.rows {
		var line strings.Builder
		for i, c := range r {
			room := strings.Repeat(" ", width[i]-utf8.RuneCountInString(c))
			if i > 0 {
				line.WriteString("  ")
			}
			if i < len(g.right) && g.right[i] == 'r' {
				line.WriteString(room + c)
			} else {
				line.WriteString(c + room)
			}
		}
		if _, err := fmt.Fprintln(w, strings.TrimRight(line.String(), " ")); err != nil {
			return err
		}
	}
	return nil
}

// short is an amount in coins for a table: never more than it is, in at most nine characters below a billion coins. The exact
// one is in --json.
func short(a chain.Amount) string {
	whole, rest := a/chain.RaoPerCoin, a%chain.RaoPerCoin
	switch {
	case a == 0:
		return "0"
	case a < 100_000:
		return "<0.0001"
	case whole < 1000:
		return fmt.Sprintf("%d.%04d", whole, rest/100_000)
	case whole < 1_000_000:
		return fmt.Sprintf("%d.%02d", whole, rest/10_000_000)
	}
	return fmt.Sprint(uint64(whole))
}

// ratio is a u16 of 65535 for a table.
func ratio(x uint16) string {
	if x == 0 {
		return "0"
	}
	return fmt.Sprintf("%.4f", float64(x)/65535)
}

// lasts is how long so many blocks take.
func lasts(blocks uint64, blockTimeMS int64) string {
	const long = 10 * 365 * 24 * time.Hour
	if ms := uint64(max(blockTimeMS, 1)); blocks > uint64(long.Milliseconds())/ms {
		return "more than ten years"
	}
	d := time.Duration(blocks) * time.Duration(blockTimeMS) * time.Millisecond
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%.1f days", d.Hours()/24)
	case d >= time.Minute:
		return d.Round(time.Second).String()
	}
	return d.String()
}

// many is a count with its noun.
func many(n uint64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
