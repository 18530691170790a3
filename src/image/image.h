/*
 * image.h: 8-bit images in memory, and the files they come from.
 *
 * Bytes are untrusted.  Nothing is allocated before width * height * channels has been checked against the
 * caller's pixel limit, at most D2C_LARGEST_PIXEL_LIMIT; every decoder returns D2C_BAD_DATA for damaged and
 * D2C_UNSUPPORTED for unknown bytes.
 */
#ifndef D2C_IMAGE_IMAGE_H
#define D2C_IMAGE_IMAGE_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

#define D2C_DEFAULT_PIXEL_LIMIT (64 * 1024 * 1024) /* width * height */
#define D2C_LARGEST_PIXEL_LIMIT (4 * D2C_DEFAULT_PIXEL_LIMIT)

/* Rows from the top, pixels interleaved: pixels[(row * width + column) * channels + channel]. */
typedef struct d2c_image {
    int width, height;
    int channels; /* 1 grey, 3 RGB */
    uint8_t *pixels;
} d2c_image;

typedef struct d2c_image_info {
    char format[8]; /* "png", "jpeg" or "webp" */
    int width, height;
    int channels; /* as stored: 1 to 4, palette images count as what they decode to */
} d2c_image_info;

typedef enum d2c_filter {
    D2C_FILTER_BOX,
    D2C_FILTER_BILINEAR,
    D2C_FILTER_BICUBIC,
    D2C_FILTER_LANCZOS
} d2c_filter;

/* Whether so many channels are a picture's: grey or RGB. */
static inline int
d2c_is_picture(int channels)
{
    return channels == 1 || channels == 3;
}

/* Reads the header alone. */
d2c_status d2c_image_probe(d2c_image_info *info, const void *bytes, size_t length, d2c_error *err);

/* Decodes to `channels` (1, 3, or 0 for 1 when the file is grey and 3 otherwise).  Alpha is dropped as PIL's
 * convert("RGB") does, grey from RGB is PIL's "L" (ITU-R 601-2), 16-bit samples keep their high byte. */
d2c_status d2c_image_decode(d2c_image *image, const void *bytes, size_t length, int channels,
                            int64_t pixel_limit, d2c_error *err);

d2c_status d2c_image_allocate(d2c_image *image, int width, int height, int channels, d2c_error *err);
void d2c_image_free(d2c_image *image);

/* Bit-equal to PIL.Image.resize of 8-bit images with the same filter (antialiased, fixed point, two passes).
 */
d2c_status d2c_image_resize(d2c_image *out, const d2c_image *in, int width, int height, d2c_filter filter,
                            d2c_error *err);

/* The same of pixels as floats, PIL's mode "F" a channel at a time: out [height, width, channels], 0..255 and, where a
 * filter overshoots, beyond. */
d2c_status d2c_image_resize_float(float *out, const d2c_image *in, int width, int height, d2c_filter filter,
                                  d2c_error *err);

/* out [height, width, channels], 0..255, between the two nearest pixels of each axis, never antialiased.  half_pixel:
 * torch's align_corners=False; 0: TensorFlow 1's, where output pixel i lies at i * in / out. */
d2c_status d2c_image_resize_bilinear(float *out, const d2c_image *in, int width, int height, int half_pixel,
                                     d2c_error *err);

/* ADM's crop to size x size: BOX halving while the short side is at least twice the size, one BICUBIC resize
 * with banker's rounding, centre crop (openai/guided-diffusion image_datasets.py; ARCHITECTURES 1.10). */
d2c_status d2c_image_adm_crop(d2c_image *out, const d2c_image *in, int size, d2c_error *err);

/* transformers' crop to size x size: one BICUBIC resize that makes the shorter side `edge` pixels, at least the size, and
 * cuts the longer side's to a whole number; then the centre. */
d2c_status d2c_image_short_edge_crop(d2c_image *out, const d2c_image *in, int edge, int size, d2c_error *err);

/* The whole picture within edge x edge, aspect kept, never enlarged. */
d2c_status d2c_image_thumbnail(d2c_image *out, const d2c_image *in, int edge, d2c_error *err);

/* *bytes is malloc'd; the caller frees it. */
d2c_status d2c_image_encode_png(uint8_t **bytes, size_t *length, const d2c_image *image, d2c_error *err);

/* 64-bit DCT hash: grey, 32 x 32, low 8 x 8 block, bit = coefficient above the median (imagehash's phash);
 * the first coefficient is the highest bit. */
d2c_status d2c_image_phash(uint64_t *hash, const d2c_image *image, d2c_error *err);

/* One picture of many, row by row, each cell edge x edge with its caption (may be NULL) below in a built-in
 * font. */
typedef struct d2c_sheet {
    int columns; /* 0: the square root of the count */
    int edge;    /* cell size in pixels */
    int count;
    const d2c_image *image;     /* [count] */
    const char *const *caption; /* [count], or NULL */
} d2c_sheet;

/* Whether such a sheet can be, known before there are images: its size within D2C_DEFAULT_PIXEL_LIMIT. */
d2c_status d2c_sheet_check(const d2c_sheet *sheet, d2c_error *err);
d2c_status d2c_contact_sheet(d2c_image *out, const d2c_sheet *sheet, d2c_error *err);

/* The same as the bytes of a PNG file, malloc'd. */
d2c_status d2c_contact_sheet_png(uint8_t **bytes, size_t *length, const d2c_sheet *sheet, d2c_error *err);

/* The cell size for small pictures like this one: its longer side, enlarged by a whole number to at least 56. */
int d2c_sheet_edge(const d2c_image *image);

/* Network input: x[channel][row][column] = pixel / 127.5 - 1, `channels` planes (grey is repeated to three).
 */
void d2c_image_to_planes(float *x, const d2c_image *image, int channels);

/* The inverse, SiT's rounding: trunc(clamp(127.5 x + 128, 0, 255)). */
void d2c_image_from_planes(d2c_image *image, const float *x);
/* The same without the rounding, 127.5 (x + 1) truncated: REPA's. */
void d2c_image_from_planes_down(d2c_image *image, const float *x);

#endif
