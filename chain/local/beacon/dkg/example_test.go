package dkg_test

import (
	"crypto/rand"
	"fmt"
	"log"

	"sn3/chain/local/beacon"
	"sn3/chain/local/beacon/dkg"
)

// A ceremony before genesis: what each step hands on is bytes, which go around as files.
func Example() {
	const n, network = 3, "sn3-example"
	var secrets, cards, dealings, complaints [][]byte
	for range n { // everybody makes a key and hands out the card of it
		m := must(dkg.Generate(rand.Reader))
		secrets = append(secrets, m.Encode())
		cards = append(cards, m.Card([]byte(network)))
	}

	var keys []beacon.MemberKey // somebody collects the cards and makes the session
	for _, c := range cards {
		keys = append(keys, must(dkg.ParseCard(c, []byte(network))))
	}
	session := must(dkg.NewSession(network, 1, beacon.Quorum(n), keys)).Encode()

	for _, secret := range secrets { // 1. everybody deals
		s, me := must(dkg.ParseSession(session)), must(dkg.ParseMember(secret))
		dealings = append(dealings, must(dkg.Deal(s, me, rand.Reader)).Encode())
	}

	var ds []*dkg.Dealing // 2. everybody looks at what it got
	for _, b := range dealings {
		ds = append(ds, must(dkg.ParseDealing(b)))
	}
	for _, secret := range secrets {
		s, me := must(dkg.ParseSession(session)), must(dkg.ParseMember(secret))
		for _, d := range ds {
			if c := must(s.Inspect(d, me)); c != nil {
				complaints = append(complaints, c.Encode())
			}
		}
	}

	var cs []*dkg.Complaint
	for _, b := range complaints {
		cs = append(cs, must(dkg.ParseComplaint(b)))
	}
	var partials []beacon.Partial
	var key *beacon.Key
	for _, secret := range secrets { // 3. everybody has the same key, and its own share of it
		s, me := must(dkg.ParseSession(session)), must(dkg.ParseMember(secret))
		result := must(dkg.Finish(s, ds, cs))
		key = result.Key
		partials = append(partials, must(beacon.PartialSign(must(result.Share(me)), 7)))
	}
	signature, bad, err := key.Combine(7, partials)
	fmt.Println(len(signature), bad, err, beacon.Verify(key.Public[:], 7, signature))
	// Output: 48 [] <nil> <nil>
}

func must[T any](v T, err error) T {
	if err != nil {
		log.Panic(err)
	}
	return v
}
