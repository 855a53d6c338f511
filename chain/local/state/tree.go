package state

import (
	"crypto/sha256"

	"sn3/chain"
)

// tree is a Merkle tree over the whole state: a binary trie over the bits of SHA-256(key) in which a subtree of one entry is
// that entry. Its root depends on the entries alone, not on how they came about, so whoever has them all can check them
// against the application hash of a block.
//
//	empty  = 32 zero bytes
//	leaf   = SHA-256(0 ‖ SHA-256(key) ‖ SHA-256(value))
//	branch = SHA-256(1 ‖ left ‖ right), left where the next bit is 0, the highest bit of the first byte first
type tree struct{ root *twig }

// twig is a leaf or a branch; a branch has two entries below it at least.
type twig struct {
	hash        chain.Hash
	stale       bool // of a branch: hash is to be computed
	path        chain.Hash
	left, right *twig
}

func (n *twig) leaf() bool { return n.left == nil && n.right == nil }

func bit(path *chain.Hash, depth int) bool { return path[depth>>3]>>(7-depth&7)&1 == 1 }

// set changes the value of a key; nil takes it out.
func (t *tree) set(key string, value []byte) {
	path := chain.Hash(sha256.Sum256([]byte(key)))
	if value == nil {
		t.root = remove(t.root, &path, 0)
		return
	}
	v := sha256.Sum256(value)
	b := make([]byte, 0, 65)
	b = append(append(append(b, 0), path[:]...), v[:]...)
	t.root = insert(t.root, &twig{hash: sha256.Sum256(b), path: path}, 0)
}

func insert(at, leaf *twig, depth int) *twig {
	if at == nil || at.leaf() && at.path == leaf.path {
		return leaf
	}
	if at.leaf() {
		branch := &twig{}
		branch.put(at, depth)
		at = branch
	}
	at.put(leaf, depth)
	return at
}

// put inserts a leaf below a branch at depth.
func (n *twig) put(leaf *twig, depth int) {
	n.stale = true
	if bit(&leaf.path, depth) {
		n.right = insert(n.right, leaf, depth+1)
	} else {
		n.left = insert(n.left, leaf, depth+1)
	}
}

func remove(at *twig, path *chain.Hash, depth int) *twig {
	if at == nil {
		return nil
	}
	if at.leaf() {
		if at.path == *path {
			return nil
		}
		return at
	}
	at.stale = true
	if !bit(path, depth) {
		at.left = remove(at.left, path, depth+1)
	} else {
		at.right = remove(at.right, path, depth+1)
	}
	switch { // a subtree of one entry is that entry
	case at.left == nil && at.right.leaf():
		return at.right
	case at.right == nil && at.left.leaf():
		return at.left
	}
	return at
}

// sum is the root's hash.
func (t *tree) sum() chain.Hash { return t.root.sum() }

func (n *twig) sum() chain.Hash {
	if n == nil {
		return chain.Hash{}
	}
	if n.stale {
		l, r := n.left.sum(), n.right.sum()
		b := make([]byte, 0, 65)
		b = append(append(append(b, 1), l[:]...), r[:]...)
		n.hash, n.stale = sha256.Sum256(b), false
	}
	return n.hash
}
