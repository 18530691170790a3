/* inception_score.c: exp of the mean divergence, from sums (inception_score.h). */
#include "eval/inception_score.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

d2c_status
d2c_inception_score_start(d2c_inception_score *s, int classes, int64_t split, d2c_error *err)
{
    memset(s, 0, sizeof *s);
    s->classes = classes;
    s->split = split;
    s->sum = calloc((size_t)classes, sizeof *s->sum);
    s->p = calloc((size_t)classes, sizeof *s->p);
    if (s->sum != NULL && s->p != NULL)
        return D2C_OK;
    d2c_inception_score_free(s);
    return d2c_fail(err, D2C_NO_MEMORY, "out of memory for the Inception Score");
}

void
d2c_inception_score_free(d2c_inception_score *s)
{
    free(s->sum);
    free(s->p);
    memset(s, 0, sizeof *s);
}

/* The mean of KL(p | q) is the mean of sum p log p less sum q log q. */
static void
end_part(d2c_inception_score *s)
{
    double n = (double)s->count, divergence = s->negentropy / n;
    int k;

    for (k = 0; k < s->classes; k++)
        if (s->sum[k] > 0)
            divergence -= s->sum[k] / n * log(s->sum[k] / n);
    s->total += exp(divergence);
    s->parts++;
    s->count = 0;
    s->negentropy = 0;
    memset(s->sum, 0, (size_t)s->classes * sizeof *s->sum);
}

void
d2c_inception_score_add(d2c_inception_score *s, const float *logits)
{
    double largest = logits[0], whole = 0;
    int k;

    for (k = 1; k < s->classes; k++)
        largest = fmax(largest, logits[k]);
    for (k = 0; k < s->classes; k++)
        whole += s->p[k] = exp(logits[k] - largest);
    for (k = 0; k < s->classes; k++) {
        s->p[k] /= whole;
        s->sum[k] += s->p[k];
        s->negentropy += s->p[k] * (logits[k] - largest - log(whole));
    }
    if (++s->count == s->split)
        end_part(s);
}

double
d2c_inception_score_finish(d2c_inception_score *s)
{
    if (s->count > 0)
        end_part(s);
    return s->parts > 0 ? s->total / s->parts : NAN;
}
