// Package drand is the source of rounds that is not ours: a public drand network, asked over HTTP through relays that nobody
// needs to trust. A signature counts when it verifies under the pinned key; a relay can only fail to answer.
//
// Who seals to a round and rules over what is sealed needs four answers, which errors.Is tells apart:
//
//   - nil: the round is signed, and its signature will never be another.
//   - chain.ErrNotYet: the round is not due, or for less than a period. Ask again at Network.Time of it.
//   - ErrLate: it is due, and most relays show by a signature of the network that they are at an earlier round. The network
//     stands still, or it catches up: late rounds do come, one after the other, and are worth the same. (Or this machine's
//     clock is ahead, which it cannot know. One that is behind delays rounds by as much: Latest, above Round of now, shows it.)
//   - chain.ErrUnavailable: this machine cannot know. Others may have the round, so it is no evidence of anything.
//
// Rules that follow, for a chain that takes sealed things. What is sealed counts only if it was included in a block whose
// time is before Network.Time of the round, whenever the signature comes: a late round must not lengthen the time in which a
// copy of an opened text is still taken. How long to wait for a late round is counted in blocks, never by a node's clock, and
// decided by what is on chain, never by one node's ErrLate; if the signature is not there by then, the window is void for
// all. Nobody falls back to another round or to block hashes: who can delay a round could choose between them.
//
// Network and its arithmetic are pure. The relays' behaviour was read in drand's source (v2, handler/http): 404 for rounds to
// come and for networks they do not know, the next round held until it is there, 500 for what they miss. Against the
// real relays this package is untested.
package drand
