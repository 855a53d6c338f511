//go:build !(linux || darwin || freebsd)

package main

func freeBytes(string) (int64, bool) { return 0, false }
