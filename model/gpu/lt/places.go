package lt

import (
	"fmt"
	"path/filepath"
	"slices"
)

// places are the names under which the library is looked for, CUDA 13's first: where the loader looks; where NVIDIA's installers put it;
// in the Python environment that env names; in the system's Pythons. Most machines with a card have PyTorch, which brings the library
// to where no loader finds it.
func places(env func(string) string, glob func(string) ([]string, error)) (names []string) {
	var pythons []string
	for _, root := range []string{env("VIRTUAL_ENV"), env("CONDA_PREFIX"), "/opt/conda", "/opt/venv", "/usr/local", "/usr", userBase(env)} {
		if filepath.IsAbs(root) {
			pythons = append(pythons, root)
		}
	}
	for _, cuda := range []string{"13", "12"} {
		file := "libcublasLt.so." + cuda
		names = append(names, file, "/usr/local/cuda/lib64/"+file)
		patterns := []string{fmt.Sprintf("/usr/local/cuda-%s*/lib64/%s", cuda, file)}
		for _, root := range pythons {
			patterns = append(patterns, filepath.Join(root, "lib", file)) // conda's
			for _, packages := range []string{"site-packages", "dist-packages"} {
				patterns = append(patterns, filepath.Join(root, "lib", "python3*", packages, "nvidia", "cu"+cuda, "lib", file),
					filepath.Join(root, "lib", "python3*", packages, "nvidia", "cublas", "lib", file))
			}
		}
		for _, p := range patterns {
			found, _ := glob(p) // an error is only of the pattern
			slices.Reverse(found)
			names = append(names, found...) // the newest first, as names go
		}
	}
	return names
}

// userBase is where pip puts what a user installs.
func userBase(env func(string) string) string {
	if home := env("HOME"); home != "" {
		return filepath.Join(home, ".local")
	}
	return ""
}
