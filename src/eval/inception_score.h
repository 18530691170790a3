/* inception_score.h: the Inception Score by the rule of ADM's evaluator. */
#ifndef D2C_EVAL_INCEPTION_SCORE_H
#define D2C_EVAL_INCEPTION_SCORE_H

#include <stdint.h>

#include "base/status.h"

#define D2C_SCORE_SPLIT 5000

/*
 * The mean, over consecutive parts of `split` images, the last of them perhaps shorter, of exp(mean of KL(p | q)): p is an
 * image's softmax over the classes, q the part's mean of p.
 */
typedef struct d2c_inception_score {
    int classes, parts;
    int64_t split, count; /* count: images in the part that has begun */
    double *sum;          /* [classes]: of p in this part */
    double *p;            /* [classes] */
    double negentropy;    /* sum of p log p in this part */
    double total;         /* of the finished parts' scores */
} d2c_inception_score;

d2c_status d2c_inception_score_start(d2c_inception_score *s, int classes, int64_t split, d2c_error *err);
void d2c_inception_score_free(d2c_inception_score *s);
void d2c_inception_score_add(d2c_inception_score *s, const float *logits);
/* NaN without an image. */
double d2c_inception_score_finish(d2c_inception_score *s);

#endif
