package kern

//go:noescape
func kern14x32Rows(k int, a, b, c *float32, ldcBytes int, acc int, aBytes int)

//go:noescape
func kern14x32(k int, a, b, c *float32, ldcBytes int, acc int)

//go:noescape
func kernBF14x32Rows(k int, a, b, c *float32, ldcBytes int, acc int, aBytes int)

//go:noescape
func kernBF14x32(k int, a, b, c *float32, ldcBytes int, acc int)

//go:noescape
func kernAMX(k int, a, b, c *float32, ldcBytes int, acc int)

//go:noescape
func kern6x16(k int, a, b, c *float32, ldcBytes int, acc int)

//go:noescape
func packCross16(src *float32, ldBytes, lines, blocks int, dst *float32, dstBytes, mask int)

//go:noescape
func packAlong16(src *float32, ldBytes, n int, dst *float32, dstBytes, load, store int)

//go:noescape
func packPairs16(src *BF16, ldBytes, n int, dst *float32, dstBytes, load, store int)

//go:noescape
func kern14x32Cols(k int, a, b, c *float32, ldcBytes int, acc int, aBytes int)
