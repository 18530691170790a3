/*
 * tuning.c: which algorithm multiplies a shape: measured, kept as text, and taken over from text.
 *
 * The text has a line that says library and device, a line a shape with the shape in words and the algorithm in hex (or
 * "apart" where an activation keeps its own kernel), and a last line with a digest of those before it: the library is
 * never given an algorithm that it has not written.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plan.h"

#define REPEATS 5

/* A later proposal must be faster than an earlier one by more than clocks are off. */
#define FASTER 0.99f

#define HEX_LENGTH (2 * sizeof(cublasLtMatmulAlgo_t))
#define END_LINE "end "
#define END_LENGTH (sizeof END_LINE - 1 + 16 + 1)

/* ---- the choices so far -------------------------------------------------------------------------------------------- */

void
d2c_choices_free(d2c_products *products)
{
    int i;

    for (i = 0; i < products->choices; i++)
        free(products->choice[i].words);
    free(products->choice);
    products->choice = NULL;
    products->choices = products->choice_room = 0;
}

static d2c_choice *
find_choice(const d2c_products *products, const char *words)
{
    int i;

    for (i = 0; i < products->choices; i++)
        if (strcmp(products->choice[i].words, words) == 0)
            return &products->choice[i];
    return NULL;
}

static d2c_status
make_room(d2c_cuda *cuda)
{
    d2c_products *products = cuda->products;
    int room = products->choice_room > 0 ? 2 * products->choice_room : 64;
    d2c_choice *grown;

    if (products->choices < products->choice_room)
        return D2C_OK;
    grown = realloc(products->choice, (size_t)room * sizeof *grown);
    if (grown == NULL)
        return d2c_fail(&cuda->base.error, D2C_NO_MEMORY, "could not keep the choice of an algorithm");
    products->choice = grown;
    products->choice_room = room;
    return D2C_OK;
}

/* Sets the choice of these words, which are taken at their end where they are new. */
static d2c_status
keep_choice(d2c_cuda *cuda, const char *words, d2c_plan_way way, const cublasLtMatmulAlgo_t *algo)
{
    d2c_products *products = cuda->products;
    d2c_choice *choice = find_choice(products, words);

    if (choice == NULL) {
        D2C_TRY(make_room(cuda));
        choice = &products->choice[products->choices];
        choice->words = strdup(words);
        if (choice->words == NULL)
            return d2c_fail(&cuda->base.error, D2C_NO_MEMORY, "could not keep the choice of an algorithm");
        products->choices++;
    }
    choice->way = way;
    choice->algo = *algo;
    return D2C_OK;
}

/* ---- measuring ----------------------------------------------------------------------------------------------------- */

static d2c_status
open_events(d2c_cuda *cuda)
{
    d2c_products *products = cuda->products;

    if (products->begin == NULL)
        D2C_TRY(d2c_cuda_check(cuda, cudaEventCreate(&products->begin), "make an event"));
    if (products->end == NULL)
        D2C_TRY(d2c_cuda_check(cuda, cudaEventCreate(&products->end), "make an event"));
    return D2C_OK;
}

static d2c_status
time_once(d2c_cuda *cuda, d2c_plan_call call, float *milliseconds)
{
    d2c_products *products = cuda->products;

    D2C_TRY(d2c_cuda_check(cuda, cudaEventRecord(products->begin, cuda->stream), "record an event"));
    D2C_TRY(call.run(call.argument));
    D2C_TRY(d2c_cuda_check(cuda, cudaEventRecord(products->end, cuda->stream), "record an event"));
    D2C_TRY(d2c_cuda_check(cuda, cudaEventSynchronize(products->end), "reach an event"));
    return d2c_cuda_check(cuda, cudaEventElapsedTime(milliseconds, products->begin, products->end),
                          "measure a time");
}

/* The shortest time of several, for whatever disturbs a time makes it longer. */
static d2c_status
time_call(d2c_cuda *cuda, d2c_plan_call call, float *best)
{
    float milliseconds;
    int i;

    D2C_TRY(open_events(cuda));
    D2C_TRY(call.run(call.argument));
    for (i = 0; i < REPEATS; i++) {
        D2C_TRY(time_once(cuda, call, &milliseconds));
        if (i == 0 || milliseconds < *best)
            *best = milliseconds;
    }
    return D2C_OK;
}

typedef struct trial {
    d2c_cuda *cuda;
    d2c_plan *plan;
    d2c_matmul_data at;
    const cublasLtMatmulAlgo_t *algo;
} trial;

static d2c_status
run_trial(void *argument)
{
    const trial *t = argument;

    return d2c_plan_check(t->cuda, d2c_plan_launch(t->cuda, t->plan, &t->at, t->algo), &t->plan->key);
}

/* The fastest proposal and its time.  *best is -1 when none of them runs. */
static d2c_status
time_proposals(const d2c_proposals *proposals, trial *t, int *best, float *best_time)
{
    d2c_plan_call call = {run_trial, t};
    d2c_status status;
    float milliseconds;
    int i;

    *best = -1;
    for (i = 0; i < proposals->count; i++) {
        t->algo = &proposals->algo[i];
        D2C_TRY(d2c_plan_workspace(t->cuda, proposals->workspace[i]));
        status = time_call(t->cuda, call, &milliseconds);
        if (status == D2C_UNSUPPORTED || status == D2C_INTERNAL ||
            (status == D2C_DEVICE && !t->cuda->base.lost))
            continue;
        D2C_TRY(status);
        if (*best < 0 || milliseconds < FASTER * *best_time) {
            *best = i;
            *best_time = milliseconds;
        }
    }
    return D2C_OK;
}

/* Memory like c's, for products that would add to it again and again; NULL when there is not enough. */
static d2c_status
open_stand_in(d2c_cuda *cuda, void **block, const d2c_matmul *p)
{
    size_t bytes =
        ((size_t)(p->m - 1) * (size_t)p->c_stride + (size_t)p->n) * d2c_dtype_size((d2c_dtype)p->result_type);
    cudaError_t error = cudaMalloc(block, bytes);

    if (error == cudaErrorMemoryAllocation) {
        cudaGetLastError();
        *block = NULL;
        return D2C_OK;
    }
    D2C_TRY(d2c_cuda_check(cuda, error, "allocate memory"));
    return d2c_cuda_check(cuda, cudaMemsetAsync(*block, 0, bytes, cuda->stream), "set memory");
}

/* The first proposal that does not divide its sums, as without tuning. */
static int
first_whole(const d2c_proposals *proposals)
{
    int i;

    for (i = 0; i < proposals->count; i++)
        if (!proposals->split[i])
            return i;
    return 0;
}

static d2c_status
measure_added(d2c_cuda *cuda, const d2c_proposals *proposals, trial *t, int *best, float *best_time)
{
    void *block = NULL;
    d2c_status status = open_stand_in(cuda, &block, &t->plan->key.product);

    *best = first_whole(proposals);
    if (status == D2C_OK && block != NULL) {
        t->at.c = block;
        status = time_proposals(proposals, t, best, best_time);
    }
    cudaFree(block);
    D2C_TRY(status);
    return *best >= 0 ? d2c_plan_workspace(cuda, proposals->workspace[*best]) : D2C_OK;
}

/* Sets the plan's way and algorithm to the fastest. */
static d2c_status
measure(d2c_cuda *cuda, d2c_plan *plan, const d2c_matmul_data *at, const d2c_proposals *proposals,
        d2c_plan_call apart)
{
    trial t = {cuda, plan, *at, NULL};
    float fused_time = 0, apart_time;
    int best;

    if (plan->key.product.accumulate)
        D2C_TRY(measure_added(cuda, proposals, &t, &best, &fused_time));
    else
        D2C_TRY(time_proposals(proposals, &t, &best, &fused_time));
    plan->way = D2C_BY_LIBRARY;
    if (best >= 0)
        plan->algo = proposals->algo[best];
    if (apart.run == NULL) {
        if (best < 0)
            plan->way = D2C_BY_OWN_KERNEL;
        return D2C_OK;
    }
    D2C_TRY(time_call(cuda, apart, &apart_time));
    if (best < 0 || apart_time < fused_time)
        plan->way = D2C_APART;
    return D2C_OK;
}

/* Whether the choice is one that this plan can run; `needed` bytes of the workspace. */
static int
take_over(const d2c_products *products, d2c_plan *plan, size_t *needed, const d2c_choice *choice,
          int may_be_apart)
{
    cublasLtMatmulHeuristicResult_t result;

    *needed = 0;
    plan->way = choice->way;
    plan->algo = choice->algo;
    if (plan->way == D2C_APART)
        return may_be_apart;
    if (cublasLtMatmulAlgoCheck(products->handle, plan->operation, plan->a, plan->b, plan->c, plan->c,
                                &plan->algo, &result) != CUBLAS_STATUS_SUCCESS)
        return 0;
    *needed = result.workspaceSize;
    return *needed <= products->workspace_bytes;
}

d2c_status
d2c_plan_tune(d2c_cuda *cuda, d2c_plan *plan, const d2c_matmul_data *at, const d2c_proposals *proposals,
              d2c_plan_call apart)
{
    const d2c_choice *choice;
    char words[D2C_PLAN_WORDS];
    size_t needed;

    d2c_plan_words(words, sizeof words, &plan->key);
    choice = find_choice(cuda->products, words);
    if (choice != NULL && take_over(cuda->products, plan, &needed, choice, apart.run != NULL))
        return d2c_plan_workspace(cuda, needed);
    D2C_TRY(measure(cuda, plan, at, proposals, apart));
    return plan->way == D2C_BY_OWN_KERNEL ? D2C_OK : keep_choice(cuda, words, plan->way, &plan->algo);
}

/* ---- text ---------------------------------------------------------------------------------------------------------- */

static const char hex_digits[] = "0123456789abcdef";

static void
write_hex(char *text, const cublasLtMatmulAlgo_t *algo)
{
    const unsigned char *p = (const unsigned char *)algo;
    size_t i;

    for (i = 0; i < sizeof *algo; i++) {
        text[2 * i] = hex_digits[p[i] / 16];
        text[2 * i + 1] = hex_digits[p[i] % 16];
    }
    text[HEX_LENGTH] = '\0';
}

static int
read_hex(cublasLtMatmulAlgo_t *algo, const char *text)
{
    unsigned char *p = (unsigned char *)algo;
    size_t i;

    memset(algo, 0, sizeof *algo);
    for (i = 0; i < HEX_LENGTH; i++) {
        const char *digit = strchr(hex_digits, text[i]);

        if (text[i] == '\0' || digit == NULL)
            return 0;
        p[i / 2] = (unsigned char)(p[i / 2] * 16 + (digit - hex_digits));
    }
    return 1;
}

d2c_status
d2c_cuda_tuned(d2c_backend *be, char **choices)
{
    d2c_cuda *cuda = d2c_cuda_enter(be);
    const d2c_products *products = cuda->products;
    size_t room = sizeof be->arithmetic + 1 + (size_t)products->choices * (D2C_PLAN_WORDS + HEX_LENGTH + 4) +
                  END_LENGTH + 1;
    size_t used = 0;
    char hex[HEX_LENGTH + 1];
    int i;

    *choices = calloc(1, room);
    if (*choices == NULL)
        return d2c_fail(&be->error, D2C_NO_MEMORY, "out of memory");
    if (products->choices == 0)
        return D2C_OK;
    used += (size_t)snprintf(*choices, room, "%s\n", be->arithmetic);
    for (i = 0; i < products->choices; i++) {
        write_hex(hex, &products->choice[i].algo);
        used += (size_t)snprintf(*choices + used, room - used, "%s: %s\n", products->choice[i].words,
                                 products->choice[i].way == D2C_APART ? "apart" : hex);
    }
    snprintf(*choices + used, room - used, END_LINE "%016llx\n",
             (unsigned long long)d2c_plan_hash(*choices, used));
    return D2C_OK;
}

/* The length of the text in front of its last line; 0 when that does not fit to it. */
static size_t
checked_length(const char *text)
{
    size_t length = strlen(text);
    char end[END_LENGTH + 1];

    if (length <= END_LENGTH)
        return 0;
    length -= END_LENGTH;
    snprintf(end, sizeof end, END_LINE "%016llx\n", (unsigned long long)d2c_plan_hash(text, length));
    return strcmp(text + length, end) == 0 ? length : 0;
}

/* A line's words and choice. */
static int
read_line(char *words, d2c_choice *choice, const char *line, size_t length)
{
    const char *colon = memchr(line, ':', length);
    size_t before = colon != NULL ? (size_t)(colon - line) : 0, after = length - before;

    if (before == 0 || before >= D2C_PLAN_WORDS || after < 2 || colon[1] != ' ')
        return 0;
    memcpy(words, line, before);
    words[before] = '\0';
    after -= 2;
    memset(choice, 0, sizeof *choice);
    choice->way = D2C_BY_LIBRARY;
    if (after == 5 && memcmp(colon + 2, "apart", 5) == 0)
        choice->way = D2C_APART;
    else if (after != HEX_LENGTH || !read_hex(&choice->algo, colon + 2))
        return 0;
    return 1;
}

/* Reads the lines from `text` to `end`; keep: their choices are kept, and take the place of earlier ones. */
static d2c_status
read_lines(d2c_cuda *cuda, const char *text, const char *end, int keep)
{
    char words[D2C_PLAN_WORDS];
    d2c_choice choice;
    int line;

    for (line = 2; text < end; line++) {
        const char *stop = memchr(text, '\n', (size_t)(end - text));

        if (stop == NULL || !read_line(words, &choice, text, (size_t)(stop - text))) {
            d2c_fail(&cuda->base.error, D2C_BAD_DATA, "the kept choices of algorithms are malformed");
            d2c_detail(&cuda->base.error, "Line %d is neither a shape nor the end.", line);
            return D2C_BAD_DATA;
        }
        if (keep)
            D2C_TRY(keep_choice(cuda, words, choice.way, &choice.algo));
        text = stop + 1;
    }
    return D2C_OK;
}

/* Plans that were made by other choices follow those that there are now. */
static d2c_status
follow_choices(d2c_cuda *cuda)
{
    char words[D2C_PLAN_WORDS];
    size_t needed;
    int i;

    for (i = 0; i < D2C_PLAN_SLOTS; i++)
        for (d2c_plan *plan = cuda->products->slot[i]; plan != NULL; plan = plan->next) {
            d2c_plan before = *plan;
            const d2c_choice *choice;

            d2c_plan_words(words, sizeof words, &plan->key);
            choice = find_choice(cuda->products, words);
            if (choice == NULL)
                continue;
            if (take_over(cuda->products, plan, &needed, choice,
                          plan->key.product.epilogue != D2C_EPILOGUE_NONE))
                D2C_TRY(d2c_plan_workspace(cuda, needed));
            else
                *plan = before;
        }
    return D2C_OK;
}

void
d2c_cuda_tune(d2c_backend *be, int on)
{
    d2c_cuda_enter(be)->products->tuning = on;
}

d2c_status
d2c_cuda_choose(d2c_backend *be, const char *choices)
{
    d2c_cuda *cuda = d2c_cuda_enter(be);
    const char *end, *first;

    if (choices == NULL || choices[0] == '\0')
        return D2C_OK;
    end = choices + checked_length(choices);
    first = memchr(choices, '\n', (size_t)(end - choices));
    if (first == NULL)
        return d2c_fail(&be->error, D2C_BAD_DATA, "the kept choices of algorithms are damaged");
    D2C_TRY(read_lines(cuda, first + 1, end, 0));
    if ((size_t)(first - choices) != strlen(be->arithmetic) ||
        memcmp(choices, be->arithmetic, strlen(be->arithmetic)) != 0)
        return D2C_OK;
    D2C_TRY(read_lines(cuda, first + 1, end, 1));
    return follow_choices(cuda);
}
