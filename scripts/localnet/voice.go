package main

import (
	"fmt"
	"log/slog"
	"os"

	"golang.org/x/term"
)

// voice is how the launcher speaks: lines for a person, with a bar on a terminal, or JSON objects, one a line, for a program.
type voice struct {
	json *slog.Logger // nil: for a person
	tty  bool
}

func newVoice(format string) voice {
	if format == "json" {
		return voice{json: slog.New(slog.NewJSONHandler(os.Stdout, nil))}
	}
	return voice{tty: term.IsTerminal(int(os.Stdout.Fd())) && os.Getenv("TERM") != "dumb"}
}

// say tells a fact about the start.
func (v voice) say(head, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if v.json != nil {
		v.json.Info(head, "text", text)
		return
	}
	fmt.Printf("  %-11s%s\n", head, text)
}

// warn tells what a person should look at.
func (v voice) warn(text string) {
	if v.json != nil {
		v.json.Warn(text)
		return
	}
	v.line(text)
}

// line prints above the bar.
func (v voice) line(s string) {
	v.clear()
	fmt.Println(s)
}

// bar replaces the last line of a terminal.
func (v voice) bar(s string) {
	if v.tty {
		fmt.Print("\r\033[K" + s)
	}
}

// clear removes the bar.
func (v voice) clear() { v.bar("") }
