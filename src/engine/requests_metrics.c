/* requests_metrics.c: what the metrics need linear algebra for. */
#include "engine/requests.h"

#include <stdlib.h>
#include <string.h>

#include "eval/frechet.h"

#define MAX_WIDTH 8192

/* One side of a distance; the numbers are copied, since a payload is not aligned. */
typedef struct moments {
    uint32_t width;
    int64_t n;
    double *mean;       /* [width] */
    double *covariance; /* [width, width] */
} moments;

static void
free_moments(moments *m)
{
    free(m->mean);
    free(m->covariance);
}

static d2c_status
read_numbers(double **numbers, size_t count, d2c_reader *in, d2c_error *err)
{
    const char *raw = d2c_read_raw(in, count * sizeof **numbers);

    if (raw == NULL)
        return d2c_read_finish(in, err);
    *numbers = malloc(count * sizeof **numbers);
    if (*numbers == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    memcpy(*numbers, raw, count * sizeof **numbers);
    return D2C_OK;
}

static d2c_status
read_moments(moments *m, d2c_reader *in, d2c_error *err)
{
    m->width = d2c_read_u32(in);
    m->n = d2c_read_i64(in);
    if (in->bad || m->width < 1 || m->width > MAX_WIDTH)
        return d2c_fail(err, D2C_INVALID_ARGUMENT, "moments must have between 1 and %d dimensions",
                        MAX_WIDTH);
    D2C_TRY(read_numbers(&m->mean, m->width, in, err));
    return read_numbers(&m->covariance, (size_t)m->width * m->width, in, err);
}

static d2c_status
put_distance(const moments *a, const moments *b, d2c_buffer *out, d2c_error *err)
{
    double distance;

    if (a->width != b->width) {
        d2c_fail(err, D2C_INVALID_ARGUMENT, "moments have different numbers of dimensions");
        d2c_detail(err, "They have %u and %u.", a->width, b->width);
        return D2C_INVALID_ARGUMENT;
    }
    D2C_TRY(d2c_frechet(&distance, (int)a->width, a->mean, a->covariance, b->mean, b->covariance, err));
    d2c_put_f64(out, distance);
    return D2C_OK;
}

d2c_status
d2c_request_frechet(d2c_worker *worker, d2c_reader *in, d2c_buffer *out, d2c_error *err)
{
    moments a = {0}, b = {0};
    d2c_status status = read_moments(&a, in, err);

    (void)worker;
    if (status == D2C_OK)
        status = read_moments(&b, in, err);
    if (status == D2C_OK)
        status = d2c_read_finish(in, err);
    if (status == D2C_OK)
        status = put_distance(&a, &b, out, err);
    free_moments(&a);
    free_moments(&b);
    return status;
}
