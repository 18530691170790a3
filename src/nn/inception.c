/* inception.c: loading Inception-v3 for FID, and running its list of steps on ops.h (inception.h). */
#include "nn/inception.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"

#define NORM_EPS 1e-3

/* ---- loading ------------------------------------------------------------------------------------------------------- */

enum { GAMMA, BETA, MEAN, VARIANCE, STATISTICS };

/* Room for the largest convolution on the host. */
typedef struct host {
    float *weight, *folded, *bias, *statistic[STATISTICS];
} host;

static void
free_host(host *h)
{
    int i;

    free(h->weight);
    free(h->folded);
    free(h->bias);
    for (i = 0; i < STATISTICS; i++)
        free(h->statistic[i]);
}

static d2c_status
allocate_host(host *h, const d2c_params *params, d2c_error *err)
{
    int64_t most = 1, widest = 1;
    int i, whole;

    for (i = 0; i < params->count; i++) {
        most = params->item[i].count > most ? params->item[i].count : most;
        widest = params->item[i].dim[0] > widest ? params->item[i].dim[0] : widest;
    }
    h->weight = malloc((size_t)most * sizeof(float));
    h->folded = malloc((size_t)most * sizeof(float));
    h->bias = malloc((size_t)widest * sizeof(float));
    whole = h->weight != NULL && h->folded != NULL && h->bias != NULL;
    for (i = 0; i < STATISTICS; i++) {
        h->statistic[i] = malloc((size_t)widest * sizeof(float));
        whole = whole && h->statistic[i] != NULL;
    }
    return whole ? D2C_OK : d2c_fail(err, D2C_NO_MEMORY, "out of memory");
}

static d2c_status
read_tensor(float *out, const d2c_weights *file, const char *base, const char *part, int64_t count,
            d2c_error *err)
{
    const d2c_st_tensor *tensor;
    char name[128];

    snprintf(name, sizeof name, "%s.%s", base, part);
    tensor = d2c_weights_find(file, name);
    if (tensor == NULL)
        return d2c_fail(err, D2C_BAD_MODEL, "tensor \"%s\" is missing", name);
    return d2c_st_tensor_to_f32(out, tensor, count, err);
}

/* norm(conv(x)) as one convolution, channels last: each output's weights times gamma / deviation. */
static d2c_status
fold(host *h, const d2c_inception_step *s, d2c_error *err)
{
    int64_t area = (int64_t)s->window.height * s->window.width, in = s->in.channels, i, at;
    int o;

    for (o = 0; o < s->out.channels; o++) {
        double variance = h->statistic[VARIANCE][o] + NORM_EPS;
        double scale = h->statistic[GAMMA][o] / sqrt(variance);
        const float *from = h->weight + o * in * area;
        float *to = h->folded + o * in * area;

        if (!(variance > 0))
            return d2c_fail(err, D2C_BAD_MODEL, "tensor \"%s.bn.running_var\" is no variance", s->name);
        for (at = 0; at < area; at++)
            for (i = 0; i < in; i++)
                to[at * in + i] = (float)(from[i * area + at] * scale);
        h->bias[o] = (float)(h->statistic[BETA][o] - h->statistic[MEAN][o] * scale);
    }
    return D2C_OK;
}

static d2c_status
load_conv(d2c_inception_step *s, d2c_params *params, d2c_backend *be, const d2c_weights *file, host *h,
          d2c_error *err)
{
    static const char *const parts[] = {"bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"};
    char name[sizeof s->name + 16];
    int i;

    D2C_TRY(read_tensor(h->weight, file, s->name, "conv.weight",
                        (int64_t)s->window.height * s->window.width * s->in.channels * s->out.channels, err));
    for (i = 0; i < STATISTICS; i++)
        D2C_TRY(read_tensor(h->statistic[i], file, s->name, parts[i], s->out.channels, err));
    D2C_TRY(fold(h, s, err));
    snprintf(name, sizeof name, "%s.weight", s->name);
    D2C_TRY(d2c_params_put(params, be, params->value, name, h->folded, err));
    snprintf(name, sizeof name, "%s.bias", s->name);
    D2C_TRY(d2c_params_put(params, be, params->value, name, h->bias, err));
    s->weight = d2c_params_linear(params, s->name);
    return D2C_OK;
}

static d2c_status
load_all(d2c_inception *net, d2c_backend *be, const d2c_weights *file, host *h, d2c_error *err)
{
    d2c_params *params = &net->params;
    int i;

    for (i = 0; i < net->plan.steps; i++)
        if (net->plan.step[i].kind == D2C_INCEPTION_CONV)
            D2C_TRY(load_conv(&net->plan.step[i], params, be, file, h, err));
    D2C_TRY(read_tensor(h->weight, file, "fc", "weight", (int64_t)net->classes * net->features, err));
    D2C_TRY(d2c_params_put(params, be, params->value, "fc.weight", h->weight, err));
    net->classifier = d2c_params_linear(params, "fc");
    return D2C_OK;
}

static d2c_status
open_parts(d2c_inception *net, d2c_backend *be, const d2c_weights *file, d2c_error *err)
{
    const d2c_inception_step *spatial;
    host h = {0};
    d2c_status status;

    D2C_TRY(d2c_inception_plan_make(&net->plan, &net->params, file, err));
    spatial = &net->plan.step[net->plan.spatial];
    net->features = net->plan.out.channels;
    net->classes = net->plan.classes;
    net->spatial = spatial->out.rows * spatial->out.columns * D2C_INCEPTION_SPATIAL;
    D2C_TRY(d2c_params_allocate(&net->params, be, 0, 0, err));
    status = allocate_host(&h, &net->params, err);
    if (status == D2C_OK)
        status = load_all(net, be, file, &h, err);
    free_host(&h);
    return status;
}

d2c_status
d2c_inception_open(d2c_inception **inception, d2c_backend *be, const d2c_weights *file,
                   d2c_inception_input input, d2c_error *err)
{
    d2c_inception *net = calloc(1, sizeof *net);
    d2c_status status;

    *inception = NULL;
    if (net == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    net->input = input;
    status = open_parts(net, be, file, err);
    if (status != D2C_OK) {
        d2c_inception_close(net, be);
        return status;
    }
    *inception = net;
    return D2C_OK;
}

void
d2c_inception_close(d2c_inception *inception, d2c_backend *be)
{
    if (inception == NULL)
        return;
    d2c_params_free(&inception->params, be);
    d2c_inception_plan_free(&inception->plan);
    free(inception);
}

/* ---- running ------------------------------------------------------------------------------------------------------- */

typedef struct buffers {
    float *block[D2C_INCEPTION_BUFFERS];
    float *features, *logits, *spatial;
} buffers;

static float *
new_floats(d2c_arena *arena, int64_t count)
{
    return d2c_arena_alloc(arena, (size_t)count * sizeof(float));
}

static void
make_buffers(buffers *b, const d2c_inception *net, d2c_arena *arena)
{
    int i;

    for (i = 0; i < D2C_INCEPTION_BUFFERS; i++)
        b->block[i] = new_floats(arena, net->plan.size[i]);
    b->features = new_floats(arena, net->features);
    b->logits = new_floats(arena, net->classes);
    b->spatial = new_floats(arena, net->spatial);
}

static d2c_tensor
as_picture(float *data, const d2c_inception_shape *shape)
{
    return d2c_tensor4(data, D2C_F32, 1, shape->rows, shape->columns, shape->channels);
}

/* Copies `count` channels of dense pixels of `width` channels to pixels that are `wide` apart. */
static d2c_status
copy_channels(d2c_backend *be, float *to, int wide, const float *from, int width, int count, int64_t pixels)
{
    return d2c_cast(be, d2c_rows(to, D2C_F32, pixels, count, wide),
                    d2c_rows((float *)from, D2C_F32, pixels, count, width));
}

static d2c_status
run_step(const d2c_inception_step *s, d2c_backend *be, const buffers *b)
{
    d2c_tensor x = as_picture(b->block[s->from], &s->in), y = as_picture(b->block[s->to], &s->out);

    if (s->kind == D2C_INCEPTION_CONV)
        D2C_TRY(d2c_conv2d_forward(be, y, x, &s->weight, &s->window, D2C_ACT_RELU));
    else
        D2C_TRY(d2c_pool_forward(be, y, x, &s->window,
                                 s->kind == D2C_INCEPTION_MAX ? D2C_POOL_MAX : D2C_POOL_MEAN));
    if (s->joins < 0)
        return D2C_OK;
    return copy_channels(be, b->block[s->joins] + s->first, s->width, y.data, s->out.channels,
                         s->out.channels, (int64_t)s->out.rows * s->out.columns);
}

/* The spatial features are taken before a later step overwrites them. */
static d2c_status
run_steps(const d2c_inception *net, d2c_backend *be, const buffers *b)
{
    const d2c_inception_plan *plan = &net->plan;
    int i;

    for (i = 0; i < plan->steps; i++) {
        const d2c_inception_step *s = &plan->step[i];

        D2C_TRY(run_step(s, be, b));
        if (i == plan->spatial)
            D2C_TRY(copy_channels(be, b->spatial, D2C_INCEPTION_SPATIAL, b->block[s->to], s->out.channels,
                                  D2C_INCEPTION_SPATIAL, (int64_t)s->out.rows * s->out.columns));
    }
    return D2C_OK;
}

/* The mean over all pixels, and the classes' products with it. */
static d2c_status
run_head(const d2c_inception *net, d2c_backend *be, const buffers *b)
{
    const d2c_inception_shape *out = &net->plan.out;
    const d2c_window whole = {out->rows, out->columns, 1, 0, 0, 0, 0};

    D2C_TRY(d2c_pool_forward(be, d2c_tensor4(b->features, D2C_F32, 1, 1, 1, net->features),
                             as_picture(b->block[net->plan.last], out), &whole, D2C_POOL_MEAN));
    return d2c_linear_forward(be, d2c_tensor2(b->logits, D2C_F32, 1, net->classes), d2c_absent(),
                              d2c_tensor2(b->features, D2C_F32, 1, net->features), &net->classifier,
                              D2C_ACT_NONE);
}

static d2c_status
download(d2c_backend *be, float *to, const float *from, int count)
{
    return to != NULL ? d2c_download(be, to, from, (size_t)count * sizeof *to) : D2C_OK;
}

static d2c_status
run_ops(const d2c_inception *net, d2c_backend *be, const buffers *b, const d2c_inception_result *result,
        const float *x)
{
    D2C_TRY(d2c_upload(be, b->block[0], x, (size_t)D2C_INCEPTION_EDGE * D2C_INCEPTION_EDGE * 3 * sizeof *x));
    D2C_TRY(run_steps(net, be, b));
    D2C_TRY(run_head(net, be, b));
    D2C_TRY(download(be, result->features, b->features, net->features));
    D2C_TRY(download(be, result->logits, b->logits, net->classes));
    return download(be, result->spatial, b->spatial, net->spatial);
}

/* Plans, makes room, runs. */
static d2c_status
forward(const d2c_inception *net, d2c_backend *be, d2c_scratch *scratch, const d2c_inception_result *result,
        const float *x, d2c_error *err)
{
    d2c_arena plan = {0}, arena = {0};
    buffers b;

    make_buffers(&b, net, &plan);
    D2C_TRY(d2c_arena_check(&plan, err));
    D2C_TRY(d2c_scratch_reserve(scratch, be, plan.peak, err));
    arena.base = scratch->block;
    arena.capacity = plan.peak;
    make_buffers(&b, net, &arena);
    return run_ops(net, be, &b, result, x) == D2C_OK ? D2C_OK : d2c_backend_error(be, err);
}

static d2c_status
check_finite(const float *features, int count, d2c_error *err)
{
    int i;

    for (i = 0; i < count; i++)
        if (!isfinite(features[i])) {
            d2c_fail(err, D2C_NOT_FINITE, "features of an image are not finite");
            d2c_hint(err, "The model's weights may be damaged.");
            return D2C_NOT_FINITE;
        }
    return D2C_OK;
}

d2c_status
d2c_inception_run(const d2c_inception *inception, d2c_backend *be, d2c_scratch *scratch,
                  const d2c_inception_result *result, const d2c_image *image, d2c_error *err)
{
    float *x = malloc((size_t)D2C_INCEPTION_EDGE * D2C_INCEPTION_EDGE * 3 * sizeof *x);
    d2c_status status;

    if (x == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    status = d2c_inception_prepare(x, image, inception->input, err);
    if (status == D2C_OK)
        status = forward(inception, be, scratch, result, x, err);
    free(x);
    return status == D2C_OK ? check_finite(result->features, inception->features, err) : status;
}
