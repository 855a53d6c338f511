// Package dkg makes a key that a set of members shares and nobody knows: Joint-Feldman with encrypted shares, where everything
// that is said can be checked by everybody. It is a function of bytes: no I/O, no clock, nothing kept between steps. A chain
// runs it in its blocks; before genesis the same bytes go around as files (package ceremony).
//
// # Steps
//
// Every member has a Member, an encryption key pair (x, X = x·G1), and shows with a proof that it knows x. A Session says
// who takes part, from which round the key is to sign, and with which threshold t.
//
//  1. Deal. Each member i draws a polynomial f_i of degree t−1 and publishes a Dealing: commitments C_k = f_i,k·G2, and f_i(j)
//     encrypted to every member j. Dealing.Check is what anybody can check.
//  2. Complain. Each member looks at its share in every dealing (Session.Inspect). To a share that does not belong to the
//     commitments it answers with a Complaint, from which everybody can decrypt this one share and see that it is bad.
//     A complaint about a good share is refused (ErrUnfounded) and changes nothing.
//  3. Finish. Who has dealt and about whom no complaint holds is qualified. The key is the sum of the constant terms of the
//     qualified, member j's share the sum of the f_i(j), its public share the sum of the commitments evaluated at j. With
//     fewer than t qualified dealers there is no key (ErrTooFew): nobody is then sure that one of them is honest.
//
// A member needs only its Member and the published bytes to go on after a crash, in any step.
//
// # What is proven
//
// The proof in a dealing is one Schnorr proof with a single challenge over all bytes before it, of three secrets:
//
//   - x, so that only member i can deal as i, and in this session only, because the session's id is among the bytes;
//   - r of E = r·G1, the ephemeral key that all shares are encrypted with. Without it a dealer could copy the E and a
//     ciphertext of another one: the receiver finds garbage, complains, and its complaint opens the honest dealer's share;
//   - f_i(0), the dealer's part of the key. Without it a dealer that waits for all others could publish C_0 = a·G2 − Σ of the
//     others' and know the key all alone, if the honest are fewer than t: then it can make up commitments that all of them accept.
//
// So t−1 members together cannot make the key theirs, although proofs in the literature (below) are for at least t honest
// ones. That the beacon goes on needs t members that answer.
//
// # What a complaint reveals
//
// K = x_j·E_i with a proof that it is (equal discrete logarithms, Chaum and Pedersen 1992) gives everybody the one share
// f_i(j). If the complaint holds, the dealing is thrown away and the share is worth nothing. If it does not, the accuser has published
// its own share of this dealer, which it could have done anyway; Inspect never does that. Nothing else follows from K: other dealings
// have another E, and the dealer knows K already.
//
// # As files
//
// A chain shows everybody the same bytes; files need not be the same everywhere. A dealer that gives out two dealings makes two
// keys, or, if only the encrypted shares differ, complaints that others refuse with ErrOtherDealing. So before a genesis is
// signed the members compare what they got, Key.Encode, by another way than the files came.
//
// # What Joint-Feldman does not give
//
// The key is not evenly distributed. A dealer that goes last sees what the key would be with and without its own dealing, and
// may stay away or have an accomplice complain; f such members choose between some 2^f keys (Gennaro, Jarecki, Krawczyk,
// Rabin: Secure Distributed Key Generation for Discrete-Log Based Cryptosystems, EUROCRYPT 1999; J. Cryptology 20, 2007). Their remedy is one more round,
// with commitments that hide. We do without: what a chooser sees of each key is its public part, and no bit of any signature,
// which takes t shares; the beacon's value is a signature, so there is nothing to choose it by. That threshold BLS stays unforgeable under this
// kind of bias is shown by Gurkan, Jovanovic, Maller, Meiklejohn, Stern and Tomescu (Aggregatable Distributed Key
// Generation, EUROCRYPT 2021, on Pedersen's protocol, which is this one); for Schnorr signatures the authors of the
// attack showed the like (CT-RSA 2003). Do not use such a key for what needs its evenness.
//
// All this is for members that are corrupt from the start. Arithmetic takes a time that depends on secrets (package group).
package dkg
