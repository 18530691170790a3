/*
 * generic.h: ops as compositions of other ops, for backends that leave their table's entry NULL.
 */
#ifndef D2C_OPS_GENERIC_H
#define D2C_OPS_GENERIC_H

#include "ops/ops.h"

d2c_status d2c_generic_gate_modulate_forward(d2c_backend *be, d2c_tensor out, d2c_tensor h, d2c_tensor stat,
                                             d2c_tensor x, d2c_tensor y, d2c_tensor gate, d2c_tensor shift,
                                             d2c_tensor scale, float eps);

#endif
