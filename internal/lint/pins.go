package lint

// Gorgonia v0.9.18 panics at start on Go 1.26 unless this module is at least of November 2023; nothing of ours calls it, so
// only this import keeps `go mod tidy` from lowering it.
import _ "go4.org/unsafe/assume-no-moving-gc"
