/* classifier.c: a perceptron of two hidden layers, forward and backward by matrix products. */
#include "eval/classifier.h"

#include <dnnl.h>
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "base/philox.h"

#define LAYERS 3
#define HIDDEN 256
#define BATCH 128
#define LEARNING_RATE 0.05f /* falls linearly to zero */
#define MOMENTUM 0.9f
#define THREADS 2 /* of every product, on any machine */

typedef struct layer {
    int in, out;
    float *weight, *bias;           /* [out, in], [out] */
    float *weight_grad, *bias_grad; /* the same */
    float *weight_step, *bias_step; /* the momentum's */
} layer;

struct d2c_classifier {
    layer layer[LAYERS];
    int classes;
    float *memory; /* of all layers */
};

/* A batch's activations, input first; delta[l] is the loss's gradient by activation[l]. */
typedef struct batch {
    int rows;
    float *activation[LAYERS + 1], *delta[LAYERS + 1]; /* [BATCH, width of l] */
    int64_t index[BATCH];
    float *memory;
} batch;

static d2c_status
fail_memory(d2c_error *err)
{
    return d2c_fail(err, D2C_NO_MEMORY, "out of memory for the classifier");
}

/* c [m, n] = op(a) op(b) + beta c.  How the library divides a sum depends on the threads that it has, and training makes much
 * of the last bits: so they are always as many. */
static d2c_status
multiply(char a_turned, char b_turned, int m, int n, int k, const float *a, const float *b, float beta,
         float *c, d2c_error *err)
{
    int threads = omp_get_max_threads();
    dnnl_status_t status;

    omp_set_num_threads(THREADS);
    status = dnnl_sgemm(a_turned, b_turned, m, n, k, 1.0f, a, a_turned == 'T' ? m : k, b,
                        b_turned == 'T' ? k : n, beta, c, n);
    omp_set_num_threads(threads);
    return status == dnnl_success ? D2C_OK : d2c_fail(err, D2C_INTERNAL, "a matrix product failed");
}

static int
width_of(const d2c_classifier *c, int level)
{
    return level == 0 ? c->layer[0].in : c->layer[level - 1].out;
}

/* He's initial weights: normal with variance 2 / in; the layer's index is the draw's id. */
static void
initialize(layer *l, int index)
{
    int64_t count = (int64_t)l->in * l->out, i;
    float scale = sqrtf(2.0f / (float)l->in), draw[4];

    for (i = 0; i < count; i++) {
        if (i % 4 == 0)
            d2c_philox_normal4(draw, d2c_philox(0, (uint32_t)(i / 4), (uint64_t)index,
                                                d2c_philox_stream(0, D2C_PURPOSE_INIT)));
        l->weight[i] = draw[i % 4] * scale;
    }
}

static d2c_status
make_layers(d2c_classifier *c, int size, d2c_error *err)
{
    const int width[LAYERS + 1] = {size, HIDDEN, D2C_CLASSIFIER_WIDTH, c->classes};
    size_t total = 0;
    float *at;
    int i;

    for (i = 0; i < LAYERS; i++)
        total += 3 * ((size_t)width[i] + 1) * (size_t)width[i + 1];
    at = c->memory = calloc(total, sizeof *at);
    if (at == NULL)
        return fail_memory(err);
    for (i = 0; i < LAYERS; i++) {
        layer *l = &c->layer[i];
        size_t weights = (size_t)width[i] * (size_t)width[i + 1], biases = (size_t)width[i + 1];

        l->in = width[i];
        l->out = width[i + 1];
        l->weight = at;
        l->weight_grad = l->weight + weights;
        l->weight_step = l->weight_grad + weights;
        l->bias = l->weight_step + weights;
        l->bias_grad = l->bias + biases;
        l->bias_step = l->bias_grad + biases;
        at = l->bias_step + biases;
        initialize(l, i);
    }
    return D2C_OK;
}

static d2c_status
make_batch(batch *b, const d2c_classifier *c, d2c_error *err)
{
    size_t total = 0;
    float *at;
    int level;

    for (level = 0; level <= LAYERS; level++)
        total += 2 * BATCH * (size_t)width_of(c, level);
    at = b->memory = malloc(total * sizeof *at);
    if (at == NULL)
        return fail_memory(err);
    for (level = 0; level <= LAYERS; level++) {
        b->activation[level] = at;
        b->delta[level] = at + BATCH * (size_t)width_of(c, level);
        at = b->delta[level] + BATCH * (size_t)width_of(c, level);
    }
    return D2C_OK;
}

static void
fill_input(batch *b, const d2c_pixel_set *set)
{
    int row, i;

    for (row = 0; row < b->rows; row++) {
        const uint8_t *pixels = set->pixels + (size_t)b->index[row] * (size_t)set->size;
        float *x = b->activation[0] + (size_t)row * (size_t)set->size;

        for (i = 0; i < set->size; i++)
            x[i] = pixels[i] / 127.5f - 1.0f;
    }
}

/* y = x W^T + b, rectified in all layers but the last. */
static d2c_status
forward(const d2c_classifier *c, batch *b, d2c_error *err)
{
    int level, row, i;

    for (level = 0; level < LAYERS; level++) {
        const layer *l = &c->layer[level];
        float *y = b->activation[level + 1];

        for (row = 0; row < b->rows; row++)
            memcpy(y + (size_t)row * (size_t)l->out, l->bias, (size_t)l->out * sizeof *y);
        D2C_TRY(multiply('N', 'T', b->rows, l->out, l->in, b->activation[level], l->weight, 1.0f, y, err));
        for (i = 0; level < LAYERS - 1 && i < b->rows * l->out; i++)
            y[i] = y[i] > 0 ? y[i] : 0;
    }
    return D2C_OK;
}

/* The gradient of the mean cross-entropy by the logits: (softmax - one-hot) / rows. */
static void
loss_gradient(const d2c_classifier *c, batch *b, const d2c_pixel_set *set)
{
    int row, k;

    for (row = 0; row < b->rows; row++) {
        const float *logit = b->activation[LAYERS] + (size_t)row * (size_t)c->classes;
        float *delta = b->delta[LAYERS] + (size_t)row * (size_t)c->classes;
        float largest = logit[0], sum = 0;

        for (k = 1; k < c->classes; k++)
            largest = fmaxf(largest, logit[k]);
        for (k = 0; k < c->classes; k++)
            sum += delta[k] = expf(logit[k] - largest);
        for (k = 0; k < c->classes; k++)
            delta[k] = (delta[k] / sum - (k == set->label[b->index[row]])) / (float)b->rows;
    }
}

static d2c_status
backward(d2c_classifier *c, batch *b, d2c_error *err)
{
    int level, row, i;

    for (level = LAYERS - 1; level >= 0; level--) {
        layer *l = &c->layer[level];
        float *dy = b->delta[level + 1], *dx = b->delta[level];

        D2C_TRY(
            multiply('T', 'N', l->out, l->in, b->rows, dy, b->activation[level], 0.0f, l->weight_grad, err));
        memset(l->bias_grad, 0, (size_t)l->out * sizeof *l->bias_grad);
        for (row = 0; row < b->rows; row++)
            for (i = 0; i < l->out; i++)
                l->bias_grad[i] += dy[row * l->out + i];
        if (level == 0)
            break;
        D2C_TRY(multiply('N', 'N', b->rows, l->in, l->out, dy, l->weight, 0.0f, dx, err));
        for (i = 0; i < b->rows * l->in; i++)
            dx[i] = b->activation[level][i] > 0 ? dx[i] : 0;
    }
    return D2C_OK;
}

static void
descend(float *value, float *step, const float *grad, int64_t count, float rate)
{
    int64_t i;

    for (i = 0; i < count; i++) {
        step[i] = MOMENTUM * step[i] + grad[i];
        value[i] -= rate * step[i];
    }
}

static d2c_status
train_batch(d2c_classifier *c, batch *b, const d2c_pixel_set *set, float rate, d2c_error *err)
{
    int level;

    fill_input(b, set);
    D2C_TRY(forward(c, b, err));
    loss_gradient(c, b, set);
    D2C_TRY(backward(c, b, err));
    for (level = 0; level < LAYERS; level++) {
        layer *l = &c->layer[level];

        descend(l->weight, l->weight_step, l->weight_grad, (int64_t)l->in * l->out, rate);
        descend(l->bias, l->bias_step, l->bias_grad, l->out, rate);
    }
    return D2C_OK;
}

/* Fisher and Yates's shuffle. */
static void
shuffle(int64_t *order, int64_t count, int epoch)
{
    int64_t i;

    for (i = count - 1; i > 0; i--) {
        d2c_philox_block draw = d2c_philox(0, 0, (uint64_t)i, d2c_philox_stream(epoch, D2C_PURPOSE_SELECT));
        int64_t other = (int64_t)(draw.w[0] % (uint64_t)(i + 1)), kept = order[i];

        order[i] = order[other];
        order[other] = kept;
    }
}

static d2c_status
run_epochs(d2c_classifier *c, batch *b, const d2c_pixel_set *set, int64_t *order, int epochs, d2c_error *err)
{
    int64_t per_epoch = (set->count + BATCH - 1) / BATCH, step = 0, i;
    int epoch;

    for (i = 0; i < set->count; i++)
        order[i] = i;
    for (epoch = 0; epoch < epochs; epoch++) {
        shuffle(order, set->count, epoch);
        for (i = 0; i < set->count; i += BATCH, step++) {
            float left = 1.0f - (float)step / (float)(per_epoch * epochs);

            b->rows = set->count - i < BATCH ? (int)(set->count - i) : BATCH;
            memcpy(b->index, order + i, (size_t)b->rows * sizeof *order);
            D2C_TRY(train_batch(c, b, set, LEARNING_RATE * left, err));
        }
    }
    return isfinite(c->layer[0].weight[0]) && isfinite(c->layer[LAYERS - 1].bias[0])
               ? D2C_OK
               : d2c_fail(err, D2C_NOT_FINITE, "the classifier's training did not converge");
}

static d2c_status
count_classes(int *classes, const d2c_pixel_set *set, d2c_error *err)
{
    int64_t i;

    *classes = 0;
    for (i = 0; i < set->count; i++) {
        if (set->label[i] < 0 || set->label[i] >= D2C_CLASSIFIER_MAX_CLASSES) {
            d2c_fail(err, D2C_INVALID_ARGUMENT,
                     "the classifier's training image %lld has no label from 0 to %d", (long long)i + 1,
                     D2C_CLASSIFIER_MAX_CLASSES - 1);
            d2c_hint(err, "The label is the second column of the query for the training images.");
            return D2C_INVALID_ARGUMENT;
        }
        if (set->label[i] >= *classes)
            *classes = set->label[i] + 1;
    }
    return D2C_OK;
}

d2c_status
d2c_classifier_train(d2c_classifier **classifier, const d2c_pixel_set *train, int epochs, d2c_error *err)
{
    d2c_classifier *c = calloc(1, sizeof *c);
    int64_t *order = malloc((size_t)train->count * sizeof *order);
    batch b = {0};
    d2c_status status = c != NULL && order != NULL ? D2C_OK : fail_memory(err);

    *classifier = NULL;
    if (status == D2C_OK)
        status = count_classes(&c->classes, train, err);
    if (status == D2C_OK)
        status = make_layers(c, train->size, err);
    if (status == D2C_OK)
        status = make_batch(&b, c, err);
    if (status == D2C_OK)
        status = run_epochs(c, &b, train, order, epochs, err);
    free(b.memory);
    free(order);
    if (status == D2C_OK)
        *classifier = c;
    else
        d2c_classifier_free(c);
    return status;
}

void
d2c_classifier_free(d2c_classifier *classifier)
{
    if (classifier != NULL)
        free(classifier->memory);
    free(classifier);
}

/* Runs n images spread over the set, a batch at a time, and shows each batch to `take`. */
static d2c_status
run_set(const d2c_classifier *c, const d2c_pixel_set *set, int64_t n,
        void (*take)(void *data, const d2c_classifier *c, const batch *b, int64_t first), void *data,
        d2c_error *err)
{
    batch b = {0};
    d2c_status status;
    int64_t i;

    if (set->size != c->layer[0].in)
        return d2c_fail(err, D2C_INVALID_ARGUMENT, "the sets' images differ in size");
    status = make_batch(&b, c, err);
    for (i = 0; i < n && status == D2C_OK; i += BATCH) {
        b.rows = 0;
        while (b.rows < BATCH && i + b.rows < n) {
            b.index[b.rows] = d2c_spread(i + b.rows, n, set->count);
            b.rows++;
        }
        fill_input(&b, set);
        status = forward(c, &b, err);
        if (status == D2C_OK)
            take(data, c, &b, i);
    }
    free(b.memory);
    return status;
}

static void
take_features(void *data, const d2c_classifier *c, const batch *b, int64_t first)
{
    double *to = (double *)data + first * D2C_CLASSIFIER_WIDTH;
    int i;

    (void)c;
    for (i = 0; i < b->rows * D2C_CLASSIFIER_WIDTH; i++)
        to[i] = b->activation[LAYERS - 1][i];
}

d2c_status
d2c_classifier_features(double *features, const d2c_classifier *classifier, const d2c_pixel_set *set,
                        int64_t n, d2c_error *err)
{
    return run_set(classifier, set, n, take_features, features, err);
}

typedef struct tally {
    const d2c_pixel_set *set;
    int64_t right, labelled;
} tally;

static void
take_tally(void *data, const d2c_classifier *c, const batch *b, int64_t first)
{
    tally *t = data;
    int row, k;

    (void)first;
    for (row = 0; row < b->rows; row++) {
        const float *logit = b->activation[LAYERS] + (size_t)row * (size_t)c->classes;
        int32_t label = t->set->label[b->index[row]];
        int best = 0;

        for (k = 1; k < c->classes; k++)
            if (logit[k] > logit[best])
                best = k;
        t->labelled += label >= 0;
        t->right += label == best;
    }
}

d2c_status
d2c_classifier_accuracy(double *accuracy, const d2c_classifier *classifier, const d2c_pixel_set *set,
                        d2c_error *err)
{
    tally t = {.set = set};

    *accuracy = NAN;
    D2C_TRY(run_set(classifier, set, set->count, take_tally, &t, err));
    if (t.labelled > 0)
        *accuracy = (double)t.right / (double)t.labelled;
    return D2C_OK;
}
