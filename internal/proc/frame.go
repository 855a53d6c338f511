package proc

import (
	"errors"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"
)

// Frame gives a binary what all of ours have: a version, an environment variable SN3_<NAME> for every flag whose EnvVars are nil,
// refusal of unknown commands and missing flags as usage errors, with the nearest name there is.
func Frame(app *cli.App) *cli.App {
	app.Version, app.EnableBashCompletion = Version, true
	app.OnUsageError = func(c *cli.Context, err error, _ bool) error { return Flag(c, err) }
	app.ExitErrHandler = func(*cli.Context, error) {} // Main prints and exits
	if len(app.Commands) > 0 && app.Action == nil {
		app.Action = group(app.Commands, cli.ShowAppHelp)
	}
	required := map[cli.Flag]bool{}
	app.Before = before(app.Before, prepare(app.Flags, required))
	for _, c := range app.Commands {
		frameCommand(c, required)
	}
	return app
}

func frameCommand(c *cli.Command, required map[cli.Flag]bool) {
	c.OnUsageError = func(c *cli.Context, err error, _ bool) error { return Flag(c, err) }
	if len(c.Subcommands) > 0 && c.Action == nil {
		c.Action = group(c.Subcommands, cli.ShowSubcommandHelp)
	}
	c.Before = before(c.Before, prepare(c.Flags, required))
	for _, s := range c.Subcommands {
		frameCommand(s, required)
	}
}

// group is the action of what only has commands: help, or a refusal of a word that is none of them.
func group(commands []*cli.Command, help func(*cli.Context) error) cli.ActionFunc {
	return func(c *cli.Context) error {
		word := c.Args().First()
		if word == "" {
			return help(c)
		}
		var names []string
		for _, x := range commands {
			if !x.Hidden && x.Name != "help" {
				names = append(names, x.Name)
			}
		}
		if near := nearest(word, names); near != "" {
			return Usage(fmt.Errorf("there is no command %q; did you mean %s?", word, near))
		}
		return Usage(fmt.Errorf("there is no command %q; there are %s", word, strings.Join(names, ", ")))
	}
}

// before runs first, then refuses missing flags.
func before(first cli.BeforeFunc, required []string) cli.BeforeFunc {
	return func(c *cli.Context) error {
		if first != nil {
			if err := first(c); err != nil {
				return err
			}
		}
		return Missing(c, required...)
	}
}

// prepare names the environment variables of flags and takes over the check of required ones, which package cli answers with
// a page of help and an error known only by its text. Commands may share flags: seen remembers which are required.
func prepare(flags []cli.Flag, seen map[cli.Flag]bool) (required []string) {
	for _, f := range flags {
		var env *[]string
		var hidden, need bool
		switch x := f.(type) {
		case *cli.StringFlag:
			env, hidden, need, x.Required = &x.EnvVars, x.Hidden, x.Required, false
		case *cli.IntFlag:
			env, hidden, need, x.Required = &x.EnvVars, x.Hidden, x.Required, false
		case *cli.Int64Flag:
			env, hidden, need, x.Required = &x.EnvVars, x.Hidden, x.Required, false
		case *cli.Uint64Flag:
			env, hidden, need, x.Required = &x.EnvVars, x.Hidden, x.Required, false
		case *cli.Float64Flag:
			env, hidden, need, x.Required = &x.EnvVars, x.Hidden, x.Required, false
		case *cli.StringSliceFlag:
			env, hidden, need, x.Required = &x.EnvVars, x.Hidden, x.Required, false
		case *cli.BoolFlag:
			env, hidden, x.DisableDefaultText = &x.EnvVars, x.Hidden, true
		default:
			continue // --help and --version
		}
		name := f.Names()[0]
		if *env == nil && !hidden {
			*env = []string{"SN3_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))}
		}
		if seen[f] = seen[f] || need; seen[f] {
			required = append(required, name)
		}
	}
	return required
}

// Flag is Usage for an error of parsing flags, with the nearest flag there is; package flag tells an unknown one only by its
// text.
func Flag(c *cli.Context, err error) error {
	name, unknown := strings.CutPrefix(err.Error(), "flag provided but not defined: -")
	if !unknown {
		return Usage(err)
	}
	flags := c.App.Flags
	if c.Command != nil && len(c.Command.Flags) > 0 {
		flags = c.Command.Flags
	}
	var names []string
	for _, f := range flags {
		if v, ok := f.(cli.VisibleFlag); !ok || v.IsVisible() {
			names = append(names, f.Names()...)
		}
	}
	name = strings.TrimPrefix(name, "-")
	if near := nearest(name, names); near != "" {
		return Usage(fmt.Errorf("there is no flag --%s; did you mean --%s?", name, near))
	}
	return Usage(fmt.Errorf("there is no flag --%s", name))
}

// Missing is a usage error that lists which of the named flags are neither given nor in the environment; nil if none is.
func Missing(c *cli.Context, names ...string) error {
	var missing []string
	for _, n := range names {
		if !c.IsSet(n) {
			missing = append(missing, "--"+n)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return Usage(errors.New("missing: " + strings.Join(missing, ", ")))
}

// LogFormat is the flag for Logger.
func LogFormat(category string) cli.Flag {
	return &cli.StringFlag{Name: "log-format", Value: "text", Usage: "log `FORMAT`: text or json", Category: category}
}

// nearest is the name that a typo most likely meant, or "".
func nearest(word string, names []string) string {
	const longest = 40 // names are shorter
	best, at := "", 2+len(word)/4
	if len(word) > longest {
		return ""
	}
	for _, n := range names {
		if d := distance(word, n); len(n) > 1 && d < at {
			best, at = n, d
		}
	}
	return best
}

// distance counts the letters to insert, delete, replace or swap with their neighbour (optimal string alignment).
func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			d := min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d = min(d, rows[i-2][j-2]+1)
			}
			rows[i][j] = d
		}
	}
	return rows[len(a)][len(b)]
}
