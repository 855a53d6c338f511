package main

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// flagsFirst puts flags where package cli wants them: people write `sn3 wallet new NAME --light` and `sn3 status --local
// FOLDER`, but it stops at the first argument and knows --local only before the command. What comes after "--" stays.
func flagsFirst(app *cli.App, args []string) []string {
	if len(args) == 0 {
		return args
	}
	global := []string{args[0]}
	var path, flags, rest []string
	commands, leaf := app.Commands, []cli.Flag(nil)
	for at := 1; at < len(args); at++ {
		a := args[at]
		name := strings.TrimLeft(a, "-")
		switch {
		case a == "--":
			rest = append(rest, args[at:]...)
			at = len(args)
		case strings.HasPrefix(a, "-") && a != "-":
			into, known := &flags, leaf
			if f := find(leaf, name); f == nil && (path == nil || find(app.Flags, name) != nil) {
				into, known = &global, app.Flags
			}
			*into = append(*into, a)
			if takesValue(known, name) && at+1 < len(args) {
				at++
				*into = append(*into, args[at])
			}
		default:
			i := slices.IndexFunc(commands, func(c *cli.Command) bool { return c.Name == a })
			if i < 0 || len(rest) > 0 {
				rest = append(rest, a)
				break
			}
			path = append(path, a)
			leaf, commands = commands[i].Flags, commands[i].Subcommands
		}
	}
	return slices.Concat(global, path, flags, rest)
}

// find returns the flag of that name, written with or without its value.
func find(flags []cli.Flag, name string) cli.Flag {
	name, _, _ = strings.Cut(name, "=")
	for _, f := range flags {
		if slices.Contains(f.Names(), name) {
			return f
		}
	}
	return nil
}

// takesValue says whether the word after a flag belongs to it.
func takesValue(flags []cli.Flag, name string) bool {
	if strings.Contains(name, "=") {
		return false
	}
	f := find(flags, name)
	_, isBool := f.(*cli.BoolFlag)
	return f != nil && !isBool
}
