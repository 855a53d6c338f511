package main

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// flagsFirst moves the flags of a command before its arguments: people write `sn3 wallet new NAME --light`, but package flag
// stops at the first argument. What comes before the command and after "--" stays.
func flagsFirst(commands []*cli.Command, args []string) []string {
	at := 1
	for at < len(args) && strings.HasPrefix(args[at], "-") { // global flags; both take a value
		if !strings.Contains(args[at], "=") && (strings.HasSuffix(args[at], "local") || strings.HasSuffix(args[at], "chain")) {
			at++
		}
		at++
	}
	var leaf *cli.Command
	for at < len(args) {
		i := slices.IndexFunc(commands, func(c *cli.Command) bool { return c.Name == args[at] })
		if i < 0 {
			break
		}
		leaf, commands = commands[i], commands[i].Subcommands
		at++
	}
	if leaf == nil {
		return args
	}
	out := slices.Clone(args[:at])
	var rest []string
	for at < len(args) {
		a := args[at]
		at++
		switch {
		case a == "--":
			rest = append(append(rest, "--"), args[at:]...)
			at = len(args)
		case !strings.HasPrefix(a, "-") || a == "-":
			rest = append(rest, a)
		default:
			out = append(out, a)
			if takesValue(leaf, strings.TrimLeft(a, "-")) && at < len(args) {
				out = append(out, args[at])
				at++
			}
		}
	}
	return append(out, rest...)
}

// takesValue says whether the word after a flag belongs to it.
func takesValue(c *cli.Command, name string) bool {
	if strings.Contains(name, "=") {
		return false
	}
	for _, f := range c.Flags {
		if slices.Contains(f.Names(), name) {
			_, isBool := f.(*cli.BoolFlag)
			return !isBool
		}
	}
	return false
}
