/* divergence.c: the rule of divergence.h. */
#include "train/divergence.h"

#include <math.h>

#define STEPS_OF_MEAN 100

int
d2c_divergence_put(d2c_divergence *divergence, double loss, double factor)
{
    if (!(fabs(loss) < D2C_LOSS_LIMIT))
        return 1;
    if (factor > 0 && divergence->mean > 0 && loss > factor * divergence->mean)
        return ++divergence->above >= D2C_DIVERGENCE_STEPS;
    divergence->above = 0;
    divergence->mean += divergence->mean != 0 ? (loss - divergence->mean) / STEPS_OF_MEAN : loss;
    return 0;
}
