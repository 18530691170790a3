/* resize_float.c: bilinear resizing to floats without antialiasing, as networks' public code does it. */
#include "image/image.h"

#include <stdlib.h>

/* An output pixel lies between two input pixels; `share` is the second's. */
typedef struct place {
    int low, high;
    float share;
} place;

/* In f32, as torch and TensorFlow compute it.  Half pixels: centres of pixels are at .5, what lies outside of the first
 * and last centre is theirs. */
static void
find_places(place *p, int in_size, int out_size, int half_pixel)
{
    float scale = (float)in_size / (float)out_size;
    int i;

    for (i = 0; i < out_size; i++) {
        float at = half_pixel ? scale * ((float)i + 0.5f) - 0.5f : scale * (float)i;

        at = at < 0 ? 0 : at;
        p[i].low = (int)at < in_size ? (int)at : in_size - 1;
        p[i].high = p[i].low + 1 < in_size ? p[i].low + 1 : p[i].low;
        p[i].share = at - (float)p[i].low;
    }
}

static void
interpolate_row(float *out, const d2c_image *in, const place *row, const place *column, int width)
{
    size_t stride = (size_t)in->width * (size_t)in->channels;
    const uint8_t *top = in->pixels + (size_t)row->low * stride;
    const uint8_t *bottom = in->pixels + (size_t)row->high * stride;
    int i, c;

    for (i = 0; i < width; i++)
        for (c = 0; c < in->channels; c++) {
            int left = column[i].low * in->channels + c, right = column[i].high * in->channels + c;
            float above = (float)top[left] + (float)(top[right] - top[left]) * column[i].share;
            float below = (float)bottom[left] + (float)(bottom[right] - bottom[left]) * column[i].share;

            *out++ = above + (below - above) * row->share;
        }
}

d2c_status
d2c_image_resize_bilinear(float *out, const d2c_image *in, int width, int height, int half_pixel,
                          d2c_error *err)
{
    place *column = malloc((size_t)width * sizeof *column), *row = malloc((size_t)height * sizeof *row);
    int i;

    if (column == NULL || row == NULL) {
        free(column);
        free(row);
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory while resizing an image");
    }
    find_places(column, in->width, width, half_pixel);
    find_places(row, in->height, height, half_pixel);
    for (i = 0; i < height; i++)
        interpolate_row(out + (size_t)i * (size_t)width * (size_t)in->channels, in, &row[i], column, width);
    free(column);
    free(row);
    return D2C_OK;
}
