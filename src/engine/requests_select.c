/* requests_select.c: selections by features of groups that are too large for a backend. */
#include "engine/requests.h"

#include <math.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include "select/features.h"

typedef struct job {
    const d2c_worker *worker;
    jmp_buf abandoned;
    d2c_feature_method method;
    int64_t n;
    d2c_feature_rows rows;
    float *features; /* [count, width]; a copy, since a payload is not aligned */
    int64_t *chosen; /* [n] */
    void *space;
} job;

static d2c_status
read_sizes(job *j, d2c_reader *in, d2c_error *err)
{
    j->method = (d2c_feature_method)d2c_read_u32(in);
    j->n = d2c_read_u32(in);
    j->rows.count = d2c_read_u32(in);
    j->rows.width = d2c_read_u32(in);
    if (in->bad || j->method < D2C_FEATURE_KCENTER || j->method > D2C_FEATURE_GADC || j->n < 1 ||
        j->n > j->rows.count || j->rows.width < 1 ||
        (uint64_t)j->rows.count * (uint64_t)j->rows.width > D2C_FRAME_LIMIT / sizeof(float))
        return d2c_fail(err, D2C_BAD_DATA, "malformed request");
    if (j->method == D2C_FEATURE_GADC && j->rows.count > D2C_GADC_ROWS)
        return d2c_fail(err, D2C_TOO_LARGE, "too many rows for selection \"gadc\"");
    return D2C_OK;
}

static d2c_status
read_features(job *j, d2c_reader *in, d2c_error *err)
{
    size_t total = (size_t)j->rows.count * (size_t)j->rows.width, i;
    const char *raw = d2c_read_raw(in, total * sizeof(float));

    D2C_TRY(d2c_read_finish(in, err));
    j->features = malloc(total * sizeof(float));
    j->rows.feature = malloc((size_t)j->rows.count * sizeof *j->rows.feature);
    j->chosen = malloc((size_t)j->n * sizeof *j->chosen);
    j->space = malloc(d2c_select_features_space(j->method, j->rows.count, j->rows.width, j->n));
    if (j->features == NULL || j->rows.feature == NULL || j->chosen == NULL || j->space == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    memcpy(j->features, raw, total * sizeof(float));
    for (i = 0; i < total; i++)
        if (!isfinite(j->features[i]))
            return d2c_fail(err, D2C_BAD_DATA, "feature contains NaN or infinity");
    for (i = 0; i < (size_t)j->rows.count; i++)
        j->rows.feature[i] = j->features + i * (size_t)j->rows.width;
    return D2C_OK;
}

/* Leaves the rules when nobody waits for the answer any more; they hold nothing. */
static void
look_at_client(void *closure)
{
    job *j = closure;

    if (d2c_worker_abandoned(j->worker))
        longjmp(j->abandoned, 1);
}

static d2c_status
select_rows(job *j, d2c_error *err)
{
    if (setjmp(j->abandoned) != 0)
        return d2c_worker_check_client(j->worker, err);
    d2c_select_features(j->chosen, &j->rows, j->method, j->n, j->space);
    return D2C_OK;
}

d2c_status
d2c_request_select(d2c_worker *worker, d2c_reader *in, d2c_buffer *out, d2c_error *err)
{
    job j = {.worker = worker, .rows = {.poll = look_at_client, .closure = &j}};
    d2c_status status = read_sizes(&j, in, err);
    int64_t i;

    if (status == D2C_OK)
        status = read_features(&j, in, err);
    if (status == D2C_OK)
        status = select_rows(&j, err);
    if (status == D2C_OK) {
        d2c_put_u32(out, (uint32_t)j.n);
        for (i = 0; i < j.n; i++)
            d2c_put_u32(out, (uint32_t)j.chosen[i]);
    }
    free(j.features);
    free(j.rows.feature);
    free(j.chosen);
    free(j.space);
    return status;
}
