/* objective.c: the times of a training (objective.h). */
#include "train/objective.h"

#include <math.h>
#include <string.h>

#include "base/philox.h"

#define HALF_PI 1.57079632679489661923
#define VP_LONGEST                                                                                           \
    (1.0f - 1e-5f) /* the VP path's time ends before the data: its velocity has no limit there */

d2c_status
d2c_time_sampling_read(d2c_time_sampling *sampling, const char *name, d2c_error *err)
{
    if (strcmp(name, "uniform") != 0 && strcmp(name, "lognormal") != 0)
        return d2c_fail(err, D2C_INVALID_ARGUMENT, "invalid value for --time-sampling: \"%s\"", name);
    *sampling = strcmp(name, "uniform") == 0 ? D2C_TIME_UNIFORM : D2C_TIME_LOGNORMAL;
    return D2C_OK;
}

d2c_status
d2c_time_sampling_check(d2c_time_sampling sampling, const d2c_sit_config *config, d2c_error *err)
{
    if (sampling == D2C_TIME_LOGNORMAL && (config->kind == D2C_SIT_KIND_DIT || config->path == D2C_PATH_VP)) {
        d2c_fail(err, D2C_INVALID_ARGUMENT, "times of %s cannot be drawn \"lognormal\"",
                 config->kind == D2C_SIT_KIND_DIT ? "a network of kind \"dit\"" : "the VP path");
        d2c_hint(err, "Train with --time-sampling uniform.");
        return D2C_INVALID_ARGUMENT;
    }
    return D2C_OK;
}

d2c_status
d2c_objective_make(d2c_objective *objective, const d2c_sit_config *config, d2c_time_sampling sampling,
                   uint64_t seed, d2c_error *err)
{
    D2C_TRY(d2c_time_sampling_check(sampling, config, err));
    *objective =
        (d2c_objective){.kind = config->kind, .path = config->path, .sampling = sampling, .seed = seed};
    d2c_dit_schedule(objective->abar);
    return D2C_OK;
}

/* The time from data, 0, to noise, 1, at which noise over data is e^normal. */
static float
lognormal_time(const d2c_philox_block *block, d2c_path path)
{
    float normal[4];
    double sigma;

    d2c_philox_normal4(normal, *block);
    sigma = exp(normal[0]);
    return (float)(path == D2C_PATH_GVP ? atan(sigma) / HALF_PI : sigma / (1 + sigma));
}

d2c_row_time
d2c_objective_time(const d2c_objective *objective, int64_t row, int64_t epoch)
{
    d2c_philox_block block =
        d2c_philox(objective->seed, 0, (uint64_t)row, d2c_philox_stream(epoch, D2C_PURPOSE_TIME));
    int drawn = objective->sampling == D2C_TIME_LOGNORMAL;
    float t = drawn ? lognormal_time(&block, objective->path) : d2c_philox_uniform(block.w[0]);

    if (objective->kind == D2C_SIT_KIND_DIT)
        return (d2c_row_time){(float)((uint64_t)block.w[0] * D2C_DIT_STEPS >> 32), 0};
    if (objective->kind == D2C_SIT_KIND_REPA)
        return (d2c_row_time){t, 1 - t};
    if (drawn)
        t = 1 - t;
    else if (objective->path == D2C_PATH_VP)
        t *= VP_LONGEST;
    return (d2c_row_time){t, t};
}
