/* nearest.h: how close samples come to the images that a model was trained on. */
#ifndef D2C_EVAL_NEAREST_H
#define D2C_EVAL_NEAREST_H

#include "base/status.h"
#include "eval/pixels.h"

/* distance[n]: for each of n images spread over the samples, the root mean square difference of its pixels, scaled to
 * [0, 1], to the nearest training image.  Exact. */
d2c_status d2c_nearest(double *distance, const d2c_pixel_set *samples, int64_t n, const d2c_pixel_set *train,
                       d2c_error *err);

#endif
