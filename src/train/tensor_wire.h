/* tensor_wire.h: the binary form of the SQL type tensor (src/pg/tensor.h), as COPY BINARY and binary results
 * carry it. */
#ifndef D2C_TRAIN_TENSOR_WIRE_H
#define D2C_TRAIN_TENSOR_WIRE_H

#include "ops/ops.h"
#include "train/copy.h"

typedef struct d2c_wire_tensor {
    d2c_dtype dtype; /* F32, BF16, F16 or U8 */
    int ndim;
    int64_t dim[8];
    int64_t count;       /* elements */
    const uint8_t *data; /* little-endian, row-major, not necessarily aligned */
} d2c_wire_tensor;

/* Checks and describes the bytes; the result points into the field. */
d2c_status d2c_wire_tensor_read(d2c_wire_tensor *tensor, const d2c_field *field, d2c_error *err);

/* The first `count` elements, converted; to f16 by round to nearest even, beyond its range to infinity. */
void d2c_wire_tensor_f32(float *out, const d2c_wire_tensor *tensor, int64_t count);
void d2c_wire_tensor_f16(uint16_t *out, const d2c_wire_tensor *tensor, int64_t count);

#endif
