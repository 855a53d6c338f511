package local

import "time"

// SetPatience shortens how long writes wait for a node that is away.
func (c *Client) SetPatience(d time.Duration) { c.patience = d }
