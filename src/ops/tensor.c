/* tensor.c: views of device memory. */
#include "ops/ops.h"

/* Strides whose product does not fit wrap around: the check of the op refuses such dims. */
static d2c_tensor
dense(void *data, d2c_dtype dtype, int ndim, const int64_t *dim)
{
    d2c_tensor t = {.data = data, .dtype = dtype, .ndim = ndim};
    int64_t stride = 1;
    int i;

    for (i = ndim - 1; i >= 0; i--) {
        t.dim[i] = dim[i];
        t.stride[i] = stride;
        stride = (int64_t)((uint64_t)stride * (uint64_t)dim[i]);
    }
    return t;
}

d2c_tensor
d2c_tensor1(void *data, d2c_dtype dtype, int64_t d0)
{
    return dense(data, dtype, 1, (const int64_t[]){d0});
}

d2c_tensor
d2c_tensor2(void *data, d2c_dtype dtype, int64_t d0, int64_t d1)
{
    return dense(data, dtype, 2, (const int64_t[]){d0, d1});
}

d2c_tensor
d2c_tensor3(void *data, d2c_dtype dtype, int64_t d0, int64_t d1, int64_t d2)
{
    return dense(data, dtype, 3, (const int64_t[]){d0, d1, d2});
}

d2c_tensor
d2c_tensor4(void *data, d2c_dtype dtype, int64_t d0, int64_t d1, int64_t d2, int64_t d3)
{
    return dense(data, dtype, 4, (const int64_t[]){d0, d1, d2, d3});
}

d2c_tensor
d2c_rows(void *data, d2c_dtype dtype, int64_t rows, int64_t width, int64_t row_stride)
{
    d2c_tensor t = d2c_tensor2(data, dtype, rows, width);

    t.stride[0] = row_stride;
    return t;
}

d2c_tensor
d2c_absent(void)
{
    return (d2c_tensor){0};
}

size_t
d2c_dtype_size(d2c_dtype dtype)
{
    static const unsigned char size[] = {
        [D2C_F32] = 4, [D2C_BF16] = 2, [D2C_I64] = 8, [D2C_U8] = 1,
        [D2C_F16] = 2, [D2C_F64] = 8,  [D2C_F8] = 1,
    };

    return (unsigned)dtype < sizeof size ? size[dtype] : 0;
}

int64_t
d2c_tensor_count(d2c_tensor t)
{
    int64_t count = 1;
    int i;

    for (i = 0; i < t.ndim; i++)
        count *= t.dim[i];
    return t.ndim > 0 ? count : 0;
}
