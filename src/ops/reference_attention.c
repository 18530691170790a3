/* reference_attention.c: softmax attention over packed qkv, one head of one image at a time. */
#include "ops/reference.h"

#include <math.h>
#include <stdlib.h>

/* One head of one image: where its rows start, and how the tensors are laid out. */
typedef struct head {
    d2c_tensor qkv, bias;
    int64_t tokens, width, depth; /* T, C, C/H */
    int64_t image, index;
    double scale;
} head;

static head
head_at(d2c_tensor qkv, d2c_tensor bias, int heads, float scale, int64_t image, int64_t index)
{
    int64_t width = qkv.dim[2] / 3;

    return (head){qkv, bias, qkv.dim[1], width, width / heads, image, index, scale};
}

/* Position in qkv of element d of token t; part 0: q, 1: k, 2: v. */
static int64_t
at(const head *h, int part, int64_t t, int64_t d)
{
    return ((h->image * h->tokens + t) * 3 + part) * h->width + h->index * h->depth + d;
}

/* Position in o and dout. */
static int64_t
out_at(const head *h, int64_t t, int64_t d)
{
    return (h->image * h->tokens + t) * h->width + h->index * h->depth + d;
}

/* Scaled score of query i and key j, bias included. */
static double
score(const head *h, int64_t i, int64_t j)
{
    const int64_t *s = h->bias.stride;
    double sum = 0;

    for (int64_t d = 0; d < h->depth; d++)
        sum += ref_get(h->qkv, at(h, 0, i, d)) * ref_get(h->qkv, at(h, 1, j, d));
    sum *= h->scale;
    if (h->bias.data != NULL)
        sum += ref_get(h->bias, h->image * s[0] + h->index * s[1] + i * s[2] + j * s[3]);
    return sum;
}

/* p [T] = softmax of query i's scores; returns the log of the sum of their exponentials. */
static double
softmax_row(double *p, const head *h, int64_t i)
{
    double largest = -INFINITY, sum = 0;

    for (int64_t j = 0; j < h->tokens; j++) {
        p[j] = score(h, i, j);
        largest = fmax(largest, p[j]);
    }
    for (int64_t j = 0; j < h->tokens; j++)
        sum += p[j] = exp(p[j] - largest);
    for (int64_t j = 0; j < h->tokens; j++)
        p[j] /= sum;
    return largest + log(sum);
}

static void
forward_head(d2c_tensor o, d2c_tensor lse, const head *h, int64_t heads, double *p)
{
    for (int64_t i = 0; i < h->tokens; i++) {
        double log_sum = softmax_row(p, h, i);

        for (int64_t d = 0; d < h->depth; d++) {
            double sum = 0;

            for (int64_t j = 0; j < h->tokens; j++)
                sum += p[j] * ref_get(h->qkv, at(h, 2, j, d));
            ref_set(o, out_at(h, i, d), sum);
        }
        if (lse.data != NULL)
            ref_set(lse, (h->image * heads + h->index) * h->tokens + i, log_sum);
    }
}

d2c_status
d2c_ref_attention_forward(d2c_backend *be, d2c_tensor o, d2c_tensor lse, d2c_tensor qkv, d2c_tensor bias,
                          int heads, float scale)
{
    double *p = malloc((size_t)qkv.dim[1] * sizeof *p);

    if (p == NULL)
        return d2c_fail(&be->error, D2C_NO_MEMORY, "could not allocate a row of attention");
    for (int64_t image = 0; image < qkv.dim[0]; image++)
        for (int64_t index = 0; index < heads; index++) {
            head h = head_at(qkv, bias, heads, scale, image, index);

            forward_head(o, lse, &h, heads, p);
        }
    free(p);
    return D2C_OK;
}

/* ds [T] = gradient of query i's scaled scores: P (dP - sum of P dP), where dP = dout v.  p holds P. */
static void
score_gradient(double *ds, const double *p, d2c_tensor dout, const head *h, int64_t i)
{
    double mean = 0;

    for (int64_t j = 0; j < h->tokens; j++) {
        ds[j] = 0;
        for (int64_t d = 0; d < h->depth; d++)
            ds[j] += ref_get(dout, out_at(h, i, d)) * ref_get(h->qkv, at(h, 2, j, d));
        mean += p[j] * ds[j];
    }
    for (int64_t j = 0; j < h->tokens; j++)
        ds[j] = p[j] * (ds[j] - mean);
}

/* dq is finished row by row; dk and dv collect all queries in keys [2, T, depth] first. */
static void
backward_head(d2c_tensor dqkv, d2c_tensor dout, const head *h, double *p, double *ds, double *keys)
{
    double *dk = keys, *dv = keys + h->tokens * h->depth;

    for (int64_t e = 0; e < 2 * h->tokens * h->depth; e++)
        keys[e] = 0;
    for (int64_t i = 0; i < h->tokens; i++) {
        softmax_row(p, h, i);
        score_gradient(ds, p, dout, h, i);
        for (int64_t d = 0; d < h->depth; d++) {
            double dq = 0;

            for (int64_t j = 0; j < h->tokens; j++) {
                dq += ds[j] * ref_get(h->qkv, at(h, 1, j, d));
                dk[j * h->depth + d] += ds[j] * ref_get(h->qkv, at(h, 0, i, d));
                dv[j * h->depth + d] += p[j] * ref_get(dout, out_at(h, i, d));
            }
            ref_set(dqkv, at(h, 0, i, d), h->scale * dq);
        }
    }
    for (int64_t j = 0; j < h->tokens; j++)
        for (int64_t d = 0; d < h->depth; d++) {
            ref_set(dqkv, at(h, 1, j, d), h->scale * dk[j * h->depth + d]);
            ref_set(dqkv, at(h, 2, j, d), dv[j * h->depth + d]);
        }
}

/* o and lse spare a backend work; the reference computes the softmax again, so that its answer depends on qkv alone. */
d2c_status
d2c_ref_attention_backward(d2c_backend *be, d2c_tensor dqkv, d2c_tensor dout, d2c_tensor o, d2c_tensor lse,
                           d2c_tensor qkv, d2c_tensor bias, int heads, float scale)
{
    size_t tokens = (size_t)qkv.dim[1], depth = (size_t)(qkv.dim[2] / 3 / heads);
    double *scratch = malloc((2 * tokens + 2 * tokens * depth) * sizeof *scratch);

    (void)o;
    (void)lse;
    if (scratch == NULL)
        return d2c_fail(&be->error, D2C_NO_MEMORY, "could not allocate a head of attention");
    for (int64_t image = 0; image < qkv.dim[0]; image++)
        for (int64_t index = 0; index < heads; index++) {
            head h = head_at(qkv, bias, heads, scale, image, index);

            backward_head(dqkv, dout, &h, scratch, scratch + tokens, scratch + 2 * tokens);
        }
    free(scratch);
    return D2C_OK;
}
