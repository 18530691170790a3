/*
 * inception_layers.c: the network of pytorch-fid's pt_inception-2015-12-05 (inception_layers.h).
 *
 * It is TensorFlow's graph of 2015, not torchvision's network: means leave the padding out, the last block's pool takes
 * the maximum, and there is no auxiliary classifier.
 */
#include "nn/inception_layers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_CHANNELS 65536

/* What a layer reads: the block's input, what the layer above made, or what that one read. */
typedef enum source { BLOCK, ABOVE, BESIDE } source;

typedef struct layer {
    const char *name; /* NULL for pools */
    d2c_inception_kind kind;
    source from;
    int joins; /* ends a branch: goes to the block's output, behind the branches before it */
    d2c_window window;
} layer;

#define CONV D2C_INCEPTION_CONV
#define MAX D2C_INCEPTION_MAX
#define MEAN D2C_INCEPTION_MEAN
#define STAY 0
#define JOIN 1
#define SAME(height, width)                                                                                  \
    {                                                                                                        \
        height, width, 1, (height) / 2, (width) / 2, (height) / 2, (width) / 2                               \
    } /* keeps rows and columns */
#define VALID(height, width, stride)                                                                         \
    {                                                                                                        \
        height, width, stride, 0, 0, 0, 0                                                                    \
    }

static const layer stem[] = {
    {"Conv2d_1a_3x3", CONV, BLOCK, STAY, VALID(3, 3, 2)},
    {"Conv2d_2a_3x3", CONV, ABOVE, STAY, VALID(3, 3, 1)},
    {"Conv2d_2b_3x3", CONV, ABOVE, STAY, SAME(3, 3)},
    {NULL, MAX, ABOVE, STAY, VALID(3, 3, 2)},
    {"Conv2d_3b_1x1", CONV, ABOVE, STAY, SAME(1, 1)},
    {"Conv2d_4a_3x3", CONV, ABOVE, STAY, VALID(3, 3, 1)},
    {NULL, MAX, ABOVE, JOIN, VALID(3, 3, 2)},
};

static const layer block_a[] = {
    {"branch1x1", CONV, BLOCK, JOIN, SAME(1, 1)},
    {"branch5x5_1", CONV, BLOCK, STAY, SAME(1, 1)},
    {"branch5x5_2", CONV, ABOVE, JOIN, SAME(5, 5)},
    {"branch3x3dbl_1", CONV, BLOCK, STAY, SAME(1, 1)},
    {"branch3x3dbl_2", CONV, ABOVE, STAY, SAME(3, 3)},
    {"branch3x3dbl_3", CONV, ABOVE, JOIN, SAME(3, 3)},
    {NULL, MEAN, BLOCK, STAY, SAME(3, 3)},
    {"branch_pool", CONV, ABOVE, JOIN, SAME(1, 1)},
};

static const layer block_b[] = {
    {"branch3x3", CONV, BLOCK, JOIN, VALID(3, 3, 2)},  {"branch3x3dbl_1", CONV, BLOCK, STAY, SAME(1, 1)},
    {"branch3x3dbl_2", CONV, ABOVE, STAY, SAME(3, 3)}, {"branch3x3dbl_3", CONV, ABOVE, JOIN, VALID(3, 3, 2)},
    {NULL, MAX, BLOCK, JOIN, VALID(3, 3, 2)},
};

static const layer block_c[] = {
    {"branch1x1", CONV, BLOCK, JOIN, SAME(1, 1)},      {"branch7x7_1", CONV, BLOCK, STAY, SAME(1, 1)},
    {"branch7x7_2", CONV, ABOVE, STAY, SAME(1, 7)},    {"branch7x7_3", CONV, ABOVE, JOIN, SAME(7, 1)},
    {"branch7x7dbl_1", CONV, BLOCK, STAY, SAME(1, 1)}, {"branch7x7dbl_2", CONV, ABOVE, STAY, SAME(7, 1)},
    {"branch7x7dbl_3", CONV, ABOVE, STAY, SAME(1, 7)}, {"branch7x7dbl_4", CONV, ABOVE, STAY, SAME(7, 1)},
    {"branch7x7dbl_5", CONV, ABOVE, JOIN, SAME(1, 7)}, {NULL, MEAN, BLOCK, STAY, SAME(3, 3)},
    {"branch_pool", CONV, ABOVE, JOIN, SAME(1, 1)},
};

static const layer block_d[] = {
    {"branch3x3_1", CONV, BLOCK, STAY, SAME(1, 1)},   {"branch3x3_2", CONV, ABOVE, JOIN, VALID(3, 3, 2)},
    {"branch7x7x3_1", CONV, BLOCK, STAY, SAME(1, 1)}, {"branch7x7x3_2", CONV, ABOVE, STAY, SAME(1, 7)},
    {"branch7x7x3_3", CONV, ABOVE, STAY, SAME(7, 1)}, {"branch7x7x3_4", CONV, ABOVE, JOIN, VALID(3, 3, 2)},
    {NULL, MAX, BLOCK, JOIN, VALID(3, 3, 2)},
};

/* The two last blocks differ in their pool. */
#define BLOCK_E(pool)                                                                                        \
    {                                                                                                        \
        {"branch1x1", CONV, BLOCK, JOIN, SAME(1, 1)}, {"branch3x3_1", CONV, BLOCK, STAY, SAME(1, 1)},        \
            {"branch3x3_2a", CONV, ABOVE, JOIN, SAME(1, 3)},                                                 \
            {"branch3x3_2b", CONV, BESIDE, JOIN, SAME(3, 1)},                                                \
            {"branch3x3dbl_1", CONV, BLOCK, STAY, SAME(1, 1)},                                               \
            {"branch3x3dbl_2", CONV, ABOVE, STAY, SAME(3, 3)},                                               \
            {"branch3x3dbl_3a", CONV, ABOVE, JOIN, SAME(1, 3)},                                              \
            {"branch3x3dbl_3b", CONV, BESIDE, JOIN, SAME(3, 1)}, {NULL, pool, BLOCK, STAY, SAME(3, 3)},      \
            {"branch_pool", CONV, ABOVE, JOIN, SAME(1, 1)},                                                  \
    }

static const layer block_e_mean[] = BLOCK_E(MEAN);
static const layer block_e_max[] = BLOCK_E(MAX);

#define LAYERS(list) list, (int)(sizeof list / sizeof list[0])

static const struct block {
    const char *name; /* before the names of its layers */
    const layer *layer;
    int layers;
} blocks[] = {
    {"", LAYERS(stem)},
    {"Mixed_5b.", LAYERS(block_a)},
    {"Mixed_5c.", LAYERS(block_a)},
    {"Mixed_5d.", LAYERS(block_a)},
    {"Mixed_6a.", LAYERS(block_b)},
    {"Mixed_6b.", LAYERS(block_c)},
    {"Mixed_6c.", LAYERS(block_c)},
    {"Mixed_6d.", LAYERS(block_c)},
    {"Mixed_6e.", LAYERS(block_c)},
    {"Mixed_7a.", LAYERS(block_d)},
    {"Mixed_7b.", LAYERS(block_e_mean)},
    {"Mixed_7c.", LAYERS(block_e_max)},
};

static const char spatial[] = "Mixed_6d.branch1x1";

/* ---- laying it out ------------------------------------------------------------------------------------------------- */

static d2c_status
find_tensor(const d2c_st_tensor **tensor, const d2c_weights *file, const char *name, d2c_error *err)
{
    *tensor = d2c_weights_find(file, name);
    return *tensor != NULL ? D2C_OK : d2c_fail(err, D2C_BAD_MODEL, "tensor \"%s\" is missing", name);
}

/* The width is the file's; the rest of the shape must be what the layer and its input give. */
static d2c_status
add_conv(d2c_inception_step *s, d2c_params *params, const d2c_weights *file, d2c_error *err)
{
    char name[sizeof s->name + 16];
    const d2c_st_tensor *t;

    snprintf(name, sizeof name, "%s.conv.weight", s->name);
    D2C_TRY(find_tensor(&t, file, name, err));
    if (t->ndim != 4 || t->dim[0] < 1 || t->dim[0] > MAX_CHANNELS || t->dim[1] != s->in.channels ||
        t->dim[2] != s->window.height || t->dim[3] != s->window.width) {
        d2c_fail(err, D2C_BAD_MODEL, "tensor \"%s\" has the wrong shape", name);
        d2c_detail(err, "The network needs [any, %d, %d, %d].", s->in.channels, s->window.height,
                   s->window.width);
        return D2C_BAD_MODEL;
    }
    s->out.channels = (int)t->dim[0];
    return d2c_params_add_conv(params, s->name, s->out.channels, s->in.channels, s->window.height,
                               s->window.width, 1, err);
}

static int
places(int in, int before, int after, int size, int stride)
{
    return (in + before + after - size) / stride + 1;
}

static void
reserve(d2c_inception_plan *plan, int buffer, const d2c_inception_shape *shape)
{
    int64_t elements = (int64_t)shape->rows * shape->columns * shape->channels;

    if (elements > plan->size[buffer])
        plan->size[buffer] = elements;
}

/* A zeroed step at the end; NULL when there is no memory. */
static d2c_inception_step *
new_step(d2c_inception_plan *plan)
{
    int capacity = plan->capacity > 0 ? plan->capacity * 2 : 128;
    d2c_inception_step *step = plan->step;

    if (plan->steps == plan->capacity) {
        step = realloc(plan->step, (size_t)capacity * sizeof *step);
        if (step == NULL)
            return NULL;
        plan->step = step;
        plan->capacity = capacity;
    }
    return memset(&step[plan->steps++], 0, sizeof *step);
}

static void
set_input(d2c_inception_step *s, const d2c_inception_plan *plan, source from)
{
    switch (from) {
    case BLOCK:
        s->from = plan->last;
        s->in = plan->out;
        break;
    case ABOVE:
        s->from = s[-1].to;
        s->in = s[-1].out;
        break;
    case BESIDE:
        s->from = s[-1].from;
        s->in = s[-1].in;
        break;
    }
}

/* Buffers 0 and 1 are in turn a block's input and its output; 2 and 3 are for what stays within the block. */
static void
set_output(d2c_inception_step *s, const d2c_inception_plan *plan, int joins)
{
    const d2c_window *w = &s->window;

    s->to = s->from == 2 ? 3 : 2;
    s->joins = joins ? !plan->last : -1;
    s->out.rows = places(s->in.rows, w->top, w->bottom, w->height, w->stride);
    s->out.columns = places(s->in.columns, w->left, w->right, w->width, w->stride);
    s->out.channels = s->in.channels;
}

static d2c_status
add_step(d2c_inception_plan *plan, d2c_params *params, const d2c_weights *file, const struct block *b,
         const layer *l, d2c_error *err)
{
    d2c_inception_step *s = new_step(plan);

    if (s == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    s->kind = l->kind;
    s->window = l->window;
    set_input(s, plan, l->from);
    set_output(s, plan, l->joins);
    if (l->name != NULL) {
        snprintf(s->name, sizeof s->name, "%s%s", b->name, l->name);
        D2C_TRY(add_conv(s, params, file, err));
    }
    if (strcmp(s->name, spatial) == 0)
        plan->spatial = plan->steps - 1;
    reserve(plan, s->to, &s->out);
    return D2C_OK;
}

/* Gives the branches from step `begin` on their columns, and moves to the block's output. */
static void
join_branches(d2c_inception_plan *plan, int begin)
{
    d2c_inception_shape out = plan->step[plan->steps - 1].out;
    int i;

    out.channels = 0;
    for (i = begin; i < plan->steps; i++)
        if (plan->step[i].joins >= 0) {
            plan->step[i].first = out.channels;
            out.channels += plan->step[i].out.channels;
        }
    for (i = begin; i < plan->steps; i++)
        plan->step[i].width = out.channels;
    plan->out = out;
    plan->last = !plan->last;
    reserve(plan, plan->last, &out);
}

static d2c_status
add_block(d2c_inception_plan *plan, d2c_params *params, const d2c_weights *file, const struct block *b,
          d2c_error *err)
{
    int begin = plan->steps, i;

    for (i = 0; i < b->layers; i++)
        D2C_TRY(add_step(plan, params, file, b, &b->layer[i], err));
    join_branches(plan, begin);
    return D2C_OK;
}

/* The classes' weights; their bias takes no part in the Inception Score. */
static d2c_status
add_classifier(d2c_inception_plan *plan, d2c_params *params, const d2c_weights *file, d2c_error *err)
{
    const d2c_st_tensor *t;
    int64_t dim[2];

    D2C_TRY(find_tensor(&t, file, "fc.weight", err));
    if (t->ndim != 2 || t->dim[0] < 1 || t->dim[0] > MAX_CHANNELS || t->dim[1] != plan->out.channels) {
        d2c_fail(err, D2C_BAD_MODEL, "tensor \"fc.weight\" has the wrong shape");
        d2c_detail(err, "The network needs [any, %d].", plan->out.channels);
        return D2C_BAD_MODEL;
    }
    plan->classes = (int)t->dim[0];
    dim[0] = t->dim[0];
    dim[1] = t->dim[1];
    return d2c_params_add(params, "fc.weight", D2C_INIT_GIVEN, 0, 2, dim, err);
}

/* torchvision's weights have the same names and would give numbers, but not FID's. */
static d2c_status
refuse_torchvision(const d2c_weights *file, d2c_error *err)
{
    const d2c_st_tensor *classes = d2c_weights_find(file, "fc.weight");

    if (d2c_weights_find(file, "AuxLogits.conv0.conv.weight") == NULL &&
        (classes == NULL || classes->dim[0] != 1000))
        return D2C_OK;
    d2c_fail(err, D2C_UNSUPPORTED, "the weights are of ImageNet's Inception-v3, not of FID's");
    d2c_hint(err, "FID is defined with pt_inception-2015-12-05, whose classifier has 1008 classes.");
    return D2C_UNSUPPORTED;
}

d2c_status
d2c_inception_plan_make(d2c_inception_plan *plan, d2c_params *params, const d2c_weights *file, d2c_error *err)
{
    size_t i;

    memset(plan, 0, sizeof *plan);
    D2C_TRY(refuse_torchvision(file, err));
    plan->out = (d2c_inception_shape){D2C_INCEPTION_EDGE, D2C_INCEPTION_EDGE, 3};
    reserve(plan, plan->last, &plan->out);
    for (i = 0; i < sizeof blocks / sizeof blocks[0]; i++)
        D2C_TRY(add_block(plan, params, file, &blocks[i], err));
    if (plan->step[plan->spatial].out.channels < D2C_INCEPTION_SPATIAL)
        return d2c_fail(err, D2C_BAD_MODEL, "tensor \"%s.conv.weight\" has fewer than %d channels", spatial,
                        D2C_INCEPTION_SPATIAL);
    return add_classifier(plan, params, file, err);
}

void
d2c_inception_plan_free(d2c_inception_plan *plan)
{
    free(plan->step);
    memset(plan, 0, sizeof *plan);
}
