/* cpu_kernels_avx512.c: the kernels for AVX-512 F, BW, DQ and VL; the Makefile gives the flags. */
#if defined(__AVX512F__)
#define D2C_KERNELS d2c_cpu_kernels_avx512
#define D2C_KERNELS_NAME "avx512"
#include "ops/cpu_kernels_body.h"
#else
typedef int d2c_no_avx512;
#endif
