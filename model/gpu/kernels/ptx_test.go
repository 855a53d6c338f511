package kernels_test

import (
	"strconv"
	"strings"
	"testing"

	"sn3/model/gpu/kernels"
	signatures "sn3/model/gpu/kernels/source"
)

// Every image is PTX that drivers from CUDA 12.0 on take, and has the kernels of the table.
func TestImages(t *testing.T) {
	for _, cc := range [][2]int{{8, 0}, {9, 0}} {
		text := kernels.Image(cc[0], cc[1])
		if s := string(text); !strings.Contains(s, "\n.version 8.0\n") || !strings.Contains(s, "\n.target sm_"+strconv.Itoa(cc[0]*10+cc[1])) {
			t.Fatalf("the image for %v begins with %.200q", cc, s)
		}
		if err := signatures.Check(text, kernels.Table); err != nil {
			t.Errorf("the image for %v: %v: run go generate ./model/gpu/kernels", cc, err)
		}
	}
}

func TestImageOfOldCards(t *testing.T) {
	for _, cc := range [][2]int{{7, 5}, {5, 0}, {0, 0}} {
		if kernels.Image(cc[0], cc[1]) != nil {
			t.Errorf("there is an image for %v", cc)
		}
	}
	for _, cc := range [][2]int{{8, 0}, {8, 6}, {8, 9}, {10, 0}, {12, 0}} {
		if !strings.Contains(string(kernels.Image(cc[0], cc[1])), ".target sm_80\n") {
			t.Errorf("the image for %v is not that of sm_80", cc)
		}
	}
}
