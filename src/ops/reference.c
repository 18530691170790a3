/* reference.c: the reference backend's table and constructor (reference.h). */
#include "ops/reference.h"

#include <stdlib.h>

static void
close_reference(d2c_backend *be)
{
    free(be);
}

static const d2c_ops reference_ops = {
    .size = sizeof(d2c_ops),
    .version = D2C_OPS_VERSION,
    .name = "reference",
    .close = close_reference,
    .alloc = d2c_host_alloc,
    .free = d2c_host_free,
    .upload = d2c_host_upload,
    .download = d2c_host_download,
    .copy = d2c_host_copy,
    .zero = d2c_host_zero,
    .synchronize = d2c_host_synchronize,
    .linear_forward = d2c_ref_linear_forward,
    .linear_backward_input = d2c_ref_linear_backward_input,
    .linear_backward_weight = d2c_ref_linear_backward_weight,
    .attention_forward = d2c_ref_attention_forward,
    .attention_backward = d2c_ref_attention_backward,
    .modulate_forward = d2c_ref_modulate_forward,
    .modulate_backward = d2c_ref_modulate_backward,
    .gate_residual_forward = d2c_ref_gate_residual_forward,
    .gate_residual_backward = d2c_ref_gate_residual_backward,
    .layernorm_forward = d2c_ref_layernorm_forward,
    .layernorm_backward = d2c_ref_layernorm_backward,
    .act_forward = d2c_ref_act_forward,
    .act_backward = d2c_ref_act_backward,
    .axpby = d2c_ref_axpby,
    .cast = d2c_ref_cast,
    .quantize = d2c_ref_quantize,
    .add_rows = d2c_ref_add_rows,
    .gather = d2c_ref_gather,
    .scatter_add = d2c_ref_scatter_add,
    .timestep_embedding = d2c_ref_timestep_embedding,
    .patchify = d2c_ref_patchify,
    .unpatchify = d2c_ref_unpatchify,
    .text_unfold = d2c_ref_text_unfold,
    .draw_normal = d2c_ref_draw_normal,
    .drop_labels = d2c_ref_drop_labels,
    .path_coefficients = d2c_ref_path_coefficients,
    .diffuse = d2c_ref_diffuse,
    .mse_loss = d2c_ref_mse_loss,
    .cosine_loss = d2c_ref_cosine_loss,
    .finish_loss = d2c_ref_finish_loss,
    .gradient_norm = d2c_ref_gradient_norm,
    .adamw_step = d2c_ref_adamw_step,
    .conv2d_forward = d2c_ref_conv2d_forward,
    .groupnorm_forward = d2c_ref_groupnorm_forward,
    .upsample_forward = d2c_ref_upsample_forward,
    .pool_forward = d2c_ref_pool_forward,
    .rmsnorm_forward = d2c_ref_rmsnorm_forward,
    .glu_forward = d2c_ref_glu_forward,
    .dit_loss = d2c_ref_dit_loss,
};

/* One thread, whatever is asked for: the order of sums is the program's text. */
d2c_status
d2c_reference_backend(d2c_backend **be, int threads, d2c_error *err)
{
    (void)threads;
    *be = calloc(1, sizeof **be);
    if (*be == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "could not allocate a backend");
    (*be)->ops = &reference_ops;
    (*be)->threads = 1;
    (*be)->has_bf16 = 1;
    (*be)->has_f8 = 1;
    return D2C_OK;
}
