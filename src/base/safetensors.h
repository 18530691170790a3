/*
 * safetensors.h: reading and writing safetensors files (huggingface/safetensors, format of README.md).
 *
 * The reader maps the file and checks every rule of the format before it returns: header length, strict JSON without
 * duplicate keys, known dtypes, shapes whose product fits, ranges that cover the data exactly once.  Every error names
 * the file, the tensor where there is one, and what is wrong.
 */
#ifndef D2C_BASE_SAFETENSORS_H
#define D2C_BASE_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

#define D2C_SAFETENSORS_MAX_DIMS 8

typedef enum d2c_st_dtype {
    D2C_ST_BOOL, D2C_ST_U8, D2C_ST_I8, D2C_ST_I16, D2C_ST_U16, D2C_ST_F16, D2C_ST_BF16, D2C_ST_I32, D2C_ST_U32,
    D2C_ST_F32, D2C_ST_I64, D2C_ST_U64, D2C_ST_F64, D2C_ST_OTHER
} d2c_st_dtype;

typedef struct d2c_st_tensor {
    const char *name;
    d2c_st_dtype dtype;
    int ndim;
    int64_t dim[D2C_SAFETENSORS_MAX_DIMS];
    int64_t count;     /* elements */
    const void *data;  /* little-endian, C order; not necessarily aligned */
    size_t bytes;
} d2c_st_tensor;

typedef struct d2c_safetensors d2c_safetensors;

d2c_status d2c_safetensors_open(d2c_safetensors **file, const char *path, d2c_error *err);
/* The same over bytes in memory, which must outlive the result; `name` is for messages. */
d2c_status d2c_safetensors_parse(d2c_safetensors **file, const char *name, const void *bytes, size_t length,
                                 d2c_error *err);
void d2c_safetensors_close(d2c_safetensors *file);

int d2c_safetensors_count(const d2c_safetensors *file);
const d2c_st_tensor *d2c_safetensors_at(const d2c_safetensors *file, int index);
const d2c_st_tensor *d2c_safetensors_find(const d2c_safetensors *file, const char *name); /* or NULL */
const char *d2c_safetensors_metadata(const d2c_safetensors *file, const char *key);       /* or NULL */

/* Converts floats of any width to f32.  D2C_BAD_MODEL when dtype or count is not what is wanted. */
d2c_status d2c_st_tensor_to_f32(float *out, const d2c_st_tensor *tensor, int64_t count, d2c_error *err);

/* Writing: header first, then the data in the order of the items; to `path` by a temporary file in the same folder,
 * fsync, rename, fsync of the folder.  On failure, disk full included, `path` is what it was before. */
typedef struct d2c_st_item {
    const char *name;
    d2c_st_dtype dtype;
    int ndim;
    int64_t dim[D2C_SAFETENSORS_MAX_DIMS];
    const void *data;
} d2c_st_item;

typedef struct d2c_st_pair {
    const char *key, *value;
} d2c_st_pair;

/* Items are laid out as the format's writer does: larger dtypes first, then by name.  The bytes are a function of the
 * arguments alone. */
d2c_status d2c_safetensors_write(const char *path, const d2c_st_item *items, int count, const d2c_st_pair *metadata,
                                 int pairs, d2c_error *err);

#endif
