/* generic.c: compositions behind NULL entries (generic.h). */
#include "ops/generic.h"

d2c_status
d2c_generic_gate_modulate_forward(d2c_backend *be, d2c_tensor out, d2c_tensor h, d2c_tensor stat,
                                  d2c_tensor x, d2c_tensor y, d2c_tensor gate, d2c_tensor shift,
                                  d2c_tensor scale, float eps)
{
    if (out.data != x.data)
        D2C_TRY(d2c_copy(be, out.data, x.data, (size_t)d2c_tensor_count(x) * sizeof(float)));
    D2C_TRY(d2c_gate_residual_forward(be, out, y, gate));
    return d2c_modulate_forward(be, h, stat, out, shift, scale, eps);
}
