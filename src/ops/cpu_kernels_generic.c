/* cpu_kernels_generic.c: the kernels for the compiler's default instruction set. */
#define D2C_KERNELS d2c_cpu_kernels_generic
#define D2C_KERNELS_NAME "generic"
#include "ops/cpu_kernels_body.h"
