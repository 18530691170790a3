/* pixels.h: a set of images of one shape, side by side in memory. */
#ifndef D2C_EVAL_PIXELS_H
#define D2C_EVAL_PIXELS_H

#include <libpq-fe.h>
#include <stdint.h>

#include "base/status.h"

/* More would make the covariance of the pixels larger than 128 MB and its eigenvectors slow. */
#define D2C_EVAL_MAX_SIZE 4096

typedef struct d2c_pixel_set {
    int width, height, channels; /* 0 until the first image */
    int size;                    /* width * height * channels */
    int64_t count, capacity;
    uint8_t *pixels; /* [count, size] */
    int32_t *label;  /* [count]; the source's second column, -1 where it has none */
} d2c_pixel_set;

/*
 * Reads all images of a source (see d2c_each_image).  edge > 0: each is cropped and resized as ADM does; 0: they are
 * taken as they are and must have one size.  like: the set whose shape they must have; a colour image fits a grey set by
 * its luma and the other way round.  Without it their shape is that of the first image, with so many channels: 1, 3, or 0
 * for its own, and then no colour image may follow a grey one.
 */
d2c_status d2c_pixel_set_read(d2c_pixel_set *set, const d2c_pixel_set *like, PGconn *conn, const char *source,
                              int edge, int channels, d2c_error *err);
void d2c_pixel_set_free(d2c_pixel_set *set);

/* The i-th of n indices spread evenly over a set of `count`: sets sorted by class stay balanced when n < count. */
int64_t d2c_spread(int64_t i, int64_t n, int64_t count);

#endif
