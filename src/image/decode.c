/* decode.c: which decoder a file needs, and the channels its caller wants. */
#include "image/codec.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"

typedef struct codec {
    d2c_status (*probe)(d2c_image_info *info, const uint8_t *bytes, size_t length, d2c_error *err);
    d2c_status (*decode)(d2c_image *image, const uint8_t *bytes, size_t length, int64_t pixel_limit,
                         d2c_error *err);
} codec;

static const codec png = {d2c_png_probe, d2c_png_decode};
static const codec jpeg = {d2c_jpeg_probe, d2c_jpeg_decode};
static const codec webp = {d2c_webp_probe, d2c_webp_decode};

/* The longest signature, a RIFF file's, has 12 bytes; no image is shorter. */
static d2c_status
find_codec(const codec **found, const uint8_t *bytes, size_t length, d2c_error *err)
{
    if (length < 12)
        return d2c_fail(err, D2C_BAD_DATA, "image has only %zu bytes", length);
    if (memcmp(bytes, "\x89PNG\r\n\x1a\n", 8) == 0)
        *found = &png;
    else if (memcmp(bytes, "\xff\xd8\xff", 3) == 0)
        *found = &jpeg;
    else if (memcmp(bytes, "RIFF", 4) == 0 && memcmp(bytes + 8, "WEBP", 4) == 0)
        *found = &webp;
    else {
        d2c_fail(err, D2C_UNSUPPORTED, "unrecognized image format");
        d2c_detail(err, "The image starts with the bytes %02x %02x %02x %02x.", bytes[0], bytes[1], bytes[2],
                   bytes[3]);
        d2c_hint(err, "Supported formats are PNG, JPEG and WebP.");
        return D2C_UNSUPPORTED;
    }
    return D2C_OK;
}

uint8_t
d2c_luma(const uint8_t rgb[3])
{
    return (uint8_t)((rgb[0] * 19595u + rgb[1] * 38470u + rgb[2] * 7471u + 0x8000u) >> 16);
}

/* Replaces the image by itself in one or three channels. */
static d2c_status
convert_channels(d2c_image *image, int channels, d2c_error *err)
{
    d2c_image from = *image;
    size_t i, count = (size_t)from.width * (size_t)from.height;
    d2c_status status;

    if (channels == from.channels)
        return D2C_OK;
    status = d2c_image_allocate(image, from.width, from.height, channels, err);
    for (i = 0; status == D2C_OK && i < count; i++) {
        if (channels == 1)
            image->pixels[i] = d2c_luma(from.pixels + 3 * i);
        else
            memset(image->pixels + 3 * i, from.pixels[i], 3);
    }
    d2c_image_free(&from);
    return status;
}

void
d2c_image_describe(d2c_image_info *info, const char *format, int width, int height, int channels)
{
    snprintf(info->format, sizeof info->format, "%s", format);
    info->width = width;
    info->height = height;
    info->channels = channels;
}

d2c_status
d2c_image_check_size(int64_t width, int64_t height, int64_t pixel_limit, d2c_error *err)
{
    if (width <= 0 || height <= 0)
        return d2c_fail(err, D2C_BAD_DATA, "image has no pixels");
    if (width <= pixel_limit / height)
        return D2C_OK;
    d2c_fail(err, D2C_TOO_LARGE, "image is too large");
    d2c_detail(err, "It has %lld x %lld pixels; the limit is %lld in all.", (long long)width,
               (long long)height, (long long)pixel_limit);
    return D2C_TOO_LARGE;
}

d2c_status
d2c_image_allocate(d2c_image *image, int width, int height, int channels, d2c_error *err)
{
    size_t size;

    memset(image, 0, sizeof *image);
    if (width <= 0 || height <= 0 || (channels != 1 && channels != 3))
        return d2c_fail(err, D2C_INVALID_ARGUMENT, "invalid image size %d x %d x %d", width, height,
                        channels);
    if (d2c_size_mul(&size, (size_t)width, (size_t)height) != 0 ||
        d2c_size_mul(&size, size, (size_t)channels) != 0 || (image->pixels = malloc(size)) == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory for an image of %d x %d pixels", width, height);
    image->width = width;
    image->height = height;
    image->channels = channels;
    return D2C_OK;
}

void
d2c_image_free(d2c_image *image)
{
    free(image->pixels);
    memset(image, 0, sizeof *image);
}

d2c_status
d2c_image_probe(d2c_image_info *info, const void *bytes, size_t length, d2c_error *err)
{
    const codec *found = NULL;

    memset(info, 0, sizeof *info);
    D2C_TRY(find_codec(&found, bytes, length, err));
    return found->probe(info, bytes, length, err);
}

d2c_status
d2c_image_decode(d2c_image *image, const void *bytes, size_t length, int channels, int64_t pixel_limit,
                 d2c_error *err)
{
    const codec *found = NULL;

    memset(image, 0, sizeof *image);
    if (channels != 0 && channels != 1 && channels != 3)
        return d2c_fail(err, D2C_INVALID_ARGUMENT, "images are decoded to 1 or 3 channels, not %d", channels);
    D2C_TRY(find_codec(&found, bytes, length, err));
    D2C_TRY(found->decode(image, bytes, length, pixel_limit, err));
    return channels == 0 ? D2C_OK : convert_channels(image, channels, err);
}
