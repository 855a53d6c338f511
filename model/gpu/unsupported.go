package gpu

import (
	"fmt"

	"sn3/model"
	"sn3/model/gpu/cuda"
)

// unsupported makes model.ErrUnsupported of an error that says that there is no driver, no card or none for our kernels. Of what else
// can go wrong with a card, one that is held, full or lost, the driver's error says what to do, and another try may succeed.
func unsupported(err error) error {
	if cuda.Missing(err) {
		return fmt.Errorf("%w: %w", model.ErrUnsupported, err)
	}
	return err
}
