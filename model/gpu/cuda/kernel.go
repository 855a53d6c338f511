package cuda

// Kernel is the signature of a kernel: what a launch is checked against. Package kernels has the table.
type Kernel struct {
	Name    string
	Threads int // of a block
	Params  []Param
}

// Param is one parameter of a kernel.
type Param struct {
	Name string
	Type Type
	Elem string // what a Pointer points to, in the source's words
}

// Type is the type of a parameter.
type Type byte

// The types of parameters.
const (
	Pointer Type = iota + 1
	Int32
	Uint32
	Float32
	Int64
	Uint64
)

// Size is the bytes that a parameter of this type takes.
func (t Type) Size() int {
	switch t {
	case Int32, Uint32, Float32:
		return 4
	}
	return 8
}

// String is the type's name in the kernels' source.
func (t Type) String() string {
	switch t {
	case Pointer:
		return "pointer"
	case Int32:
		return "int"
	case Uint32:
		return "unsigned"
	case Float32:
		return "float"
	case Int64:
		return "long64"
	case Uint64:
		return "ulong64"
	}
	return "unknown"
}
