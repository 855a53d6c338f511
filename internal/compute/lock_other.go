//go:build !unix || solaris || aix

package compute

import "os"

func lock(*os.File) error   { return nil }
func unlock(*os.File) error { return nil }
