/* row.c: decoding of one row. */
#include "train/row.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "image/image.h"
#include "train/tensor_wire.h"

size_t
d2c_row_pixels(const d2c_row_shape *shape)
{
    return (size_t)shape->size * (size_t)shape->size * (size_t)shape->channels;
}

size_t
d2c_row_image(const d2c_row_shape *shape)
{
    return shape->latent_scale > 0 ? 0 : d2c_row_pixels(shape);
}

size_t
d2c_row_latent(const d2c_row_shape *shape)
{
    return shape->latent_scale > 0 ? 2 * d2c_row_pixels(shape) : 0;
}

size_t
d2c_row_text(const d2c_row_shape *shape)
{
    return (size_t)shape->text_tokens * (size_t)shape->text_width;
}

size_t
d2c_row_visual(const d2c_row_shape *shape)
{
    return (size_t)shape->visual_tokens * (size_t)shape->visual_width;
}

d2c_status
d2c_row_allocate(d2c_row *row, const d2c_row_shape *shape, d2c_error *err)
{
    memset(row, 0, sizeof *row);
    row->id = malloc(D2C_ID_LIMIT + 1);
    row->pixels = malloc(d2c_row_image(shape) + 1);
    row->latent = malloc(d2c_row_latent(shape) * sizeof(float) + 1);
    row->text = malloc(d2c_row_text(shape) * sizeof(float) + 1);
    row->mask = malloc((size_t)shape->text_tokens * sizeof(float) + 1);
    row->visual = malloc(d2c_row_visual(shape) * sizeof(uint16_t) + 1);
    if (row->id != NULL && row->pixels != NULL && row->latent != NULL && row->text != NULL &&
        row->mask != NULL && row->visual != NULL)
        return D2C_OK;
    d2c_row_free(row);
    return d2c_fail(err, D2C_NO_MEMORY, "out of memory for a row");
}

void
d2c_row_free(d2c_row *row)
{
    free(row->id);
    free(row->pixels);
    free(row->latent);
    free(row->text);
    free(row->mask);
    free(row->visual);
    memset(row, 0, sizeof *row);
}

static d2c_status
read_label(d2c_row *row, const d2c_row_shape *shape, const d2c_field *field, d2c_error *err)
{
    D2C_TRY(d2c_field_i64(&row->label, field, err));
    if (row->label >= 0 && row->label < shape->classes)
        return D2C_OK;
    d2c_fail(err, D2C_BAD_DATA, "label %" PRId64 " is out of range", row->label);
    d2c_detail(err, "The model has the classes 0 to %" PRId64 ".", shape->classes - 1);
    return D2C_BAD_DATA;
}

static d2c_status
read_image(d2c_row *row, const d2c_row_shape *shape, const d2c_field *field, d2c_error *err)
{
    d2c_image image = {0}, crop = {0};
    d2c_status status;

    if (field->length < 0)
        return d2c_fail(err, D2C_BAD_DATA, "the image is null");
    D2C_TRY(d2c_image_decode(&image, field->data, (size_t)field->length, shape->channels,
                             D2C_DEFAULT_PIXEL_LIMIT, err));
    status = d2c_image_adm_crop(&crop, &image, shape->size, err);
    if (status == D2C_OK)
        memcpy(row->pixels, crop.pixels, d2c_row_pixels(shape));
    d2c_image_free(&crop);
    d2c_image_free(&image);
    return status;
}

static d2c_status
check_finite(const float *value, size_t count, const char *what, d2c_error *err)
{
    size_t i;

    for (i = 0; i < count; i++)
        if (!isfinite(value[i]))
            return d2c_fail(err, D2C_NOT_FINITE, "the %s holds a value that is not finite", what);
    return D2C_OK;
}

/* Mean and standard deviation, in the shape of the first row's. */
static d2c_status
read_latent(d2c_row *row, const d2c_row_shape *shape, const d2c_field *field, d2c_error *err)
{
    size_t count = d2c_row_latent(shape), i;
    d2c_wire_tensor tensor;

    if (field->length < 0)
        return d2c_fail(err, D2C_BAD_DATA, "the latent is null");
    D2C_TRY(d2c_wire_tensor_read(&tensor, field, err));
    if (tensor.ndim != 3 || tensor.dim[0] != 2 * shape->channels || tensor.dim[1] != shape->size ||
        tensor.dim[2] != shape->size) {
        d2c_fail(err, D2C_BAD_DATA, "the latent does not have the shape of the other rows'");
        d2c_detail(err, "Expected [%d,%d,%d].", 2 * shape->channels, shape->size, shape->size);
        return D2C_BAD_DATA;
    }
    d2c_wire_tensor_f32(row->latent, &tensor, (int64_t)count);
    D2C_TRY(check_finite(row->latent, count, "latent", err));
    for (i = count / 2; i < count; i++)
        if (row->latent[i] < 0) {
            d2c_fail(err, D2C_BAD_DATA, "the latent has a standard deviation below zero");
            d2c_hint(err, "Store what d2c_latent() gives: mean, then standard deviation, not its logarithm.");
            return D2C_BAD_DATA;
        }
    return D2C_OK;
}

d2c_status
d2c_text_read(float *text, float *mask, const d2c_field *embedding, const d2c_field *mask_field, int tokens,
              int width, d2c_error *err)
{
    d2c_wire_tensor e, m;

    if (embedding->length < 0 || mask_field->length < 0)
        return d2c_fail(err, D2C_BAD_DATA, "the text embedding or its mask is null");
    D2C_TRY(d2c_wire_tensor_read(&e, embedding, err));
    D2C_TRY(d2c_wire_tensor_read(&m, mask_field, err));
    if (e.ndim != 2 || e.dim[0] != tokens || e.dim[1] != width || m.ndim != 1 || m.dim[0] != tokens) {
        d2c_fail(err, D2C_BAD_DATA, "the text embedding does not have the shape of the other rows'");
        d2c_detail(err, "Expected [%d,%d] and a mask of [%d].", tokens, width, tokens);
        return D2C_BAD_DATA;
    }
    d2c_wire_tensor_f32(text, &e, e.count);
    d2c_wire_tensor_f32(mask, &m, m.count);
    D2C_TRY(check_finite(text, (size_t)e.count, "text embedding", err));
    return check_finite(mask, (size_t)m.count, "text mask", err);
}

static int
halves_are_finite(const uint16_t *half, size_t count)
{
    size_t i;

    for (i = 0; i < count; i++)
        if ((half[i] & 0x7c00) == 0x7c00)
            return 0;
    return 1;
}

static d2c_status
read_visual(d2c_row *row, const d2c_row_shape *shape, const d2c_field *field, d2c_error *err)
{
    d2c_wire_tensor tensor;

    if (field->length < 0)
        return d2c_fail(err, D2C_BAD_DATA, "the visual embedding is null");
    D2C_TRY(d2c_wire_tensor_read(&tensor, field, err));
    if (tensor.ndim != 2 || tensor.dim[0] < shape->visual_tokens || tensor.dim[1] != shape->visual_width) {
        d2c_fail(err, D2C_BAD_DATA, "the visual embedding does not have the shape that is needed");
        d2c_detail(err, "Expected at least %d tokens of width %d.", shape->visual_tokens,
                   shape->visual_width);
        return D2C_BAD_DATA;
    }
    d2c_wire_tensor_f16(row->visual, &tensor, (int64_t)d2c_row_visual(shape));
    if (!halves_are_finite(row->visual, d2c_row_visual(shape)))
        return d2c_fail(err, D2C_NOT_FINITE, "the visual embedding holds a value that is not finite as f16");
    return D2C_OK;
}

static d2c_status
decode_columns(d2c_row *row, const d2c_row_shape *shape, const d2c_field *fields, d2c_error *err)
{
    D2C_TRY(read_label(row, shape, &fields[1], err));
    D2C_TRY((shape->latent_scale > 0 ? read_latent : read_image)(row, shape, &fields[2], err));
    if (shape->text_tokens > 0)
        D2C_TRY(d2c_text_read(row->text, row->mask, &fields[3], &fields[4], shape->text_tokens,
                              shape->text_width, err));
    if (shape->visual_tokens > 0)
        D2C_TRY(read_visual(row, shape, &fields[5], err));
    return D2C_OK;
}

d2c_status
d2c_row_decode(d2c_row *row, const d2c_row_shape *shape, const d2c_field fields[D2C_TABLE_COLUMNS],
               d2c_error *err)
{
    d2c_status status;

    if (fields[0].length < 0 || fields[0].length > D2C_ID_LIMIT)
        return d2c_fail(err, D2C_BAD_DATA, "an id is null or too long");
    memcpy(row->id, fields[0].data, (size_t)fields[0].length);
    row->id[fields[0].length] = '\0';
    row->number = d2c_order_number(row->id);
    status = decode_columns(row, shape, fields, err);
    if (status != D2C_OK)
        d2c_error_prefix(err, "row %.70s", row->id);
    return status;
}

uint64_t
d2c_text_hash(const float *text, const float *mask, const d2c_row_shape *shape)
{
    size_t count = d2c_row_text(shape), i;
    uint64_t hash = 0xcbf29ce484222325u;
    uint32_t bits;

    for (i = 0; i < count + (size_t)shape->text_tokens; i++) {
        memcpy(&bits, i < count ? &text[i] : &mask[i - count], sizeof bits);
        hash = (hash ^ bits) * 0x9e3779b97f4a7c15u;
        hash ^= hash >> 29;
    }
    return hash | 1;
}
