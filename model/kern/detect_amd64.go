package kern

import "golang.org/x/sys/cpu"

func features() have {
	x := &cpu.X86
	h := have{avx2: x.HasAVX2 && x.HasFMA, avx512: x.HasAVX512F && x.HasAVX512BW && x.HasAVX512DQ && x.HasAVX512VL}
	h.vdp = h.avx512 && x.HasAVX512BF16
	h.amx = h.vdp && x.HasAMXTile && x.HasAMXBF16 && tilesAllowed()
	return h
}
