package main

import (
	"net"
	"os"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain runs the program itself when a script or a test starts this binary as s3d.
func TestMain(m *testing.M) {
	if os.Getenv("S3D_TEST_CHILD") == "1" {
		os.Exit(child())
	}
	testscript.Main(m, map[string]func(){"s3d": main})
}

// The server as a user starts it.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				return err
			}
			e.Defer(func() { _ = l.Close() })
			e.Setenv("BUSY", l.Addr().String())
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"await": func(ts *testscript.TestScript, neg bool, args []string) { // a file that appears
				if neg || len(args) != 1 {
					ts.Fatalf("usage: await FILE")
				}
				for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
					if _, err := os.Stat(ts.MkAbs(args[0])); err == nil {
						return
					}
					if time.Now().After(end) {
						ts.Fatalf("%s never appeared", args[0])
					}
				}
			},
		},
	})
}
