/* product.c: the table of plans, their descriptors, and running them (product.h). */
#include "product.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plan.h"

/* The workspace that proposals may use: NVIDIA recommends at least 32 MiB on Hopper, and its own library takes 64.  It is
 * the same in every process, for the proposals depend on it. */
#define WORKSPACE_BYTES ((size_t)32 << 20)
#define WORKSPACE_BYTES_90 ((size_t)64 << 20)

/* Parameters start at multiples of 64 elements, so that no more can be relied on. */
#define MOST_ALIGNMENT 128

/* Before this one a bias was added wrongly to a single row or column (NVIDIA's bug 5104822). */
#define BIAS_MENDED 120804

/* The library loads a kernel when it is first called, and does not say that it was memory that it lacked. */
#define LOADING_BYTES ((size_t)64 << 20)

/* The fused GELU is known to win on these, and to lose by a fifth on 12.0. */
#define FUSED_FIRST 80
#define FUSED_LAST 90

/* ---- words --------------------------------------------------------------------------------------------------------- */

static const char *
type_name(int32_t type)
{
    return type == D2C_F8 ? "f8" : type == D2C_BF16 ? "bf16" : "f32";
}

static const char *
epilogue_name(const d2c_matmul *p)
{
    if (p->epilogue == D2C_EPILOGUE_GELU_GRADIENT)
        return " gelu-gradient";
    return p->epilogue == D2C_EPILOGUE_GELU ? " gelu" : "";
}

void
d2c_plan_words(char *text, size_t size, const d2c_plan_key *key)
{
    const d2c_matmul *p = &key->product;

    snprintf(text, size, "%lldx%lldx%lld %s %s a %lld%s b %lld%s c %lld%s%s%s aux %lld align %d %d %d %d %d",
             (long long)p->m, (long long)p->n, (long long)p->k, type_name(p->operand_type),
             type_name(p->result_type), (long long)p->a_stride, p->a_turned ? " turned" : "",
             (long long)p->b_stride, p->b_turned ? " turned" : "", (long long)p->c_stride,
             p->accumulate ? " added" : "", p->has_bias ? " bias" : "", epilogue_name(p),
             (long long)p->aux_stride, key->align[0], key->align[1], key->align[2], key->align[3],
             key->align[4]);
}

/* ---- failures ------------------------------------------------------------------------------------------------------ */

static d2c_status
status_of(cublasStatus_t status)
{
    switch (status) {
    case CUBLAS_STATUS_SUCCESS:
        return D2C_OK;
    case CUBLAS_STATUS_ALLOC_FAILED:
        return D2C_NO_MEMORY;
    case CUBLAS_STATUS_NOT_SUPPORTED:
    case CUBLAS_STATUS_ARCH_MISMATCH:
        return D2C_UNSUPPORTED;
    case CUBLAS_STATUS_INVALID_VALUE:
        return D2C_INTERNAL;
    default:
        return D2C_DEVICE;
    }
}

/* The failure of a kernel before this call: the library meets it as one of its own. */
static cudaError_t
earlier_failure(const d2c_cuda *cuda)
{
    cudaError_t error = cudaPeekAtLastError();

    if (error == cudaSuccess && !cuda->capturing)
        error = cudaStreamQuery(cuda->stream);
    if (error != cudaErrorNotReady)
        return error;
    cudaGetLastError();
    return cudaSuccess;
}

static int
is_memory_short(void)
{
    size_t available = 0, total = 0;

    return cudaMemGetInfo(&available, &total) == cudaSuccess && available < LOADING_BYTES;
}

d2c_status
d2c_plan_check(d2c_cuda *cuda, cublasStatus_t status, const d2c_plan_key *key)
{
    char words[D2C_PLAN_WORDS] = "";

    if (status == CUBLAS_STATUS_SUCCESS)
        return D2C_OK;
    if (status_of(status) == D2C_DEVICE)
        D2C_TRY(d2c_cuda_check(cuda, earlier_failure(cuda), "multiply matrices"));
    if (status_of(status) == D2C_DEVICE && is_memory_short())
        status = CUBLAS_STATUS_ALLOC_FAILED;
    d2c_fail(&cuda->base.error, status_of(status), "device cuda:%d could not multiply: cuBLASLt says %s",
             cuda->device, cublasLtGetStatusName(status));
    if (key != NULL) {
        d2c_plan_words(words, sizeof words, key);
        d2c_detail(&cuda->base.error, "The product is %s.", words);
    }
    return status_of(status);
}

/* ---- opening ------------------------------------------------------------------------------------------------------- */

/* The library's part is kept whole; a device's name may be cut. */
void
d2c_products_describe(char *text, size_t size, const char *device_name)
{
    size_t version = cublasLtGetVersion();
    char library[48];
    int room;

    snprintf(library, sizeof library, ", cuBLASLt %zu.%zu.%zu", version / 10000, version / 100 % 100,
             version % 100);
    room = (int)size - 1 - (int)strlen(library);
    snprintf(text, size, "%.*s%s", room > 0 ? room : 0, device_name, library);
}

d2c_status
d2c_products_open(d2c_products **products, d2c_cuda *cuda, d2c_error *err)
{
    d2c_products *made = calloc(1, sizeof *made);
    cublasStatus_t status;

    *products = NULL;
    if (made == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "could not allocate the table of matrix products");
    made->workspace_bytes = cuda->capability >= 90 ? WORKSPACE_BYTES_90 : WORKSPACE_BYTES;
    status = cublasLtCreate(&made->handle);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = cublasLtMatmulPreferenceCreate(&made->preference);
    if (status != CUBLAS_STATUS_SUCCESS) {
        d2c_products_close(made);
        return d2c_fail(err, status_of(status), "could not open cuBLASLt on device cuda:%d: %s", cuda->device,
                        cublasLtGetStatusName(status));
    }
    *products = made;
    return D2C_OK;
}

static void
free_plan(d2c_plan *plan)
{
    if (plan->operation != NULL)
        cublasLtMatmulDescDestroy(plan->operation);
    if (plan->a != NULL)
        cublasLtMatrixLayoutDestroy(plan->a);
    if (plan->b != NULL)
        cublasLtMatrixLayoutDestroy(plan->b);
    if (plan->c != NULL)
        cublasLtMatrixLayoutDestroy(plan->c);
    free(plan);
}

static void
free_plans(d2c_products *products)
{
    int i;

    for (i = 0; i < D2C_PLAN_SLOTS; i++)
        while (products->slot[i] != NULL) {
            d2c_plan *plan = products->slot[i];

            products->slot[i] = plan->next;
            free_plan(plan);
        }
}

void
d2c_products_close(d2c_products *products)
{
    if (products == NULL)
        return;
    free_plans(products);
    d2c_choices_free(products);
    if (products->begin != NULL)
        cudaEventDestroy(products->begin);
    if (products->end != NULL)
        cudaEventDestroy(products->end);
    if (products->preference != NULL)
        cublasLtMatmulPreferenceDestroy(products->preference);
    if (products->handle != NULL)
        cublasLtDestroy(products->handle);
    cudaFree(products->workspace);
    free(products);
}

/* ---- descriptors --------------------------------------------------------------------------------------------------- */

#define LT_TRY(call)                                                                                         \
    do {                                                                                                     \
        cublasStatus_t lt_try_status = (call);                                                               \
        if (lt_try_status != CUBLAS_STATUS_SUCCESS)                                                          \
            return lt_try_status;                                                                            \
    } while (0)

static cudaDataType_t
data_type(int32_t type)
{
    return type == D2C_F8 ? CUDA_R_8F_E4M3 : type == D2C_BF16 ? CUDA_R_16BF : CUDA_R_32F;
}

/* A matrix whose rows [rows, width] lie `stride` apart. */
static cublasStatus_t
make_layout(cublasLtMatrixLayout_t *layout, int32_t type, int64_t rows, int64_t width, int64_t stride)
{
    return cublasLtMatrixLayoutCreate(layout, data_type(type), (uint64_t)width, (uint64_t)rows, stride);
}

static cublasStatus_t
make_layouts(d2c_plan *plan)
{
    const d2c_matmul *p = &plan->key.product;

    LT_TRY(make_layout(&plan->a, p->operand_type, p->b_turned ? p->n : p->k, p->b_turned ? p->k : p->n,
                       p->b_stride));
    LT_TRY(make_layout(&plan->b, p->operand_type, p->a_turned ? p->k : p->m, p->a_turned ? p->m : p->k,
                       p->a_stride));
    return make_layout(&plan->c, p->result_type, p->m, p->n, p->c_stride);
}

static cublasStatus_t
set(d2c_plan *plan, cublasLtMatmulDescAttributes_t attribute, const void *value, size_t size)
{
    return cublasLtMatmulDescSetAttribute(plan->operation, attribute, value, size);
}

static uint32_t
epilogue_of(const d2c_matmul *p)
{
    if (p->epilogue == D2C_EPILOGUE_GELU_GRADIENT)
        return CUBLASLT_EPILOGUE_DGELU;
    if (p->epilogue == D2C_EPILOGUE_NONE)
        return p->has_bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
    if (p->aux_stride > 0)
        return p->has_bias ? CUBLASLT_EPILOGUE_GELU_AUX_BIAS : CUBLASLT_EPILOGUE_GELU_AUX;
    return p->has_bias ? CUBLASLT_EPILOGUE_GELU_BIAS : CUBLASLT_EPILOGUE_GELU;
}

/* Bias, aux and scales are the operation's, not the call's.  The proposals see how they are aligned. */
static cublasStatus_t
set_data(d2c_plan *plan, const d2c_matmul_data *at)
{
    const d2c_matmul *p = &plan->key.product;

    if (p->has_bias)
        LT_TRY(set(plan, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &at->bias, sizeof at->bias));
    if (p->aux_stride > 0)
        LT_TRY(set(plan, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, &at->aux, sizeof at->aux));
    if (p->operand_type == D2C_F8) {
        LT_TRY(set(plan, CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, &at->b_scale, sizeof at->b_scale));
        LT_TRY(set(plan, CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, &at->a_scale, sizeof at->a_scale));
    }
    return CUBLAS_STATUS_SUCCESS;
}

static cublasStatus_t
make_operation(d2c_plan *plan, const d2c_matmul_data *at)
{
    const d2c_matmul *p = &plan->key.product;
    const int32_t turned = CUBLAS_OP_T, bias_type = CUDA_R_16BF;
    const uint32_t epilogue = epilogue_of(p);

    LT_TRY(cublasLtMatmulDescCreate(&plan->operation, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    if (p->b_turned)
        LT_TRY(set(plan, CUBLASLT_MATMUL_DESC_TRANSA, &turned, sizeof turned));
    if (p->a_turned)
        LT_TRY(set(plan, CUBLASLT_MATMUL_DESC_TRANSB, &turned, sizeof turned));
    LT_TRY(set(plan, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue));
    if (p->has_bias && p->operand_type == D2C_F8)
        LT_TRY(set(plan, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &bias_type, sizeof bias_type));
    if (p->aux_stride > 0)
        LT_TRY(set(plan, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, &p->aux_stride, sizeof p->aux_stride));
    return set_data(plan, at);
}

/* ---- proposals ----------------------------------------------------------------------------------------------------- */

static cublasStatus_t
prefer(d2c_products *products, cublasLtMatmulPreferenceAttributes_t attribute, uint32_t value)
{
    return cublasLtMatmulPreferenceSetAttribute(products->preference, attribute, &value, sizeof value);
}

static cublasStatus_t
set_preference(d2c_products *products, const d2c_plan_key *key)
{
    const uint64_t workspace = products->workspace_bytes;
    const uint32_t a = (uint32_t)key->align[0], b = (uint32_t)key->align[1], c = (uint32_t)key->align[2];
    uint32_t schemes =
        products->tuning ? CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE : CUBLASLT_REDUCTION_SCHEME_NONE;

    LT_TRY(cublasLtMatmulPreferenceSetAttribute(
        products->preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace, sizeof workspace));
    LT_TRY(prefer(products, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, schemes));
    LT_TRY(prefer(products, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, b));
    LT_TRY(prefer(products, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, a));
    LT_TRY(prefer(products, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, c));
    return prefer(products, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, c);
}

/* The scheme of an algorithm that divides a sum among blocks; 0 when it does not, or has no such setting. */
static uint32_t
reduction_scheme(const cublasLtMatmulAlgo_t *algo)
{
    uint32_t scheme = CUBLASLT_REDUCTION_SCHEME_NONE;
    size_t size;

    if (cublasLtMatmulAlgoConfigGetAttribute(algo, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, &scheme,
                                             sizeof scheme, &size) != CUBLAS_STATUS_SUCCESS)
        return CUBLASLT_REDUCTION_SCHEME_NONE;
    return scheme;
}

static void
take_proposal(d2c_proposals *proposals, const d2c_products *products,
              const cublasLtMatmulHeuristicResult_t *result)
{
    int i = proposals->count;
    uint32_t scheme;

    if (result->state != CUBLAS_STATUS_SUCCESS || result->workspaceSize > products->workspace_bytes)
        return;
    scheme = reduction_scheme(&result->algo);
    if (scheme != CUBLASLT_REDUCTION_SCHEME_NONE &&
        !(products->tuning && scheme == CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE))
        return;
    proposals->algo[i] = result->algo;
    proposals->split[i] = scheme != CUBLASLT_REDUCTION_SCHEME_NONE;
    proposals->workspace[i] = result->workspaceSize;
    proposals->count++;
}

/* None at all is an answer, too: there are bf16 matrices that the library has no kernel for. */
static cublasStatus_t
ask_proposals(d2c_proposals *proposals, d2c_products *products, const d2c_plan *plan)
{
    cublasLtMatmulHeuristicResult_t result[D2C_PROPOSALS];
    cublasStatus_t status;
    int count = 0, i;

    proposals->count = 0;
    LT_TRY(set_preference(products, &plan->key));
    status = cublasLtMatmulAlgoGetHeuristic(products->handle, plan->operation, plan->a, plan->b, plan->c,
                                            plan->c, products->preference, D2C_PROPOSALS, result, &count);
    if (status == CUBLAS_STATUS_NOT_SUPPORTED)
        return CUBLAS_STATUS_SUCCESS;
    LT_TRY(status);
    for (i = 0; i < count; i++)
        take_proposal(proposals, products, &result[i]);
    return CUBLAS_STATUS_SUCCESS;
}

/* ---- planning ------------------------------------------------------------------------------------------------------ */

uint64_t
d2c_plan_hash(const void *bytes, size_t size)
{
    const unsigned char *p = bytes;
    uint64_t hash = 0xcbf29ce484222325u;
    size_t i;

    for (i = 0; i < size; i++)
        hash = (hash ^ p[i]) * 0x100000001b3u;
    return hash;
}

/* What a pointer is a multiple of. */
static int32_t
alignment(const void *pointer)
{
    uintptr_t address = (uintptr_t)pointer | MOST_ALIGNMENT;

    return (int32_t)(address & -address);
}

static void
make_key(d2c_plan_key *key, const d2c_matmul *p, const d2c_matmul_data *at)
{
    memset(key, 0, sizeof *key);
    key->product = *p;
    key->align[0] = alignment(at->a);
    key->align[1] = alignment(at->b);
    key->align[2] = alignment(at->c);
    key->align[3] = alignment(p->has_bias ? at->bias : NULL);
    key->align[4] = alignment(p->aux_stride > 0 ? at->aux : NULL);
}

static d2c_plan **
find_slot(d2c_products *products, const d2c_plan_key *key)
{
    d2c_plan **slot = &products->slot[d2c_plan_hash(key, sizeof *key) % D2C_PLAN_SLOTS];

    while (*slot != NULL && memcmp(&(*slot)->key, key, sizeof *key) != 0)
        slot = &(*slot)->next;
    return slot;
}

d2c_status
d2c_plan_workspace(d2c_cuda *cuda, size_t needed)
{
    d2c_products *products = cuda->products;

    if (needed == 0 || products->workspace != NULL)
        return D2C_OK;
    return d2c_cuda_alloc(&cuda->base, &products->workspace, products->workspace_bytes, D2C_MEMORY_DEVICE);
}

/* Without measurements. */
static d2c_status
take_first(d2c_cuda *cuda, d2c_plan *plan, const d2c_proposals *proposals)
{
    int fused = plan->key.product.epilogue != D2C_EPILOGUE_NONE;

    if (fused && (cuda->capability < FUSED_FIRST || cuda->capability > FUSED_LAST)) {
        plan->way = D2C_APART;
        return D2C_OK;
    }
    plan->algo = proposals->algo[0];
    return d2c_plan_workspace(cuda, proposals->workspace[0]);
}

static int
is_biased_wrongly(const d2c_matmul *p)
{
    return p->has_bias && (p->m == 1 || p->n == 1) && cublasLtGetVersion() < BIAS_MENDED;
}

/* Sets the plan's way and algorithm. */
static d2c_status
decide(d2c_cuda *cuda, d2c_plan *plan, const d2c_matmul_data *at, d2c_plan_call apart)
{
    d2c_proposals proposals;
    cublasStatus_t status = make_layouts(plan);

    if (status == CUBLAS_STATUS_SUCCESS)
        status = make_operation(plan, at);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = ask_proposals(&proposals, cuda->products, plan);
    D2C_TRY(d2c_plan_check(cuda, status, &plan->key));
    plan->tuned = cuda->products->tuning;
    if (is_biased_wrongly(&plan->key.product))
        proposals.count = 0;
    plan->way = D2C_BY_LIBRARY;
    if (proposals.count == 0 && apart.run == NULL && plan->key.product.operand_type == D2C_F8)
        return d2c_plan_check(cuda, CUBLAS_STATUS_NOT_SUPPORTED, &plan->key);
    if (proposals.count == 0)
        plan->way = apart.run != NULL ? D2C_APART : D2C_BY_OWN_KERNEL;
    else if (plan->tuned)
        return d2c_plan_tune(cuda, plan, at, &proposals, apart);
    else
        return take_first(cuda, plan, &proposals);
    return D2C_OK;
}

/* In the place of one that was made without tuning.  Deciding may have made other plans, so the place is looked for anew. */
static void
keep_plan(d2c_products *products, d2c_plan *plan)
{
    d2c_plan **slot = find_slot(products, &plan->key), *old = *slot;

    *slot = plan;
    if (old == NULL)
        return;
    plan->next = old->next;
    free_plan(old);
}

static d2c_status
make_plan(d2c_cuda *cuda, d2c_plan **made, const d2c_plan_key *key, const d2c_matmul_data *at,
          d2c_plan_call apart)
{
    char words[D2C_PLAN_WORDS];
    d2c_status status;
    d2c_plan *plan;

    if (cuda->capturing) {
        d2c_fail(&cuda->base.error, D2C_INTERNAL, "a matrix product was met first during a capture");
        d2c_plan_words(words, sizeof words, key);
        d2c_detail(&cuda->base.error, "The product is %s.", words);
        return D2C_INTERNAL;
    }
    plan = calloc(1, sizeof *plan);
    if (plan == NULL)
        return d2c_fail(&cuda->base.error, D2C_NO_MEMORY, "could not allocate the plan of a matrix product");
    plan->key = *key;
    status = decide(cuda, plan, at, apart);
    if (status != D2C_OK) {
        free_plan(plan);
        return status;
    }
    keep_plan(cuda->products, plan);
    *made = plan;
    return D2C_OK;
}

static d2c_status
get_plan(d2c_cuda *cuda, d2c_plan **plan, const d2c_matmul *p, const d2c_matmul_data *at, d2c_plan_call apart)
{
    d2c_plan_key key;

    make_key(&key, p, at);
    *plan = *find_slot(cuda->products, &key);
    if (*plan != NULL && ((*plan)->tuned || !cuda->products->tuning || cuda->capturing))
        return D2C_OK;
    return make_plan(cuda, plan, &key, at, apart);
}

/* ---- running ------------------------------------------------------------------------------------------------------- */

cublasStatus_t
d2c_plan_launch(d2c_cuda *cuda, d2c_plan *plan, const d2c_matmul_data *at, const cublasLtMatmulAlgo_t *algo)
{
    const float one = 1, beta = plan->key.product.accumulate ? 1 : 0;
    d2c_products *products = cuda->products;

    LT_TRY(set_data(plan, at));
    return cublasLtMatmul(products->handle, plan->operation, &one, at->b, plan->a, at->a, plan->b, &beta,
                          at->c, plan->c, at->c, plan->c, algo, products->workspace,
                          products->workspace != NULL ? products->workspace_bytes : 0, cuda->stream);
}

d2c_status
d2c_matmul_run(d2c_cuda *cuda, const d2c_matmul *p, const d2c_matmul_data *at)
{
    d2c_plan *plan;

    D2C_TRY(get_plan(cuda, &plan, p, at, (d2c_plan_call){NULL, NULL}));
    if (plan->way == D2C_BY_OWN_KERNEL)
        return d2c_cuda_matmul_small(cuda, p, at);
    return d2c_plan_check(cuda, d2c_plan_launch(cuda, plan, at, &plan->algo), &plan->key);
}

d2c_status
d2c_matmul_fuses(d2c_cuda *cuda, int *fuses, const d2c_matmul *p, const d2c_matmul_data *at,
                 d2c_status (*apart)(void *argument), void *argument)
{
    d2c_plan *plan;

    D2C_TRY(get_plan(cuda, &plan, p, at, (d2c_plan_call){apart, argument}));
    *fuses = plan->way == D2C_BY_LIBRARY;
    return D2C_OK;
}
