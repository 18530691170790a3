/* vit_input.c: cropping, resizing and normalising pictures (vit_input.h). */
#include "nn/vit_input.h"

#include <stdlib.h>
#include <string.h>

#include "image/bicubic.h"

/* planes [3, height, width] in [0, 1] */
static void
to_planes(float *planes, const d2c_image *image)
{
    size_t area = (size_t)image->width * (size_t)image->height, i, c;

    for (c = 0; c < 3; c++)
        for (i = 0; i < area; i++)
            planes[c * area + i] = (float)image->pixels[i * 3 + c] / 255.0f;
}

static void
normalise(float *planes, size_t area, const d2c_vit_input *input)
{
    size_t i, c;

    for (c = 0; c < 3; c++)
        for (i = 0; i < area; i++)
            planes[c * area + i] = (planes[c * area + i] - input->mean[c]) / input->deviation[c];
}

/* out [3, edge, edge] from in [3, size, size] */
static d2c_status
resize(float *out, const float *in, int edge, int size, d2c_error *err)
{
    size_t to = (size_t)edge * (size_t)edge, from = (size_t)size * (size_t)size, c;

    for (c = 0; c < 3; c++)
        D2C_TRY(d2c_bicubic_resize(out + c * to, edge, edge, in + c * from, size, size, 1, D2C_BICUBIC_PLAIN,
                                   0, err));
    return D2C_OK;
}

/* Resizes the cropped picture in float, and normalises before or behind it. */
static d2c_status
resize_as_repa(float *planes, const d2c_image *crop, const d2c_vit_input *input, d2c_error *err)
{
    size_t area = (size_t)crop->width * (size_t)crop->height;
    float *large = malloc(3 * area * sizeof *large);
    d2c_status status;

    if (large == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    to_planes(large, crop);
    if (input->recipe == D2C_VIT_REPA_NORMALISED)
        normalise(large, area, input);
    status = resize(planes, large, input->edge, input->size, err);
    if (input->recipe == D2C_VIT_REPA_RESIZED)
        normalise(planes, (size_t)input->edge * (size_t)input->edge, input);
    free(large);
    return status;
}

static d2c_status
crop_picture(d2c_image *crop, const d2c_image *image, const d2c_vit_input *input, d2c_error *err)
{
    if (input->recipe == D2C_VIT_HUGGINGFACE)
        return d2c_image_short_edge_crop(crop, image, input->size, input->edge, err);
    return d2c_image_adm_crop(crop, image, input->size, err);
}

d2c_status
d2c_vit_input_make(float *planes, const d2c_image *image, const d2c_vit_input *input, d2c_error *err)
{
    d2c_status status = D2C_OK;
    d2c_image crop;

    D2C_TRY(crop_picture(&crop, image, input, err));
    if (crop.width != input->edge)
        status = resize_as_repa(planes, &crop, input, err);
    else {
        to_planes(planes, &crop);
        normalise(planes, (size_t)crop.width * (size_t)crop.height, input);
    }
    d2c_image_free(&crop);
    return status;
}
