package main

import (
	"fmt"
	"os"
)

// fn begins a function whose arguments and result take size bytes.
func fn(name, sig string, size int) {
	p("// func %s(%s)\nTEXT ·%s(SB), NOSPLIT, $0-%d", name, sig, name, size)
}

// loop repeats body until CX, which it counts down by step, is used up; regs move on by step float32s.
func loop(step int, body func(), regs ...string) {
	p("loop:")
	body()
	for _, r := range regs {
		p("\tADDQ $%d, %s", step*4, r)
	}
	p("\tSUBQ $%d, CX\n\tJG loop", step)
}

func end() { p("\tVZEROUPPER\n\tRET\n") }

// fail ends the generator: a kernel is described wrongly, or its file cannot be written.
func fail(f string, a ...any) {
	fmt.Fprintf(os.Stderr, f+"\n", a...)
	os.Exit(1)
}
