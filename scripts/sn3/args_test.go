package main

import (
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

func TestFlagsFirst(t *testing.T) {
	app := &cli.App{
		Flags: []cli.Flag{&cli.StringFlag{Name: "local"}, &cli.StringFlag{Name: "chain"}},
		Commands: []*cli.Command{
			{Name: "status", Flags: []cli.Flag{&cli.BoolFlag{Name: "json"}}},
			{Name: "pull", Flags: []cli.Flag{&cli.StringFlag{Name: "out", Aliases: []string{"o"}}}},
			{Name: "wallet", Subcommands: []*cli.Command{{Name: "new", Flags: []cli.Flag{&cli.BoolFlag{Name: "light"}, &cli.StringFlag{Name: "dir"}}}}},
		}}
	for in, want := range map[string]string{
		"":                                       "",
		"status":                                 "status",
		"--local n status --json":                "--local n status --json",
		"status --json --local n":                "--local n status --json",
		"status --local=n":                       "--local=n status",
		"--local status status":                  "--local status status", // a folder of that name
		"wallet new me --light --dir d":          "wallet new --light --dir d me",
		"wallet --local n new me":                "--local n wallet new me",
		"wallet new --light me":                  "wallet new --light me",
		"wallet new new":                         "wallet new new",
		"wallet new me -- --light":               "wallet new me -- --light",
		"pull url -o x":                          "pull -o x url",
		"pull url --out":                         "pull --out url",
		"pull status --local n":                  "--local n pull status", // an argument, not a command
		"pull -":                                 "pull -",
		"status --unknown x":                     "status --unknown x",
		"--unknown status":                       "--unknown status",
		"nothing --local n":                      "--local n nothing",
		"--chain 127.0.0.1:1 pull --out a b":     "--chain 127.0.0.1:1 pull --out a b",
		"pull --out --local n":                   "pull --out --local n", // its value, however odd
		"--local n --local m status --local o x": "--local n --local m --local o status x",
	} {
		got := strings.Join(flagsFirst(app, append([]string{"sn3"}, strings.Fields(in)...)), " ")
		if got != strings.TrimSpace("sn3 "+want) {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
}
