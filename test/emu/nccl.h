/*
 * nccl.h: the part of NCCL that d2c calls, as the emulator has it: ranks are processes, messages go through pipes.
 *
 * Names, meanings and numbers are the real library's.
 */
#ifndef D2C_EMU_NCCL_H
#define D2C_EMU_NCCL_H

#include <stddef.h>

#include "cuda_runtime_api.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ncclComm *ncclComm_t;

typedef struct {
    char internal[128];
} ncclUniqueId;

typedef enum {
    ncclSuccess = 0,
    ncclSystemError = 2,
    ncclInternalError = 3,
    ncclInvalidArgument = 4,
    ncclInvalidUsage = 5
} ncclResult_t;

typedef enum { ncclUint8 = 1 } ncclDataType_t;

ncclResult_t ncclGetUniqueId(ncclUniqueId *id);
ncclResult_t ncclCommInitRank(ncclComm_t *comm, int ranks, ncclUniqueId id, int rank);
ncclResult_t ncclCommDestroy(ncclComm_t comm);
const char *ncclGetErrorString(ncclResult_t result);
ncclResult_t ncclGroupStart(void);
ncclResult_t ncclGroupEnd(void);
ncclResult_t ncclSend(const void *data, size_t count, ncclDataType_t type, int to, ncclComm_t comm,
                      cudaStream_t stream);
ncclResult_t ncclRecv(void *data, size_t count, ncclDataType_t type, int from, ncclComm_t comm,
                      cudaStream_t stream);

/* Nothing is opened at run time. */
#define D2C_NCCL_OPEN() ((void *)"emulated")
#define D2C_NCCL_FIND(library, name) ((void)(library), (void *)name)

#ifdef __cplusplus
}
#endif
#endif
