/*
 * sampler_dit.c: DiT's ancestral sampling (sampler.h).
 *
 * The steps are taken on the host, in double: they need an exponential that no op has, and moving an image to and fro is
 * nothing beside the network that looks at it.
 */
#include <math.h>
#include <stdlib.h>

#include "nn/sampler_steps.h"

static d2c_status
prepare(sampling *s)
{
    size_t count = (size_t)s->evaluations, i;

    s->steps = malloc(count * sizeof *s->steps);
    s->values = malloc((size_t)s->capacity * (size_t)(s->outputs + 2 * s->elements) * sizeof *s->values);
    if (s->steps == NULL || s->values == NULL)
        return d2c_fail(s->err, D2C_NO_MEMORY, "out of memory");
    d2c_dit_respace(s->steps, s->evaluations);
    for (i = 0; i < count; i++)
        s->grid[i] = s->steps[i].t;
    return D2C_OK;
}

/* One image's x [elements] from the network's out [2, elements], noise and range of the variance; noise NULL: none. */
static void
step_image(float *x, const float *out, const float *noise, const d2c_dit_step *step, int64_t elements)
{
    int64_t j;

    for (j = 0; j < elements; j++) {
        double y = step->from_x * x[j] + step->from_noise * out[j];
        double part = (out[elements + j] + 1.0) / 2;

        if (noise != NULL)
            y += exp((step->low + (step->high - step->low) * part) / 2) * noise[j];
        x[j] = (float)y;
    }
}

static d2c_status
step(const sampling *s, int i, int count)
{
    int last = i + 1 == s->evaluations, r;
    size_t images = (size_t)(s->elements * count);
    float *x = s->values, *noise = x + images, *out = noise + images;

    D2C_TRY(sampler_evaluate(s, s->v, s->x, i, i, count));
    TRY_OP(s, d2c_download(s->be, out, s->v.data, (size_t)(s->outputs * count) * sizeof *out));
    TRY_OP(s, d2c_download(s->be, x, s->x.data, images * sizeof *x));
    if (!last) {
        D2C_TRY(sampler_draw(s, i, count));
        TRY_OP(s, d2c_download(s->be, noise, s->noise.data, images * sizeof *noise));
    }
    for (r = 0; r < count; r++)
        step_image(x + r * s->elements, out + r * s->outputs, last ? NULL : noise + r * s->elements,
                   &s->steps[i], s->elements);
    TRY_OP(s, d2c_upload(s->be, s->x.data, x, images * sizeof *x));
    return D2C_OK;
}

const sampler_method sampler_dit = {prepare, step, NULL};
