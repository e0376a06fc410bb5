// As much of NVIDIA's driver as bench/cuda_errors.py asks for: one device, whose context a sticky error corrupts for good.
#include <stdlib.h>

static int active, pending, sticky;

// Stands for a kernel launch. It makes the primary context. error: what the kernel fails with, 0 for a right one.
// late: the launch itself succeeds, as a real one does, and the error is there at the next synchronisation.
int fake_launch(int error, int late) {
    active = 1;
    if (sticky) return sticky;
    *(late ? &pending : &sticky) = error;
    return sticky;
}

int cuDeviceGetCount(int *count) { *count = 1; return 0; }
int cuDeviceGet(int *device, int number) { *device = number; return 0; }
int cuDevicePrimaryCtxGetState(int device, unsigned *flags, int *is) { *flags = 0; *is = active; return 0; }
int cuDevicePrimaryCtxRetain(void **context, int device) { *context = &active; return sticky; }
int cuDevicePrimaryCtxRelease_v2(int device) { return sticky; }
int cuCtxPushCurrent_v2(void *context) { return context == &active ? sticky : 201; }
int cuCtxPopCurrent_v2(void **context) { *context = &active; return sticky; }
int cuCtxSynchronize(void) {
    if (!active) abort();  // a real driver would have made a context, or failed
    if (pending) sticky = pending;
    return sticky;
}
int cuGetErrorName(int error, const char **name) {
    *name = error == 715 ? "CUDA_ERROR_ILLEGAL_INSTRUCTION" : error == 700 ? "CUDA_ERROR_ILLEGAL_ADDRESS" : NULL;
    return *name ? 0 : 1;
}
