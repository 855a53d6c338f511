package main

import (
	"fmt"
	"os"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"sn3/internal/preset"
	"sn3/internal/proc"
	"sn3/internal/spec"
)

func presetCommand() *cli.Command {
	return command("preset", "list the model presets, or print one to start a file of your own from", "[NAME]", -1, nil, func(c *cli.Context) error {
		switch c.NArg() {
		case 0:
			return listPresets()
		case 1:
			p, err := preset.Open(c.Args().First())
			if err != nil {
				return proc.Usage(err)
			}
			_, err = os.Stdout.Write(p.Text())
			return err
		}
		return proc.Usage(fmt.Errorf("preset takes at most one name, got %d arguments", c.NArg()))
	})
}

func listPresets() error {
	t := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	for _, name := range preset.Names() {
		p, err := preset.Open(name)
		if err != nil {
			return err
		}
		run, err := p.Run(0)
		if err != nil {
			return err
		}
		local := ""
		if p.Bytes {
			local = "make up"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", name, count(spec.Config(run.Model).Params()), local, p.About)
	}
	return t.Flush()
}

// count writes a number of parameters as people say it.
func count(n int) string {
	if n < 1e9 {
		return fmt.Sprintf("%.1fM", float64(n)/1e6)
	}
	return fmt.Sprintf("%.2fB", float64(n)/1e9)
}
