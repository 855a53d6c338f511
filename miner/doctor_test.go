package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"

	"sn3/internal/plan"
	"sn3/internal/proc"
	"sn3/model/gpu/cuda"
	"sn3/model/gpu/standin"
)

// Every card of the driver is described, with the speed of its copies and what it has room to train. The driver is the stand-in.
func TestDoctorWithADriver(t *testing.T) {
	t.Setenv("SN3_CUDA", standin.Library(t))
	t.Setenv("SN3_CUBLASLT", "none")
	var b strings.Builder
	if err := doctor(&b, "portable", 0.9, false); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"kernels  portable: forced", "\nnvidia   driver ", ", for CUDA up to ", "cuBLASLt is switched off by SN3_CUBLASLT=none; unset it", "libnccl.so.2", "libnvidia-ptxjitcompiler.so.1",
		"the stand-in of the tests, which computes on the CPU: what is measured says nothing about a card", "\ncard 0 ", "compute capability ", "kernels: those for sm_",
		" GB of its memory are free", "copies, GB/s, measured: ", " to the card, ", " from it, ", " on it ", "products in bf16, TFLOP/s, measured: ", "gemm_nt_bf16 at ",
		"the engine multiplies by own kernels: cuBLASLt is switched off",
		"room to train ", "not supported yet", "has only run on a stand-in"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
	t.Log(b.String())
}

// examined is what doctor says of NVIDIA with a stand-in that was changed.
func examined(t *testing.T, settings ...string) (string, standin.Report) {
	t.Helper()
	card := standin.Load(t)
	for i := 0; i < len(settings); i += 2 {
		card.Set(t, settings[i], settings[i+1])
	}
	t.Setenv("SN3_CUDA", card.Path)
	t.Setenv("SN3_CUBLASLT", "none")
	var b strings.Builder
	nvidia(0.9, plan.Unknown).write(&b)
	return b.String(), card.Report(t)
}

// --json has what the text has.
func TestDoctorInJSON(t *testing.T) {
	standin.Only(t, "its name and version")
	t.Setenv("SN3_CUDA", standin.Library(t))
	t.Setenv("SN3_CUBLASLT", standin.Library(t))
	var b bytes.Buffer
	if err := doctor(&b, "portable", 0.9, true); err != nil {
		t.Fatal(err)
	}
	var f findings
	d := json.NewDecoder(&b)
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		t.Fatal(err)
	}
	k := f.Processor.Kernels[0]
	if k.Name != "portable" || !k.Chosen || k.Why == "" || f.Platform == "" || f.OnCPU == "" || !f.NVIDIA.StandIn || f.NVIDIA.CUDA != "13.0" || len(f.NVIDIA.Libraries) != len(libraries)+1 ||
		f.Others == nil || len(f.NVIDIA.Cards) != 1 {
		t.Fatalf("%+v", f)
	}
	c := f.NVIDIA.Cards[0]
	if c.Capability != "8.0" || c.Kernels != "sm_80" || c.Why == "" || c.Free == nil || *c.Free > c.Memory || len(c.Copies) != 3 || len(c.Products) != 2 || c.NoFast != "" || c.Multiplies != "cuBLASLt 13.10.0" || len(c.Trains) == 0 {
		t.Fatalf("%+v", c)
	}
	for _, s := range append(c.Copies, c.Products...) {
		if !(s.Rate > 0) || s.Size < leastSide || s.Times != measureTimes {
			t.Errorf("%+v", s)
		}
	}
	if x := c.Trains[0]; x.Preset == "" || x.Plan == "" || x.Recompute == "" || x.MicroBatch < 1 || x.Bytes > x.Allowed {
		t.Errorf("%+v", x)
	}
	var text strings.Builder
	if err := f.write(&text); err != nil || !strings.Contains(text.String(), c.Trains[0].String()) {
		t.Errorf("%v, %s", err, text.String())
	}
}

// Machines that are not what we want are described, not failed on.
func TestDoctorOnOtherMachines(t *testing.T) {
	for _, c := range []struct{ name, value, want, never string }{
		{"devices", "0", "check that nvidia-smi lists a card", "card 0"},
		{"cc", "75", "too old for our kernels, which need compute capability 8.0: the CPU engine works", "measured: "},
		{"cc", "90", "kernels: those for sm_90a", "sm_80"},
		{"version", "11000", "install a newer driver", "card 0"},
		{"memory", "100000000", "products in bf16, TFLOP/s, measured: ", "its speed cannot be measured"}, // with less
		{"memory", "1000000", "its speed cannot be measured: cuMemAlloc_v2", "GB/s, measured"},
	} {
		if out, _ := examined(t, c.name, c.value); !strings.Contains(out, c.want) || strings.Contains(out, c.never) {
			t.Errorf("%s %s: no %q, or %q in\n%s", c.name, c.value, c.want, c.never, out)
		}
	}
}

// Whatever call of the driver fails, the first time that it is made: the finding names it, but for those that name errors, and nothing
// is left.
func TestDoctorWhenCallsFail(t *testing.T) {
	const small = "9000000" // a card on which copies are short
	_, whole := examined(t, "memory", small)
	if left := whole.Left(); left != "" {
		t.Errorf("left on the card: %s", left)
	}
	if len(whole.Calls) < 20 {
		t.Fatalf("doctor made calls of %d functions", len(whole.Calls))
	}
	for call := range whole.Calls {
		if strings.HasPrefix(call, "cublasLt") { // TestDoctorAndCuBLASLt
			continue
		}
		out, r := examined(t, "memory", small, "fail", call+":1:999")
		if !strings.Contains(out, call+": ") && !strings.HasPrefix(call, "cuGetError") {
			t.Errorf("%s fails and is not named:\n%s", call, out)
		}
		if left := r.Left(); left != "" && !regexp.MustCompile("Free|Destroy|Release|Unload").MatchString(call) {
			t.Errorf("%s fails: left on the card: %s", call, left)
		}
	}
}

// With a driver --gpu goes on; what contradicts it is refused by name.
func TestGPUFlags(t *testing.T) {
	t.Setenv("SN3_CUDA", standin.Library(t))
	for line, want := range map[string]string{
		"--gpu --engine cpu":     "leave --engine cpu out",
		"--gpu --precision f32":  "--precision f32: cards compute in bf16",
		"--gpu --gpus 0,0":       "names card 0 twice",
		"--gpu --gpus 0,":        "the number of a card",
		"--gpu --gpus 1,0":       "--",
		"--gpu --gpu-plan fat":   "use one of [classic lean offload]",
		"--gpu --recompute some": "use one of [none selective full]",
		"--gpu-plan lean":        "--gpu-plan belongs to --gpu",
		"--recompute full":       "--recompute belongs to --gpu",
		"--gpu-memory 0.5":       "--gpu-memory belongs to --gpu",
		"--gpus 0":               "--gpus belongs to --gpu",
		"--gpu --gpus first":     "the number of a card",
		"--gpu --gpu-memory 2":   "above 0 and at most 1",
		"--gpu":                  "--",
		"--gpu --precision bf16": "--",
		"--gpu --gap sideways":   "unknown gap mode",
	} {
		err := run(append([]string{"miner"}, strings.Fields(line)...))
		if err == nil || proc.ExitCode(err) != proc.ExitUsage || !strings.Contains(err.Error(), want) {
			t.Errorf("miner %s: exit code %d, %v", line, proc.ExitCode(err), err)
		}
	}
}

// What a card could train follows from its memory and the share of it.
func TestTrainable(t *testing.T) {
	const gb = 1_000_000_000
	for _, c := range []struct {
		name   string
		memory uint64
		share  float64
		host   int64
		want   []string
	}{
		{"NVIDIA H200", 150754820096, 0.9, plan.Unknown, []string{"room to train 8b: plan lean, recompute none", "room to train 1b: plan classic, recompute none, --micro-batch 8", "on paper\n"}},
		{"NVIDIA H100 80GB HBM3", 85 * gb, 0.9, 400 * gb, []string{"room to train 8b: plan offload", "GB for it; with", "room to train 1b: plan classic"}},
		{"NVIDIA H100 80GB HBM3", 85 * gb, 0.9, 80 * gb, []string{"room to train 8b: plan offload", "GB for it, which it has not; with", "room to train 1b: plan classic", "room to train 160m"}},
		{"NVIDIA GeForce RTX 4090", 25386352640, 0.9, plan.Unknown, []string{"room to train 160m: plan classic, recompute none", "room to train 1b: plan lean"}},
		{"unheard of", 25386352640, 0.9, plan.Unknown, []string{"room to train 160m: plan classic, recompute none", "room to train 1b: plan lean"}},
		{"NVIDIA H200", 150754820096, 0.000001, plan.Unknown, []string{"room for none of the presets"}},
	} {
		f := cardFindings{Kernels: "sm_80", Trains: trainable(cuda.Info{Name: c.name, Memory: c.memory}, c.share, c.host)}
		var b strings.Builder
		f.write(&b)
		out := b.String()
		for _, want := range c.want {
			if !strings.Contains(out, want) {
				t.Errorf("%s: no %q in\n%s", c.name, want, out)
			}
		}
		if strings.Contains(out, "paper") == (c.name == "unheard of") && c.share > 0.5 {
			t.Errorf("%s is predicted, or a known card is not:\n%s", c.name, out)
		}
	}
}

func TestLargestOnCPU(t *testing.T) {
	for free, want := range map[int64]string{1 << 20: "", 1 << 30: "8m", 16 << 30: "160m", 1 << 50: "70b", plan.Unknown: "70b"} {
		if got := largestOnCPU(free); got != want {
			t.Errorf("%d bytes: %s, want %s", free, got, want)
		}
	}
}

// GPUs of other makers are told by the bus: class 03, vendor.
func TestOtherGPUs(t *testing.T) {
	bus := func(devices ...string) fstest.MapFS {
		fsys := fstest.MapFS{}
		for i, d := range devices {
			class, vendor, _ := strings.Cut(d, " ")
			at := "sys/bus/pci/devices/0000:00:0" + string(rune('0'+i)) + ".0/"
			fsys[at+"class"], fsys[at+"vendor"] = &fstest.MapFile{Data: []byte(class + "\n")}, &fstest.MapFile{Data: []byte(vendor + "\n")}
		}
		return fsys
	}
	for _, c := range []struct {
		fsys     fstest.MapFS
		platform string
		want     string
	}{
		{bus(), "linux/amd64", ""},
		{bus("0x060000 0x8086", "0x030200 0x10de"), "linux/amd64", ""},
		{bus("0x030000 0x1002", "0x038000 0x8086"), "linux/amd64", "AMD Intel"},
		{bus("0x120000 0x1002"), "linux/amd64", "AMD"}, // an accelerator without a display
		{fstest.MapFS{"dev/kfd": {}}, "linux/amd64", "AMD"},
		{bus(), "darwin/arm64", "Apple"},
		{bus(), "darwin/amd64", "AMD or Intel"},
	} {
		if got := strings.Join(otherGPUs(c.fsys, c.platform), " "); got != c.want {
			t.Errorf("%s: %q, want %q", c.platform, got, c.want)
		}
	}
	if !onBus(bus("0x030200 0x10de"), "0x10de") || onBus(fstest.MapFS{"sys/bus/pci/devices/x/class": {Data: []byte("0x030000")}}, "") {
		t.Error("a card is overlooked, or one without a vendor found")
	}
}

// A library that is there tells its version in the maker's form; one that is not says what that means.
func TestLibraries(t *testing.T) {
	for _, c := range []struct {
		v    uint64
		want string
	}{{120405, "12.4.5"}, {130001, "13.0.1"}, {21903, "2.19.3"}} {
		if got := decimal(c.v, 10000); got != c.want {
			t.Errorf("%d: %s", c.v, got)
		}
	}
	l := library{names: []string{"libsn3-a.so", "libsn3-b.so"}, without: "so what"}
	if got := l.look(); got != (libraryFindings{Text: "no libsn3-a.so and no libsn3-b.so: so what"}) {
		t.Error(got)
	}
	l = library{names: []string{"libsn3-a.so", "libc.so.6"}, version: "sn3NoSuchFunction"}
	if got := l.look(); got.Name == "libc.so.6" && got.Text != "libc.so.6 that does not tell its version" {
		t.Error(got)
	}
}

// cuBLASLt is told by what the engine would take. What is wrong with it on a card, whichever call fails, is a finding; it leaves nothing.
func TestDoctorAndCuBLASLt(t *testing.T) {
	look := func(name, value string) (string, standin.Report) {
		card := standin.Load(t, "scale.cu")
		card.Set(t, name, value)
		t.Setenv("SN3_CUBLASLT", card.Path)
		driver, err := cuda.OpenAt(card.Path)
		if err != nil {
			t.Fatal(err)
		}
		device, err := driver.Start(0)
		if err != nil {
			t.Fatal(err)
		}
		f := cardFindings{Kernels: "those of a test"}
		if err := errors.Join(device.Do(f.measureFast), device.Close()); err != nil {
			t.Errorf("%s %s: %v", name, value, err)
		}
		b := new(strings.Builder)
		b.WriteString(fastProducts().Text)
		f.write(b)
		return b.String(), card.Report(t)
	}
	for _, c := range []struct{ name, value, want, never string }{
		{"seed", "1", "TFLOP/s, measured: ", "cannot be measured"},
		{"seed", "1", " by cuBLASLt 13.10.0 at ", "cannot be measured"},
		{"lt_version", "120903", " 12.9.3card", "cannot be measured"},
		{"lt_version", "110000", "has version 11.0.0, 12.0.0 is the least", "by cuBLASLt"},
		{"lt_align", "8192", "cuBLASLt's products cannot be measured: cuBLASLt has no algorithm for product nt", "by cuBLASLt"},
		{"memory", "1000000", "cuBLASLt's products cannot be measured: cuMemAlloc_v2: CUDA_ERROR_OUT_OF_MEMORY", "by cuBLASLt"},
	} {
		if out, r := look(c.name, c.value); !strings.Contains(out, c.want) || strings.Contains(out, c.never) || r.Left() != "" {
			t.Errorf("%s %s: no %q, or %q in\n%s\nleft on the card: %s", c.name, c.value, c.want, c.never, out, r.Left())
		}
	}
	_, whole := look("seed", "1")
	for call := range whole.Calls {
		if !strings.HasPrefix(call, "cublasLt") {
			continue
		}
		out, r := look("fail", call+":1:14")
		if !strings.Contains(out, "cuBLASLt's products cannot be measured: ") || !strings.Contains(out, call+": CUBLAS_STATUS_INTERNAL_ERROR (14)") || strings.Contains(out, "by cuBLASLt") {
			t.Errorf("%s fails and is not named:\n%s", call, out)
		}
		if left := r.Left(); left != "" && !strings.Contains(call, "Destroy") {
			t.Errorf("%s fails: left on the card: %s", call, left)
		}
	}
}

func TestDoctorArguments(t *testing.T) {
	t.Setenv("SN3_CUDA", "no such library")
	for line, want := range map[string]int{"doctor now": proc.ExitUsage, "doctor --gpu-memory 90": proc.ExitUsage, "doctor --gpu-memory NaN": proc.ExitUsage,
		"doctor --kernels abacus": proc.ExitUsage, "doctor --kernel portable": proc.ExitUsage, "doctor --kernels portable --gpu-memory 1": 0, "doctor --json --kernels portable": 0} {
		if err := run(append([]string{"miner"}, strings.Fields(line)...)); proc.ExitCode(err) != want {
			t.Errorf("miner %s: exit code %d (%v), want %d", line, proc.ExitCode(err), err, want)
		}
	}
}
