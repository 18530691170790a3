/* reference_embedding.c: tables, time, patches and texts. */
#include "ops/reference.h"

#include <math.h>

d2c_status
d2c_ref_gather(d2c_backend *be, d2c_tensor y, d2c_tensor table, d2c_tensor index)
{
    const int64_t *row = index.data;
    int64_t width = table.dim[1];

    D2C_TRY(d2c_host_check_index(be, "gather", index, table.dim[0]));
    for (int64_t n = 0; n < index.dim[0]; n++)
        for (int64_t c = 0; c < width; c++)
            ref_set(y, n * width + c, ref_get(table, row[n] * width + c));
    return D2C_OK;
}

d2c_status
d2c_ref_scatter_add(d2c_backend *be, d2c_tensor dtable, d2c_tensor dy, d2c_tensor index)
{
    const int64_t *row = index.data;
    int64_t width = dtable.dim[1];

    D2C_TRY(d2c_host_check_index(be, "scatter_add", index, dtable.dim[0]));
    for (int64_t n = 0; n < index.dim[0]; n++)
        for (int64_t c = 0; c < width; c++)
            ref_add(dtable, row[n] * width + c, ref_get(dy, n * width + c));
    return D2C_OK;
}

d2c_status
d2c_ref_timestep_embedding(d2c_backend *be, d2c_tensor y, d2c_tensor t)
{
    int64_t half = y.dim[1] / 2;

    (void)be;
    for (int64_t b = 0; b < y.dim[0]; b++)
        for (int64_t i = 0; i < half; i++) {
            double angle = ref_get(t, b) * pow(10000, -(double)i / half);

            ref_set(y, b * 2 * half + i, cos(angle));
            ref_set(y, b * 2 * half + half + i, sin(angle));
        }
    return D2C_OK;
}

/* Where pixel (row, column) of a channel lies in tokens [B, T, K]; x [B, C, H, W] gives the image's shape. */
static int64_t
token_position(d2c_tensor y, d2c_tensor x, int64_t b, int64_t channel, int64_t row, int64_t column, int patch,
               d2c_patch_order order)
{
    int64_t token = row / patch * (x.dim[3] / patch) + column / patch;
    int64_t pixel = row % patch * patch + column % patch, area = (int64_t)patch * patch;
    int64_t element =
        order == D2C_PATCH_CHANNEL_FIRST ? channel * area + pixel : pixel * (y.dim[2] / area) + channel;

    return (b * y.dim[1] + token) * y.dim[2] + element;
}

/* Copies one way or the other; channels of y that x does not have become 0. */
static void
move_patches(d2c_tensor y, d2c_tensor x, int patch, d2c_patch_order order, int to_tokens)
{
    int64_t channels = to_tokens ? y.dim[2] / ((int64_t)patch * patch) : x.dim[1];
    int64_t from = 0;

    for (int64_t b = 0; b < x.dim[0]; b++)
        for (int64_t channel = 0; channel < channels; channel++)
            for (int64_t row = 0; row < x.dim[2]; row++)
                for (int64_t column = 0; column < x.dim[3]; column++) {
                    int64_t to = token_position(y, x, b, channel, row, column, patch, order);

                    if (channel >= x.dim[1])
                        ref_set(y, to, 0);
                    else if (to_tokens)
                        ref_set(y, to, ref_get(x, from++));
                    else
                        ref_set(x, from++, ref_get(y, to));
                }
}

d2c_status
d2c_ref_patchify(d2c_backend *be, d2c_tensor y, d2c_tensor x, int patch, d2c_patch_order order)
{
    (void)be;
    move_patches(y, x, patch, order, 1);
    return D2C_OK;
}

d2c_status
d2c_ref_unpatchify(d2c_backend *be, d2c_tensor x, d2c_tensor y, int patch, d2c_patch_order order)
{
    (void)be;
    move_patches(y, x, patch, order, 0);
    return D2C_OK;
}

d2c_status
d2c_ref_text_unfold(d2c_backend *be, d2c_tensor y, d2c_tensor x, d2c_tensor mask)
{
    int64_t tokens = x.dim[1], width = x.dim[2];

    (void)be;
    for (int64_t b = 0; b < x.dim[0]; b++)
        for (int64_t l = 0; l < tokens; l++)
            for (int64_t w = 0; w < width; w++)
                ref_set(y, (b * width + w) * tokens + l,
                        ref_get(x, (b * tokens + l) * width + w) * ref_get(mask, b * tokens + l));
    return D2C_OK;
}
