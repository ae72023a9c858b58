/* A stand-in for the driver's libcuda.so.1 on a machine that has lost its GPU: CUDA is there, and finds no device.
 *
 * It has the functions that llama.cpp's CUDA library is linked with.
 */
enum { OK = 0, NO_DEVICE = 100 };

int cuDriverGetVersion(int *version) { *version = 13000; return OK; }
int cuGetErrorString(int status, const char **text) { (void)status; *text = "no device"; return OK; }

#define FINDS_NO_DEVICE(name) int name(void) { return NO_DEVICE; }
FINDS_NO_DEVICE(cuInit)
FINDS_NO_DEVICE(cuDeviceGet)
FINDS_NO_DEVICE(cuDeviceGetAttribute)
FINDS_NO_DEVICE(cuMemAddressFree)
FINDS_NO_DEVICE(cuMemAddressReserve)
FINDS_NO_DEVICE(cuMemCreate)
FINDS_NO_DEVICE(cuMemGetAllocationGranularity)
FINDS_NO_DEVICE(cuMemMap)
FINDS_NO_DEVICE(cuMemRelease)
FINDS_NO_DEVICE(cuMemSetAccess)
FINDS_NO_DEVICE(cuMemUnmap)
