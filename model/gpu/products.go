package gpu

import (
	"errors"

	"sn3/model/gpu/cuda"
	"sn3/model/gpu/lt"
)

// Products says what multiplies matrices on the card: "cuBLASLt" and its version, or "own kernels" and why. It starts the card to know.
func (e Engine) Products() string {
	version, err := e.products()
	if err != nil {
		return "own kernels: " + err.Error()
	}
	return "cuBLASLt " + version
}

func (e Engine) products() (version string, err error) {
	l, err := lt.Open()
	if err != nil {
		return "", err
	}
	d, err := e.driver()
	if err != nil {
		return "", err
	}
	dev, err := d.Start(e.s.Ordinal)
	if err != nil {
		return "", err
	}
	err = dev.Do(func(c *cuda.Context) error {
		h, err := l.New(c, 0, 0)
		if err != nil {
			return err
		}
		version = h.Version()
		const side = 1024 // which every library has an algorithm for that knows the card
		err = h.Prepare(lt.Product{Form: lt.NT, M: side, N: side, K: side, LdA: side, LdB: side, LdC: side, Half: true})
		return errors.Join(err, h.Close())
	})
	return version, errors.Join(err, dev.Close())
}

// openProducts starts cuBLASLt, which may use bytes bytes at workspace, where it is there; else products are our kernels' (Products says
// why).
func (k *card) openProducts(q *queue, workspace cuda.Ptr, bytes int64) {
	if q.err != nil {
		return
	}
	if l, err := lt.Open(); err == nil {
		k.lib, _ = l.New(q.c, workspace, bytes)
	}
}

// closeProducts ends it. What was enqueued has been done, and no graph has products of it any more.
func (k *card) closeProducts() error {
	if k.lib == nil {
		return nil
	}
	h := k.lib
	k.lib = nil
	return h.Close()
}

// forms are the library's names of forms, and of its products in a trace.
var forms = map[form]struct {
	form lt.Form
	name [2]string // to float32, to bfloat16
}{nt: {lt.NT, [2]string{"cublaslt_nt", "cublaslt_nt_bf16"}}, nn: {lt.NN, [2]string{"cublaslt_nn", "cublaslt_nn_bf16"}}, tn: {lt.TN, [2]string{"cublaslt_tn", "cublaslt_tn_bf16"}}}

// library makes a product with cuBLASLt, and says whether it did: it may be missing, or have no algorithm for it.
func (q *queue) library(f form, m, n, k int, a cuda.Ptr, lda int, b cuda.Ptr, ldb int, c cuda.Ptr, ldc int, half, acc bool) bool {
	if q.lib == nil || q.err != nil || m == 0 || n == 0 || k == 0 || (a|b|c)%lt.Aligned != 0 {
		return false
	}
	p, name, add := lt.Product{Form: forms[f].form, M: m, N: n, K: k, LdA: lda, LdB: ldb, LdC: ldc, Half: half, Acc: acc}, forms[f].name[0], 0
	if err := q.lib.Prepare(p); errors.Is(err, lt.ErrNone) {
		return false
	} else if err != nil {
		q.err = err
		return true
	}
	if half {
		name = forms[f].name[1]
	}
	if acc {
		add = 1
	}
	q.begin(name, 1, 1, 1, c, a, b, m, n, k, lda, ldb, ldc, add)
	if q.err == nil {
		q.err = q.lib.Run(p, a, b, c)
	}
	q.end()
	return true
}
