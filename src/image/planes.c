/* planes.c: pixels to a network's input and back. */
#include "image/image.h"

void
d2c_image_to_planes(float *x, const d2c_image *image, int channels)
{
    size_t i, count = (size_t)image->width * (size_t)image->height;
    int c;

    for (c = 0; c < channels; c++) {
        const uint8_t *from = image->pixels + (c < image->channels ? c : image->channels - 1);
        float *to = x + (size_t)c * count;

        for (i = 0; i < count; i++)
            to[i] = (float)from[i * (size_t)image->channels] / 127.5f - 1.0f;
    }
}

/* 127.5 (x + shift) + offset, cut to a byte and truncated. */
static void
from_planes(d2c_image *image, const float *x, float shift, float offset)
{
    size_t i, count = (size_t)image->width * (size_t)image->height;
    int c;

    for (c = 0; c < image->channels; c++)
        for (i = 0; i < count; i++) {
            float value = 127.5f * (x[(size_t)c * count + i] + shift) + offset;

            /* A NaN fails both comparisons and becomes black. */
            image->pixels[i * (size_t)image->channels + (size_t)c] = value >= 255.0f ? 255
                                                                     : value > 0.0f  ? (uint8_t)value
                                                                                     : 0;
        }
}

void
d2c_image_from_planes(d2c_image *image, const float *x)
{
    from_planes(image, x, 0, 128);
}

void
d2c_image_from_planes_down(d2c_image *image, const float *x)
{
    from_planes(image, x, 1, 0);
}
