/* tensor_wire.c: reading the binary form of tensor values. */
#include "train/tensor_wire.h"

#include <string.h>

#include "base/half.h"

d2c_status
d2c_wire_tensor_read(d2c_wire_tensor *tensor, const d2c_field *field, d2c_error *err)
{
    const uint8_t *at = field->data;
    size_t size, bytes, left;
    int i;

    if (field->length < 4)
        return d2c_fail(err, D2C_BAD_DATA,
                        field->length < 0 ? "the tensor is null" : "the tensor is cut short");
    if (at[0] != 1 || at[3] != 0)
        return d2c_fail(err, D2C_UNSUPPORTED, "unsupported version %d of the binary form of type tensor",
                        at[0]);
    if (at[1] != D2C_F32 && at[1] != D2C_BF16 && at[1] != D2C_U8 && at[1] != D2C_F16)
        return d2c_fail(err, D2C_BAD_DATA, "unknown element type %d of a tensor", at[1]);
    if (at[2] < 1 || at[2] > 8 || field->length < 4 + 4 * at[2])
        return d2c_fail(err, D2C_BAD_DATA, "a tensor has %d dimensions", at[2]);
    tensor->dtype = (d2c_dtype)at[1];
    tensor->ndim = at[2];
    tensor->data = at + 4 + 4 * at[2];
    tensor->count = 1;
    left = (size_t)field->length - 4 - 4 * (size_t)at[2];
    size = d2c_dtype_size(tensor->dtype);
    for (i = 0; i < tensor->ndim; i++) {
        tensor->dim[i] = (int32_t)d2c_get_u32(at + 4 + 4 * i);
        if (tensor->dim[i] < 1 || tensor->count > (int64_t)left / tensor->dim[i])
            return d2c_fail(err, D2C_BAD_DATA, "a tensor's dimensions do not fit its length");
        tensor->count *= tensor->dim[i];
    }
    bytes = (size_t)tensor->count * size;
    if (bytes != left)
        return d2c_fail(err, D2C_BAD_DATA, "a tensor's dimensions do not fit its length");
    return D2C_OK;
}

static uint16_t
little_u16(const uint8_t *at)
{
    return (uint16_t)(at[0] | at[1] << 8);
}

static float
float_of_bits(uint32_t bits)
{
    float value;

    memcpy(&value, &bits, sizeof value);
    return value;
}

static float
element(const d2c_wire_tensor *tensor, int64_t i)
{
    const uint8_t *at = tensor->data + (size_t)i * d2c_dtype_size(tensor->dtype);

    switch (tensor->dtype) {
    case D2C_F32:
        return float_of_bits((uint32_t)little_u16(at) | (uint32_t)little_u16(at + 2) << 16);
    case D2C_BF16:
        return float_of_bits((uint32_t)little_u16(at) << 16);
    case D2C_F16:
        return d2c_half_to_float(little_u16(at));
    default:
        return (float)at[0];
    }
}

void
d2c_wire_tensor_f32(float *out, const d2c_wire_tensor *tensor, int64_t count)
{
    int64_t i;

    for (i = 0; i < count; i++)
        out[i] = element(tensor, i);
}

void
d2c_wire_tensor_f16(uint16_t *out, const d2c_wire_tensor *tensor, int64_t count)
{
    int64_t i;

    for (i = 0; i < count; i++)
        out[i] = tensor->dtype == D2C_F16 ? little_u16(tensor->data + 2 * i)
                                          : d2c_half_from_float(element(tensor, i));
}
