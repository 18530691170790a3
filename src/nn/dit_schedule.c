/* dit_schedule.c: DiT's noise and the steps of its sampling (dit_schedule.h). */
#include "nn/dit_schedule.h"

#include <math.h>

void
d2c_dit_schedule(double *abar)
{
    double product = 1;
    int t;

    for (t = 0; t < D2C_DIT_STEPS; t++) {
        product *= 1 - (1e-4 + (0.02 - 1e-4) * t / (D2C_DIT_STEPS - 1));
        abar[t] = product;
    }
}

/* The posterior q(x_previous | x, data), with the noise in place of the data: data = (x - sqrt(1 - now) noise)/sqrt(now). */
static d2c_dit_step
make_step(int t, double now, double previous)
{
    double beta = 1 - now / previous;
    double from_data = beta * sqrt(previous) / (1 - now);
    d2c_dit_step step = {
        .t = t,
        .from_x = (1 - previous) * sqrt(1 - beta) / (1 - now) + from_data / sqrt(now),
        .from_noise = -from_data * sqrt(1 / now - 1),
        .low = log(beta * (1 - previous) / (1 - now)),
        .high = log(beta),
    };

    return step;
}

void
d2c_dit_coefficient(float coefficient[4], const double *abar, int t)
{
    coefficient[0] = (float)sqrt(abar[t]);
    coefficient[1] = (float)sqrt(1 - abar[t]);
    coefficient[2] = 0;
    coefficient[3] = 1;
}

/* The first step's true variance is 0: the second one's is the least that is predicted there, too. */
void
d2c_dit_bound(float bound[4], const double *abar, int t)
{
    d2c_dit_step step = make_step(t, abar[t], t > 0 ? abar[t - 1] : 1);

    bound[0] = (float)-step.from_noise;
    bound[1] = (float)(t > 0 ? step.low : make_step(1, abar[1], abar[0]).low);
    bound[2] = (float)step.high;
    bound[3] = t == 0;
}

void
d2c_dit_respace(d2c_dit_step *step, int count)
{
    double abar[D2C_DIT_STEPS], previous = 1, at = 0;
    int i;

    d2c_dit_schedule(abar);
    for (i = 0; i < count; i++, at += (D2C_DIT_STEPS - 1.0) / (count - 1)) {
        int t = (int)rint(at); /* halves to even, as Python rounds */

        step[count - 1 - i] = make_step(t, abar[t], previous);
        previous = abar[t];
    }
    step[count - 1].low = step[count - 2].low; /* nothing is drawn there; the posterior's own is -infinity */
}
