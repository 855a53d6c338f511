//go:build !amd64

package kern

func features() have { return have{} }

// The assembly is never called here: Select refuses it. These bodies only let the package compile.

func kern14x32(k int, a, b, c *float32, ldcBytes int, acc int)                               {}
func kernBF14x32(k int, a, b, c *float32, ldcBytes int, acc int)                             {}
func kernAMX(k int, a, b, c *float32, ldcBytes int, acc int)                                 {}
func kern6x16(k int, a, b, c *float32, ldcBytes int, acc int)                                {}
func packCross16(src *float32, ldBytes, lines, blocks int, dst *float32, dstBytes, mask int) {}
func packAlong16(src *float32, ldBytes, n int, dst *float32, dstBytes, load, store int)      {}
func packPairs16(src *BF16, ldBytes, n int, dst *float32, dstBytes, load, store int)         {}
func kern14x32Rows(k int, a, b, c *float32, ldcBytes int, acc int, aBytes int)               {}
func kernBF14x32Rows(k int, a, b, c *float32, ldcBytes int, acc int, aBytes int)             {}
func kern14x32Cols(k int, a, b, c *float32, ldcBytes int, acc int, aBytes int)               {}
