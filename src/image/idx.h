/* idx.h: IDX files, the format of MNIST and its kin: unsigned bytes in one to four dimensions, plain or
 * gzipped. */
#ifndef D2C_IMAGE_IDX_H
#define D2C_IMAGE_IDX_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

#define D2C_IDX_MAX_DIMS 4

typedef struct d2c_idx {
    int ndim;
    int64_t dim[D2C_IDX_MAX_DIMS];
    uint8_t *data; /* [dim[0], dim[1], ...] */
} d2c_idx;

/* Reads the whole file, which must have min_dims to max_dims dimensions and exactly the bytes that its header
 * says. */
d2c_status d2c_idx_read(d2c_idx *idx, const char *path, int min_dims, int max_dims, d2c_error *err);
void d2c_idx_free(d2c_idx *idx);

#endif
