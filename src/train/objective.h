/*
 * objective.h: what a network is trained to predict, at which times.  The kinds are those of the public codes:
 *
 *   SiT   (willisma/SiT transport/)         velocity d x/dt on a path from noise, 0, to data, 1
 *   REPA  (sihyun-yu/REPA loss.py)          the same from data, 0, to noise, 1: of the other sign
 *   DiT   (facebookresearch/DiT diffusion/) the noise and, by a bound, the range of the variance; steps 0 to 999
 *
 * A row's time is drawn by (seed, row, epoch) on the host, where it is a few bytes a row of what is uploaded anyway.
 */
#ifndef D2C_TRAIN_OBJECTIVE_H
#define D2C_TRAIN_OBJECTIVE_H

#include "nn/dit_schedule.h"
#include "nn/sit.h"

/* How the times of a velocity are drawn.  DiT's steps are uniform. */
typedef enum d2c_time_sampling {
    D2C_TIME_UNIFORM,
    D2C_TIME_LOGNORMAL /* REPA's "lognormal": sigma/alpha, noise over data, is e to a standard normal; not of the VP path */
} d2c_time_sampling;

typedef struct d2c_objective {
    d2c_sit_kind kind;
    d2c_path path;
    d2c_time_sampling sampling;
    uint64_t seed;
    double abar[D2C_DIT_STEPS]; /* DiT's schedule */
} d2c_objective;

/* What a row is trained at. */
typedef struct d2c_row_time {
    float t;    /* as the network is given it */
    float path; /* SiT's time, of which the ops make the path's coefficients; of DiT unused */
} d2c_row_time;

/* "uniform" or "lognormal". */
d2c_status d2c_time_sampling_read(d2c_time_sampling *sampling, const char *name, d2c_error *err);

/* D2C_INVALID_ARGUMENT where the kind or path has no such sampling. */
d2c_status d2c_time_sampling_check(d2c_time_sampling sampling, const d2c_sit_config *config, d2c_error *err);

/* Checks as well. */
d2c_status d2c_objective_make(d2c_objective *objective, const d2c_sit_config *config,
                              d2c_time_sampling sampling, uint64_t seed, d2c_error *err);

d2c_row_time d2c_objective_time(const d2c_objective *objective, int64_t row, int64_t epoch);

#endif
