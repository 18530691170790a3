/* sampler_steps.h: what the samplers of each kind of network share (sampler.h). */
#ifndef D2C_NN_SAMPLER_STEPS_H
#define D2C_NN_SAMPLER_STEPS_H

#include "nn/dit_schedule.h"
#include "nn/sampler.h"

/* A pass of up to `capacity` images on the device.  Its state x is stepped in place; with guidance the network runs on
 * twice as many rows, the second half with the null class. */
typedef struct sampling {
    d2c_sit *sit;
    d2c_backend *be;
    const d2c_sampler *setting;
    d2c_error *err;
    int64_t elements;         /* of an image */
    int64_t outputs;          /* of the network's output for it: as many, and DiT's twice as many */
    int capacity;             /* images a pass */
    int rows;                 /* of the network: twice as many with guidance */
    int evaluations;          /* times on the grid */
    double *grid;             /* [evaluations] t, host */
    double (*coefficient)[4]; /* [evaluations] alpha, sigma, alpha', sigma' in the network's own time, host */
    double guide_from, guide_to; /* as the setting has them, rounded as the grid's times are */
    d2c_dit_step *steps;         /* [evaluations] DiT's, host */
    float *values;               /* [capacity, outputs + 2 elements] DiT's, host */
    void *memory;
    d2c_tensor t;         /* [evaluations, rows] f32: an evaluation's time for every row */
    d2c_tensor path;      /* [evaluations, 4] f32: room for a path's coefficients */
    d2c_tensor x;         /* [rows, elements] f32: state; the second half is a copy for guidance */
    d2c_tensor v, v2;     /* [rows, outputs] f32 */
    d2c_tensor probe;     /* [rows, elements] f32: Heun's second point */
    d2c_tensor noise;     /* [capacity, elements] f32 */
    d2c_tensor label;     /* [rows] i64 */
    d2c_tensor id, epoch; /* [capacity] i64 */
    int64_t *host;        /* [rows] */
    size_t work_start, work_bytes;
} sampling;

/* How a kind of network is sampled. */
typedef struct sampler_method {
    /* Fills grid, coefficients and what else the steps need, all of which release() frees. */
    d2c_status (*prepare)(sampling *s);
    /* The `count` images from the grid's time i to the next. */
    d2c_status (*step)(const sampling *s, int i, int count);
    /* The time, 1 being data, at which an ODE ends; NULL where there is none. */
    double (*end)(const sampling *s);
} sampler_method;

extern const sampler_method sampler_sit, sampler_repa, sampler_dit;

#define TRY_OP(s, call)                                                                                      \
    do {                                                                                                     \
        if ((call) != D2C_OK)                                                                                \
            return d2c_backend_error((s)->be, (s)->err);                                                     \
    } while (0)

/* The network's output for the first `count` rows of x at the grid's time i, guided when the grid's time `gate` is within
 * the interval; x has room for the null class's copy behind them. */
d2c_status sampler_evaluate(const sampling *s, d2c_tensor v, d2c_tensor x, int i, int gate, int count);

/* The one image of x from time 0 to `end`, where 1 is data, by steps of its own; the grid's only time is scratch. */
d2c_status sampler_dopri5(const sampling *s, double end);

/* s->noise of step i, keyed by each image's own seed. */
d2c_status sampler_draw(const sampling *s, int i, int count);

#endif
