/* cpu_kernels_avx2.c: the kernels for AVX2 with FMA; the Makefile gives the flags. */
#if defined(__AVX2__)
#define D2C_KERNELS d2c_cpu_kernels_avx2
#define D2C_KERNELS_NAME "avx2"
#include "ops/cpu_kernels_body.h"
#else
typedef int d2c_no_avx2;
#endif
