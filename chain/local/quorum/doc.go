// Package quorum is a local.Backend over several nodes of one chain, which need not be trusted one by one. With one node there
// is nothing to compare: Dial gives local.Dial, and that node is believed.
//
// The rules, for n nodes of which a majority is more than half of all, away or not:
//
//  1. One node is followed: heads, the status and what is only shown come from it (heads.go, race.go).
//  2. What decides money or training is asked of all at once, and what a majority says is true (compare.go, weigh.go). States
//     of blocks are compared as they come.
//  3. Who does not answer contradicts nobody: what all say who answer is true as well.
//  4. Who contradicts a majority is set aside: it has no voice and nothing is read from it for a while.
//  5. Where no majority decides a contradiction is a dispute. Two nodes that differ are always one. Reading goes on from the
//     followed node, so training does; nothing is signed (chain.ErrDisputed) until its parties agree or a majority does. That
//     one of them goes away ends nothing.
//  6. Who names a block that as many others have not reached as have is waited for a moment; that a transaction is in a block
//     is not believed at all before.
//  7. A nonce and the chain's parameters belong to whatever block a node is at: nodes that differ are asked again, and if they
//     go on differing, nothing is signed with either (chain.ErrUnavailable).
//  8. Who hangs, fails, is behind or comes and goes is left for another one within five seconds, however many do: after hedge
//     all are asked, and whoever answers first counts (race.go); heads that others have and the followed node does not show
//     are fetched from the others at once (heads.go).
//  9. A transaction goes to the followed node, to others when that refuses it, and the same bytes again, which no block had,
//     to all (submit.go). No transaction is signed here: one nonce cannot run twice, whoever keeps a copy.
//
// book.go and weigh.go judge and do no I/O, the time is handed to them; the rest asks. It runs nothing by itself: all is done
// within the calls, and what they started ends with them. A majority that lies together is believed.
package quorum
