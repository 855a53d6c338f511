package local

import (
	"sync"

	"sn3/chain"
)

// keepSenders is how many senders a Senders keeps at least: more than a mempool and a block of it hold.
const keepSenders = 4096

// Senders remembers who signed the transactions that it was asked of lately. A node asks again and again: when a client
// submits one, when it enters the mempool, after every block in which it still waits, and in its block; and each time the key
// would have to be recovered from the signature, which is most of a transaction's work. It answers as Tx.Sender does. The zero
// value is ready; safe for concurrent use.
type Senders struct {
	mu         sync.Mutex
	young, old map[chain.Hash]chain.Hotkey // by Tx.Hash, of valid signatures alone: a flood of others takes no memory
}

// Of is t.Sender.
func (s *Senders) Of(t *Tx) (chain.Hotkey, error) {
	id := t.Hash()
	if from, ok := s.known(id); ok {
		return from, nil
	}
	from, err := t.Sender()
	if err == nil {
		s.keep(id, from)
	}
	return from, err
}

func (s *Senders) known(id chain.Hash) (from chain.Hotkey, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if from, ok = s.young[id]; !ok {
		from, ok = s.old[id]
	}
	return from, ok
}

func (s *Senders) keep(id chain.Hash, from chain.Hotkey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.young == nil || len(s.young) >= keepSenders {
		s.young, s.old = make(map[chain.Hash]chain.Hotkey), s.young
	}
	s.young[id] = from
}
