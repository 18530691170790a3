/* precision_recall.h: improved precision and recall (Kynkaanniemi et al., 2019), as ADM's evaluator has them. */
#ifndef D2C_EVAL_PRECISION_RECALL_H
#define D2C_EVAL_PRECISION_RECALL_H

#include <stdint.h>

#include "base/status.h"

#define D2C_NEIGHBOURS 3

/*
 * Around each vector of a set is a ball that reaches to its third nearest neighbour in the set.  precision: the share of
 * samples [sample_count, width] within a ball of the real ones [real_count, width]; recall: the share of the real ones
 * within a ball of the samples.  On the border is within.  Exact: distances that rounding could decide are computed anew
 * in double.
 */
d2c_status d2c_precision_recall(double *precision, double *recall, const float *real, int64_t real_count,
                                const float *samples, int64_t sample_count, int width, d2c_error *err);

#endif
