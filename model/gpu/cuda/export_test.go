package cuda

import "reflect"

// Names are the driver's functions that the package binds.
func Names(d *Driver) (names []string) {
	v := reflect.ValueOf(d.calls)
	for i := range v.NumField() {
		names = append(names, v.Field(i).FieldByName("Name").String())
	}
	return names
}

// Forget takes an optional function away, as an older driver has none.
func Forget(d *Driver) { d.funcGetParamInfo.Addr = 0 }
