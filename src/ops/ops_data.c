/* ops_data.c: checks and dispatch of embeddings, layout, randomness, diffusion, losses and optimizer (contracts: ops.h). */
#include <math.h>

#include "base/philox.h"
#include "ops/check.h"
#include "ops/dispatch.h"

/* ---- embeddings and layout --------------------------------------------------------------------------------- */

d2c_status
d2c_gather(d2c_backend *be, d2c_tensor y, d2c_tensor table, d2c_tensor index)
{
    d2c_op_arg args[] = {
        {"y", &y, "NC", ARG_F32 | ARG_LEAD},
        {"table", &table, "VC", ARG_F32},
        {"index", &index, "N", ARG_I64 | ARG_LEAD},
    };
    d2c_op_call call = D2C_OP_CALL(be, "gather", args);

    D2C_TRY(d2c_op_check(&call));
    return D2C_DISPATCH(be, gather, y, table, index);
}

d2c_status
d2c_scatter_add(d2c_backend *be, d2c_tensor dtable, d2c_tensor dy, d2c_tensor index)
{
    d2c_op_arg args[] = {
        {"dtable", &dtable, "VC", ARG_F32},
        {"dy", &dy, "NC", ARG_F32 | ARG_LEAD},
        {"index", &index, "N", ARG_I64 | ARG_LEAD},
    };
    d2c_op_call call = D2C_OP_CALL(be, "scatter_add", args);

    D2C_TRY(d2c_op_check(&call));
    return D2C_DISPATCH(be, scatter_add, dtable, dy, index);
}

d2c_status
d2c_timestep_embedding(d2c_backend *be, d2c_tensor y, d2c_tensor t)
{
    d2c_op_arg args[] = {{"y", &y, "BW", ARG_FLOAT}, {"t", &t, "B", ARG_F32 | ARG_LEAD}};
    d2c_op_call call = D2C_OP_CALL(be, "timestep_embedding", args);

    D2C_TRY(d2c_op_check(&call));
    D2C_TRY(d2c_op_require(&call, y.dim[1] % 2 == 0, "the width is odd"));
    return D2C_DISPATCH(be, timestep_embedding, y, t);
}

/* What patchify and unpatchify ask for: image [B, C, H, W], tokens [B, T, K]. */
static d2c_status
check_patch(const d2c_op_call *call, int patch, d2c_patch_order order)
{
    int64_t height = d2c_op_size(call, 'H'), width = d2c_op_size(call, 'W');
    int64_t area = (int64_t)patch * patch, token = d2c_op_size(call, 'K');

    D2C_TRY(d2c_op_require(call, order == D2C_PATCH_CHANNEL_FIRST || order == D2C_PATCH_CHANNEL_LAST,
                           "unknown order"));
    D2C_TRY(d2c_op_require(call, patch > 0 && height % patch == 0 && width % patch == 0,
                           "the patch does not divide the image"));
    D2C_TRY(d2c_op_require(call, d2c_op_size(call, 'T') == (height / patch) * (width / patch),
                           "the number of tokens is not that of the patches"));
    return d2c_op_require(call, token % area == 0 && token / area >= d2c_op_size(call, 'C'),
                          "a token is not a patch of at least the image's channels");
}

d2c_status
d2c_patchify(d2c_backend *be, d2c_tensor y, d2c_tensor x, int patch, d2c_patch_order order)
{
    d2c_op_arg args[] = {{"y", &y, "BTK", ARG_FLOAT}, {"x", &x, "BCHW", ARG_FLOAT}};
    d2c_op_call call = D2C_OP_CALL(be, "patchify", args);

    D2C_TRY(d2c_op_check(&call));
    D2C_TRY(check_patch(&call, patch, order));
    return D2C_DISPATCH(be, patchify, y, x, patch, order);
}

d2c_status
d2c_unpatchify(d2c_backend *be, d2c_tensor x, d2c_tensor y, int patch, d2c_patch_order order)
{
    d2c_op_arg args[] = {{"x", &x, "BCHW", ARG_FLOAT}, {"y", &y, "BTK", ARG_FLOAT}};
    d2c_op_call call = D2C_OP_CALL(be, "unpatchify", args);

    D2C_TRY(d2c_op_check(&call));
    D2C_TRY(check_patch(&call, patch, order));
    return D2C_DISPATCH(be, unpatchify, x, y, patch, order);
}

d2c_status
d2c_text_unfold(d2c_backend *be, d2c_tensor y, d2c_tensor x, d2c_tensor mask)
{
    d2c_op_arg args[] = {
        {"y", &y, "BK", ARG_FLOAT},
        {"x", &x, "BLW", ARG_FLOAT},
        {"mask", &mask, "BL", ARG_F32},
    };
    d2c_op_call call = D2C_OP_CALL(be, "text_unfold", args);

    D2C_TRY(d2c_op_check(&call));
    D2C_TRY(d2c_op_require(&call, y.dim[1] == x.dim[1] * x.dim[2], "y is not as wide as a text"));
    return D2C_DISPATCH(be, text_unfold, y, x, mask);
}

d2c_status
d2c_draw_normal(d2c_backend *be, d2c_tensor y, uint64_t seed, d2c_tensor id, d2c_tensor epoch, int purpose)
{
    d2c_op_arg args[] = {
        {"y", &y, "BN", ARG_F32 | ARG_TRAIL},
        {"id", &id, "B", ARG_I64},
        {"epoch", &epoch, "B", ARG_I64},
    };
    d2c_op_call call = D2C_OP_CALL(be, "draw_normal", args);

    D2C_TRY(d2c_op_check(&call));
    D2C_TRY(d2c_op_require(&call, y.dim[1] / 4 < (int64_t)UINT32_MAX, "a row has too many elements"));
    D2C_TRY(d2c_op_require(&call, purpose >= 0 && purpose <= D2C_PURPOSE_TEST, "unknown purpose"));
    return D2C_DISPATCH(be, draw_normal, y, seed, id, epoch, purpose);
}

d2c_status
d2c_drop_labels(d2c_backend *be, d2c_tensor kept, d2c_tensor keep, d2c_tensor label, uint64_t seed,
                d2c_tensor id, d2c_tensor epoch, float probability, int64_t null_label)
{
    d2c_op_arg args[] = {
        {"kept", &kept, "B", ARG_I64 | ARG_OPTIONAL},
        {"keep", &keep, "B", ARG_F32 | ARG_OPTIONAL},
        {"label", &label, "B", ARG_I64},
        {"id", &id, "B", ARG_I64},
        {"epoch", &epoch, "B", ARG_I64},
    };
    d2c_op_call call = D2C_OP_CALL(be, "drop_labels", args);

    D2C_TRY(d2c_op_check(&call));
    D2C_TRY(d2c_op_require(&call, probability >= 0 && probability <= 1, "the probability is not in 0..1"));
    return D2C_DISPATCH(be, drop_labels, kept, keep, label, seed, id, epoch, probability, null_label);
}

/* ---- diffusion and losses ---------------------------------------------------------------------------------- */

d2c_status
d2c_path_coefficients(d2c_backend *be, d2c_tensor coefficient, d2c_tensor t, d2c_path path)
{
    d2c_op_arg args[] = {{"coefficient", &coefficient, "B4", ARG_F32}, {"t", &t, "B", ARG_F32 | ARG_LEAD}};
    d2c_op_call call = D2C_OP_CALL(be, "path_coefficients", args);

    D2C_TRY(d2c_op_check(&call));
    D2C_TRY(d2c_op_require(&call, (unsigned)path <= D2C_PATH_VP, "unknown path"));
    return D2C_DISPATCH(be, path_coefficients, coefficient, t, path);
}

d2c_status
d2c_diffuse(d2c_backend *be, d2c_tensor xt, d2c_tensor target, d2c_tensor x, d2c_tensor noise,
            d2c_tensor coefficient)
{
    d2c_op_arg args[] = {
        {"xt", &xt, "BN", ARG_F32 | ARG_TRAIL},
        {"target", &target, "BN", ARG_F32 | ARG_TRAIL | ARG_OPTIONAL},
        {"x", &x, "BN", ARG_F32 | ARG_TRAIL},
        {"noise", &noise, "BN", ARG_F32 | ARG_TRAIL},
        {"coefficient", &coefficient, "B4", ARG_F32},
    };
    d2c_op_call call = D2C_OP_CALL(be, "diffuse", args);

    D2C_TRY(d2c_op_check(&call));
    return D2C_DISPATCH(be, diffuse, xt, target, x, noise, coefficient);
}

d2c_status
d2c_mse_loss(d2c_backend *be, d2c_tensor loss, d2c_tensor dv, d2c_tensor v, d2c_tensor target,
             const d2c_step_record *record)
{
    d2c_op_arg args[] = {
        {"loss", &loss, "B", ARG_F32},
        {"dv", &dv, "BN", ARG_F32 | ARG_TRAIL | ARG_OPTIONAL},
        {"v", &v, "BN", ARG_F32 | ARG_TRAIL},
        {"target", &target, "BN", ARG_F32 | ARG_TRAIL},
    };
    d2c_op_call call = D2C_OP_CALL(be, "mse_loss", args);

    D2C_TRY(d2c_op_check(&call));
    D2C_TRY(d2c_op_require(&call, dv.data == NULL || record != NULL, "a gradient needs a step record"));
    return D2C_DISPATCH(be, mse_loss, loss, dv, v, target, record);
}

d2c_status
d2c_cosine_loss(d2c_backend *be, d2c_tensor loss, d2c_tensor dz, d2c_tensor z, d2c_tensor q, float weight,
                const d2c_step_record *record)
{
    d2c_op_arg args[] = {
        {"loss", &loss, "B", ARG_F32},
        {"dz", &dz, "BTW", ARG_FLOAT | ARG_OPTIONAL},
        {"z", &z, "BTW", ARG_FLOAT},
        {"q", &q, "BTW", ARG_FLOAT | ARG_F16},
    };
    d2c_op_call call = D2C_OP_CALL(be, "cosine_loss", args);

    D2C_TRY(d2c_op_check(&call));
    D2C_TRY(d2c_op_require(&call, dz.data == NULL || record != NULL, "a gradient needs a step record"));
    return D2C_DISPATCH(be, cosine_loss, loss, dz, z, q, weight, record);
}

d2c_status
d2c_dit_loss(d2c_backend *be, d2c_tensor loss, d2c_tensor dv, d2c_tensor v, d2c_tensor noise, d2c_tensor x,
             d2c_tensor bound, const d2c_step_record *record)
{
    d2c_op_arg args[] = {
        {"loss", &loss, "B", ARG_F32},        {"dv", &dv, "BM", ARG_F32 | ARG_TRAIL | ARG_OPTIONAL},
        {"v", &v, "BM", ARG_F32 | ARG_TRAIL}, {"noise", &noise, "BN", ARG_F32 | ARG_TRAIL},
        {"x", &x, "BN", ARG_F32 | ARG_TRAIL}, {"bound", &bound, "B4", ARG_F32},
    };
    d2c_op_call call = D2C_OP_CALL(be, "dit_loss", args);

    D2C_TRY(d2c_op_check(&call));
    D2C_TRY(d2c_op_require(&call, d2c_op_size(&call, 'M') == 2 * d2c_op_size(&call, 'N'),
                           "v must be twice as wide as the noise"));
    D2C_TRY(d2c_op_require(&call, dv.data == NULL || record != NULL, "a gradient needs a step record"));
    return D2C_DISPATCH(be, dit_loss, loss, dv, v, noise, x, bound, record);
}

d2c_status
d2c_finish_loss(d2c_backend *be, d2c_step_record *record, d2c_tensor loss)
{
    d2c_op_arg args[] = {{"loss", &loss, "N", ARG_F32 | ARG_LEAD}};
    d2c_op_call call = D2C_OP_CALL(be, "finish_loss", args);

    D2C_TRY(d2c_op_check(&call));
    D2C_TRY(d2c_op_require(&call, record != NULL, "there is no step record"));
    return D2C_DISPATCH(be, finish_loss, record, loss);
}

/* ---- optimizer --------------------------------------------------------------------------------------------- */

d2c_status
d2c_gradient_norm(d2c_backend *be, d2c_step_record *record, d2c_tensor grad)
{
    d2c_op_arg args[] = {{"grad", &grad, "N", ARG_F32 | ARG_LEAD}};
    d2c_op_call call = D2C_OP_CALL(be, "gradient_norm", args);

    D2C_TRY(d2c_op_check(&call));
    D2C_TRY(d2c_op_require(&call, record != NULL, "there is no step record"));
    return D2C_DISPATCH(be, gradient_norm, record, grad);
}

d2c_status
d2c_adamw_step(d2c_backend *be, d2c_tensor value, d2c_tensor m, d2c_tensor v, d2c_tensor ema,
               d2c_tensor shadow, d2c_tensor grad, const d2c_adamw *setting, const d2c_step_record *record)
{
    d2c_op_arg args[] = {
        {"value", &value, "N", ARG_F32 | ARG_LEAD},
        {"m", &m, "N", ARG_F32 | ARG_LEAD},
        {"v", &v, "N", ARG_F32 | ARG_LEAD},
        {"ema", &ema, "N", ARG_F32 | ARG_LEAD | ARG_OPTIONAL},
        {"shadow", &shadow, "N", ARG_BF16 | ARG_LEAD | ARG_OPTIONAL},
        {"grad", &grad, "N", ARG_F32 | ARG_LEAD},
    };
    d2c_op_call call = D2C_OP_CALL(be, "adamw_step", args);

    D2C_TRY(d2c_op_check(&call));
    D2C_TRY(d2c_op_require(&call, record != NULL, "there is no step record"));
    return D2C_DISPATCH(be, adamw_step, value, m, v, ema, shadow, grad, setting, record);
}
