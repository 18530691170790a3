/* requests_score.c: what diffusion models compute: scores, raw outputs, hidden tokens. */
#include "engine/requests.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/half.h"
#include "image/image.h"
#include "nn/dit_schedule.h"

/* A model's input in host memory: freed by its user. */
typedef struct planes {
    float *x; /* [channels, height, width] */
    int64_t count;
} planes;

static d2c_status
allocate_planes(planes *p, const d2c_sit_config *config, int channels, d2c_error *err)
{
    p->count = (int64_t)channels * config->height * config->width;
    p->x = malloc((size_t)p->count * sizeof *p->x);
    return p->x != NULL ? D2C_OK : d2c_fail(err, D2C_NO_MEMORY, "out of memory");
}

static d2c_status
check_takes_images(const d2c_sit_config *config, const char *model, d2c_error *err)
{
    if (config->height == config->width)
        return D2C_OK;
    d2c_fail(err, D2C_BAD_MODEL, "model \"%s\" does not take images", model);
    d2c_detail(err, "Its input is %d x %d with %d channels; images are square.", config->width,
               config->height, config->channels);
    return D2C_BAD_MODEL;
}

/* The model's input made of an image, cropped as ADM does: its pixels, or, where it takes no pixels or an autoencoder is
 * named, its latent.  p->x is NULL after a failure. */
static d2c_status
planes_of_image(planes *p, d2c_worker *worker, const d2c_latent_model *model, const char *bytes,
                size_t length, d2c_error *err)
{
    const d2c_sit_config *config = model->config;

    p->x = NULL;
    p->count = (int64_t)config->channels * config->height * config->width;
    D2C_TRY(check_takes_images(config, model->name, err));
    if (d2c_is_picture(config->channels) && model->vae[0] == '\0')
        return d2c_planes_of_image(&p->x, worker, bytes, length, config->channels, config->height, err);
    return d2c_latent_of_image(&p->x, worker, model, bytes, length, err);
}

/* Takes a tensor [channels, height, width] of finite numbers; p->x is NULL after a failure. */
static d2c_status
planes_of_tensor(planes *p, const d2c_sit_config *config, const d2c_sent_planes *sent, d2c_error *err)
{
    d2c_status status;

    p->x = NULL;
    if (sent->ndim != 3) {
        d2c_fail(err, D2C_INVALID_ARGUMENT, "tensor has the wrong shape for this model");
        d2c_detail(err, "It has %u dimensions, the model takes [%d,%d,%d].", sent->ndim, config->channels,
                   config->height, config->width);
        return D2C_INVALID_ARGUMENT;
    }
    if (sent->dim[0] != config->channels || sent->dim[1] != config->height || sent->dim[2] != config->width) {
        d2c_fail(err, D2C_INVALID_ARGUMENT, "tensor has the wrong shape for this model");
        d2c_detail(err, "The shape is [%lld,%lld,%lld], the model takes [%d,%d,%d].", (long long)sent->dim[0],
                   (long long)sent->dim[1], (long long)sent->dim[2], config->channels, config->height,
                   config->width);
        return D2C_INVALID_ARGUMENT;
    }
    D2C_TRY(allocate_planes(p, config, config->channels, err));
    status = d2c_copy_planes(p->x, p->count, sent, err);
    if (status != D2C_OK) {
        free(p->x);
        p->x = NULL;
    }
    return status;
}

static d2c_status
check_timesteps(uint32_t timesteps, d2c_error *err)
{
    if (timesteps >= 1 && timesteps <= D2C_MAX_TIMESTEPS)
        return D2C_OK;
    return d2c_fail(err, D2C_INVALID_ARGUMENT, "number of timesteps must be between 1 and %d",
                    D2C_MAX_TIMESTEPS);
}

/* What a score's request holds behind the image or latent. */
typedef struct score_arguments {
    int64_t label;
    uint32_t timesteps;
    int64_t seed;
    uint32_t curve;
} score_arguments;

static void
read_score_arguments(score_arguments *a, d2c_reader *in)
{
    a->label = d2c_read_i64(in);
    a->timesteps = d2c_read_u32(in);
    a->seed = d2c_read_i64(in);
    a->curve = d2c_read_u32(in);
}

static d2c_status
put_score(d2c_scorer *scorer, const planes *p, const score_arguments *a, d2c_buffer *out, d2c_error *err)
{
    double curve[D2C_MAX_TIMESTEPS], score;
    d2c_status status;
    uint32_t i;

    status = d2c_scorer_run(scorer, &score, curve, p->x, a->label, (uint64_t)a->seed, err);
    if (status == D2C_NOT_FINITE) /* the input is finite, so the weights are not, or overflow */
        d2c_hint(
            err,
            "The model's weights hold NaN or overflow: use an earlier checkpoint, or set d2c.precision to "
            "f32 if it is bf16 or fp8.");
    if (status != D2C_OK)
        return status;
    d2c_put_u32(out, a->curve ? a->timesteps : 1);
    if (!a->curve)
        d2c_put_f64(out, score);
    for (i = 0; a->curve && i < a->timesteps; i++)
        d2c_put_f64(out, curve[i]);
    return D2C_OK;
}

/* The scorer of a model that is asked without a prompt. */
static d2c_status
class_scorer(d2c_worker *worker, d2c_scorer **scorer, const d2c_sit_config **config, const char *model,
             int timesteps, d2c_error *err)
{
    D2C_TRY(d2c_worker_scorer(worker, scorer, config, model, timesteps, err));
    if ((*config)->text_tokens == 0)
        return D2C_OK;
    d2c_fail(err, D2C_BAD_MODEL, "model \"%s\" needs a prompt", model);
    d2c_detail(err, "It has a text condition beside its classes.");
    d2c_hint(
        err,
        "Use d2c_difficulty_prompt, or the plain model that d2c train writes when a class has one text.");
    return D2C_BAD_MODEL;
}

d2c_status
d2c_request_difficulty(d2c_worker *worker, d2c_reader *in, d2c_buffer *out, d2c_error *err)
{
    char model[D2C_MODEL_NAME_SIZE], vae[D2C_MODEL_NAME_SIZE];
    d2c_latent_model takes = {.name = model, .vae = vae};
    score_arguments a;
    const char *image;
    d2c_scorer *scorer;
    d2c_status status;
    size_t length;
    planes p;

    D2C_TRY(d2c_read_model_name(model, in, err));
    image = d2c_read_bytes(in, &length);
    read_score_arguments(&a, in);
    D2C_TRY(d2c_read_model_name(vae, in, err));
    D2C_TRY(d2c_read_finish(in, err));
    D2C_TRY(check_timesteps(a.timesteps, err));
    D2C_TRY(class_scorer(worker, &scorer, &takes.config, model, (int)a.timesteps, err));
    status = planes_of_image(&p, worker, &takes, image, length, err);
    if (status == D2C_OK)
        status = put_score(scorer, &p, &a, out, err);
    free(p.x);
    return status;
}

d2c_status
d2c_request_difficulty_latent(d2c_worker *worker, d2c_reader *in, d2c_buffer *out, d2c_error *err)
{
    const d2c_sit_config *config;
    d2c_sent_planes tensor;
    score_arguments a;
    char model[D2C_MODEL_NAME_SIZE];
    d2c_scorer *scorer;
    d2c_status status;
    planes p;

    D2C_TRY(d2c_read_model_name(model, in, err));
    D2C_TRY(d2c_read_planes(&tensor, in, err));
    read_score_arguments(&a, in);
    D2C_TRY(d2c_read_finish(in, err));
    D2C_TRY(check_timesteps(a.timesteps, err));
    D2C_TRY(class_scorer(worker, &scorer, &config, model, (int)a.timesteps, err));
    D2C_TRY(planes_of_tensor(&p, config, &tensor, err));
    status = put_score(scorer, &p, &a, out, err);
    free(p.x);
    return status;
}

/* ---- with a prompt --------------------------------------------------------------------------------------------------- */

/* The text encoder of a model: the one that is asked for, or the one that the model's description names. */
static d2c_status
choose_text_model(char name[D2C_MODEL_NAME_SIZE], d2c_worker *worker, const char *model, d2c_error *err)
{
    d2c_loaded *denoiser;

    if (name[0] != '\0')
        return D2C_OK;
    D2C_TRY(d2c_worker_model(worker, &denoiser, model, D2C_ROLE_DENOISER, err));
    snprintf(name, D2C_MODEL_NAME_SIZE, "%s", d2c_loaded_model(denoiser)->text_model);
    d2c_loaded_release(d2c_worker_pool(worker)->registry, denoiser, d2c_worker_backend(worker));
    if (name[0] != '\0')
        return D2C_OK;
    d2c_fail(err, D2C_BAD_MODEL, "model \"%s\" does not say which text encoder it was trained with", model);
    d2c_hint(err, "Give text_model, or name it in \"%s.json\": {\"text_model\": \"NAME\"}.", model);
    return D2C_BAD_MODEL;
}

static d2c_status
check_text_fits(const d2c_model *encoder, const d2c_sit_config *config, const char *model, d2c_error *err)
{
    int least = encoder->info.least_tokens, most = encoder->info.tokens;

    if (encoder->info.embedding == config->text_width && config->text_tokens >= least &&
        config->text_tokens <= most)
        return D2C_OK;
    d2c_fail(err, D2C_BAD_MODEL, "text encoder \"%s\" does not fit model \"%s\"", encoder->info.name, model);
    d2c_detail(err, "It makes %d to %d tokens of %d elements; the model takes %d of %d.", least, most,
               encoder->info.embedding, config->text_tokens, config->text_width);
    return D2C_BAD_MODEL;
}

/* Gives the scorer the prompt, embedded as the model's training had its texts. */
static d2c_status
set_prompt(d2c_scorer *scorer, d2c_worker *worker, const d2c_model *encoder, const d2c_sit_config *config,
           const char *model, const char *prompt, d2c_error *err)
{
    float *embedding, *mask;
    d2c_status status;

    D2C_TRY(check_text_fits(encoder, config, model, err));
    D2C_TRY(d2c_embed_prompt(&embedding, &mask, worker, encoder, prompt, config->text_tokens, err));
    status = d2c_scorer_set_text(scorer, embedding, mask, err);
    free(embedding);
    free(mask);
    return status;
}

/* What a score with a prompt is asked of. */
typedef struct prompt_arguments {
    char model[D2C_MODEL_NAME_SIZE], vae[D2C_MODEL_NAME_SIZE], text_model[D2C_MODEL_NAME_SIZE];
    const char *image;
    size_t length;
    score_arguments score;
    char *prompt; /* malloc'd */
} prompt_arguments;

static d2c_status
read_prompt_arguments(prompt_arguments *a, d2c_reader *in, d2c_error *err)
{
    D2C_TRY(d2c_read_model_name(a->model, in, err));
    a->image = d2c_read_bytes(in, &a->length);
    read_score_arguments(&a->score, in);
    D2C_TRY(d2c_read_model_name(a->vae, in, err));
    D2C_TRY(d2c_read_text(&a->prompt, in, "prompt", err));
    D2C_TRY(d2c_read_model_name(a->text_model, in, err));
    D2C_TRY(d2c_read_finish(in, err));
    return check_timesteps(a->score.timesteps, err);
}

/* The scorer for the call, its prompt set. */
static d2c_status
prompt_scorer(d2c_scorer **scorer, const d2c_sit_config **config, d2c_worker *worker, prompt_arguments *a,
              d2c_error *err)
{
    d2c_loaded *encoder;
    d2c_status status;

    D2C_TRY(d2c_worker_scorer(worker, scorer, config, a->model, (int)a->score.timesteps, err));
    if ((*config)->text_tokens == 0) {
        d2c_fail(err, D2C_BAD_MODEL, "model \"%s\" takes no prompt", a->model);
        d2c_hint(err, "Use d2c_difficulty, which takes a label alone.");
        return D2C_BAD_MODEL;
    }
    D2C_TRY(choose_text_model(a->text_model, worker, a->model, err));
    D2C_TRY(d2c_worker_model(worker, &encoder, a->text_model, D2C_ROLE_TEXT, err));
    status = set_prompt(*scorer, worker, d2c_loaded_model(encoder), *config, a->model, a->prompt, err);
    d2c_loaded_release(d2c_worker_pool(worker)->registry, encoder, d2c_worker_backend(worker));
    return status;
}

static d2c_status
answer_prompt(d2c_worker *worker, prompt_arguments *a, d2c_buffer *out, d2c_error *err)
{
    d2c_latent_model takes = {.name = a->model, .vae = a->vae};
    d2c_scorer *scorer;
    d2c_status status;
    planes p;

    D2C_TRY(prompt_scorer(&scorer, &takes.config, worker, a, err));
    status = planes_of_image(&p, worker, &takes, a->image, a->length, err);
    if (status == D2C_OK)
        status = put_score(scorer, &p, &a->score, out, err);
    free(p.x);
    return status;
}

d2c_status
d2c_request_difficulty_prompt(d2c_worker *worker, d2c_reader *in, d2c_buffer *out, d2c_error *err)
{
    prompt_arguments a = {.prompt = NULL};
    d2c_status status = read_prompt_arguments(&a, in, err);

    if (status == D2C_OK)
        status = answer_prompt(worker, &a, out, err);
    free(a.prompt);
    return status;
}

/* ---- raw outputs ---------------------------------------------------------------------------------------------------- */

/* Whether t is a time of the model's own. */
static d2c_status
check_time(const d2c_sit_config *config, double t, d2c_error *err)
{
    static const struct {
        double last;
        const char *at_first, *at_last;
    } times[] = {
        [D2C_SIT_KIND_SIT] = {1, "noise", "data"},
        [D2C_SIT_KIND_DIT] = {D2C_DIT_STEPS - 1, "data", "noise"},
        [D2C_SIT_KIND_REPA] = {1, "data", "noise"},
    };

    if (t >= 0 && t <= times[config->kind].last)
        return D2C_OK;
    return d2c_fail(err, D2C_INVALID_ARGUMENT, "time must be between 0 (%s) and %g (%s)",
                    times[config->kind].at_first, times[config->kind].last, times[config->kind].at_last);
}

d2c_status
d2c_request_denoise(d2c_worker *worker, d2c_reader *in, d2c_buffer *out, d2c_error *err)
{
    const d2c_sit_config *config;
    char model[D2C_MODEL_NAME_SIZE];
    d2c_sent_planes tensor;
    d2c_scorer *scorer;
    d2c_status status;
    int64_t label;
    planes p, v = {NULL, 0};
    double t;

    D2C_TRY(d2c_read_model_name(model, in, err));
    D2C_TRY(d2c_read_planes(&tensor, in, err));
    t = d2c_read_f64(in);
    label = d2c_read_i64(in);
    D2C_TRY(d2c_read_finish(in, err));
    D2C_TRY(class_scorer(worker, &scorer, &config, model, 1, err));
    D2C_TRY(planes_of_tensor(&p, config, &tensor, err));
    status = check_time(config, t, err);
    if (status == D2C_OK)
        status = allocate_planes(&v, config, d2c_sit_outputs(config), err);
    if (status == D2C_OK)
        status = d2c_scorer_denoise(scorer, v.x, p.x, t, label, err);
    if (status == D2C_OK) {
        int64_t dims[] = {d2c_sit_outputs(config), config->height, config->width};

        d2c_put_tensor(out, D2C_F32, 3, dims, v.x, (size_t)v.count * sizeof *v.x);
    }
    free(p.x);
    free(v.x);
    return status;
}

static void
put_single(d2c_buffer *out, const float *values, int64_t rows, int64_t width)
{
    int64_t dims[] = {rows, width};

    d2c_put_tensor(out, D2C_F32, 2, dims, values, (size_t)(rows * width) * sizeof *values);
}

/* Writes [rows, width] floats as an f16 tensor.  Rounded here: a device would have to be waited for again. */
static d2c_status
put_half(d2c_buffer *out, const float *values, int64_t rows, int64_t width, d2c_error *err)
{
    size_t count = (size_t)(rows * width), i;
    int64_t dims[] = {rows, width};
    uint16_t *half = malloc(count * sizeof *half);

    if (half == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    for (i = 0; i < count; i++)
        half[i] = d2c_half_from_float(values[i]);
    d2c_put_tensor(out, D2C_F16, 2, dims, half, count * sizeof *half);
    free(half);
    return D2C_OK;
}

static d2c_status
check_tokens(uint32_t *tokens, int most, d2c_error *err)
{
    if (*tokens == 0)
        *tokens = (uint32_t)most;
    if (*tokens <= (uint32_t)most)
        return D2C_OK;
    d2c_fail(err, D2C_INVALID_ARGUMENT, "number of tokens must be between 1 and %d", most);
    d2c_detail(err, "The model makes %d token%s of an image.", most, most == 1 ? "" : "s");
    return D2C_INVALID_ARGUMENT;
}

/* What a visual embedding's request holds. */
typedef struct visual_arguments {
    char model[D2C_MODEL_NAME_SIZE];
    const char *image;
    size_t length;
    uint32_t tokens;
} visual_arguments;

/* The tokens of a diffusion model: its own representation of the image. */
static d2c_status
embed_by_denoiser(float *embedding, d2c_worker *worker, const visual_arguments *a, d2c_error *err)
{
    d2c_latent_model takes = {.name = a->model, .vae = ""};
    d2c_scorer *scorer;
    d2c_status status;
    planes p;

    D2C_TRY(class_scorer(worker, &scorer, &takes.config, a->model, 1, err));
    status = planes_of_image(&p, worker, &takes, a->image, a->length, err);
    if (status == D2C_OK)
        status = d2c_scorer_tokens(scorer, embedding, p.x, (int)a->tokens, 0, err);
    free(p.x);
    return status;
}

/* The tokens of a network that is there for it. */
static d2c_status
embed_by_encoder(float *embedding, d2c_worker *worker, const d2c_model *model, const visual_arguments *a,
                 d2c_error *err)
{
    d2c_image image = {0};
    d2c_status status;

    D2C_TRY(d2c_image_decode(&image, a->image, a->length, 3, d2c_worker_pool(worker)->max_image_pixels, err));
    status = model->family->embed_image(model->network, d2c_worker_backend(worker),
                                        d2c_worker_scratch(worker), embedding, &image, (int)a->tokens, err);
    d2c_image_free(&image);
    return status;
}

static d2c_status
put_visual_embedding(d2c_worker *worker, const d2c_model *model, visual_arguments *a, d2c_buffer *out,
                     d2c_error *err)
{
    int width = model->info.embedding;
    d2c_status status;
    float *embedding;

    D2C_TRY(check_tokens(&a->tokens, model->info.tokens, err));
    embedding = malloc((size_t)a->tokens * (size_t)width * sizeof *embedding);
    if (embedding == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    status = model->info.role == D2C_ROLE_IMAGE ? embed_by_encoder(embedding, worker, model, a, err)
                                                : embed_by_denoiser(embedding, worker, a, err);
    if (status == D2C_OK && model->family->embeds_f32)
        put_single(out, embedding, a->tokens, width);
    else if (status == D2C_OK)
        status = put_half(out, embedding, a->tokens, width, err);
    free(embedding);
    return status;
}

static d2c_status
check_embeds_images(const d2c_model *model, d2c_error *err)
{
    if (model->info.role == D2C_ROLE_IMAGE || model->info.role == D2C_ROLE_DENOISER)
        return D2C_OK;
    d2c_fail(err, D2C_BAD_MODEL, "model \"%s\" is of the wrong kind", model->info.name);
    d2c_detail(err, "It is of kind \"%s\"; this function needs an image encoder or a diffusion model.",
               model->info.kind);
    d2c_hint(err, "SELECT name, kind FROM d2c_models() lists the models.");
    return D2C_BAD_MODEL;
}

d2c_status
d2c_request_visual_embedding(d2c_worker *worker, d2c_reader *in, d2c_buffer *out, d2c_error *err)
{
    visual_arguments a;
    d2c_loaded *loaded;
    d2c_status status;

    D2C_TRY(d2c_read_model_name(a.model, in, err));
    a.image = d2c_read_bytes(in, &a.length);
    a.tokens = d2c_read_u32(in);
    D2C_TRY(d2c_read_finish(in, err));
    D2C_TRY(d2c_worker_model(worker, &loaded, a.model, D2C_ROLE_ANY, err));
    status = check_embeds_images(d2c_loaded_model(loaded), err);
    if (status == D2C_OK)
        status = put_visual_embedding(worker, d2c_loaded_model(loaded), &a, out, err);
    d2c_loaded_release(d2c_worker_pool(worker)->registry, loaded, d2c_worker_backend(worker));
    return status;
}
