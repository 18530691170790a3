/*
 * codec.h: what decode.c needs of each format.
 *
 * A decoder returns an image of one channel when the file is grey and of three otherwise, so that alpha,
 * palettes, CMYK and depths are settled in the file of their format and everything else is settled once.
 */
#ifndef D2C_IMAGE_CODEC_H
#define D2C_IMAGE_CODEC_H

#include "image/image.h"

d2c_status d2c_png_probe(d2c_image_info *info, const uint8_t *bytes, size_t length, d2c_error *err);
d2c_status d2c_png_decode(d2c_image *image, const uint8_t *bytes, size_t length, int64_t pixel_limit,
                          d2c_error *err);

d2c_status d2c_jpeg_probe(d2c_image_info *info, const uint8_t *bytes, size_t length, d2c_error *err);
d2c_status d2c_jpeg_decode(d2c_image *image, const uint8_t *bytes, size_t length, int64_t pixel_limit,
                           d2c_error *err);

d2c_status d2c_webp_probe(d2c_image_info *info, const uint8_t *bytes, size_t length, d2c_error *err);
d2c_status d2c_webp_decode(d2c_image *image, const uint8_t *bytes, size_t length, int64_t pixel_limit,
                           d2c_error *err);

/* D2C_TOO_LARGE when width * height is over the limit. */
d2c_status d2c_image_check_size(int64_t width, int64_t height, int64_t pixel_limit, d2c_error *err);

/* PIL's "L" of an RGB pixel: ITU-R 601-2 luma in 16 bits of fixed point. */
uint8_t d2c_luma(const uint8_t rgb[3]);

/* Fills *info; the format's name is one of the three. */
void d2c_image_describe(d2c_image_info *info, const char *format, int width, int height, int channels);

#endif
