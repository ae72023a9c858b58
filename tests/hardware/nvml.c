/* A stand-in for NVIDIA's libnvidia-ml.so.1, so that the real nvidia-smi answers on a machine without a GPU.
 *
 * NVML_GPUS     the GPUs: "PCI|NAME|MiB|MiB free|CAPABILITY|DISPLAY|STATUS;...", DISPLAY 0 or 1, STATUS an nvmlReturn_t
 *               that asking for the GPU's handle answers (0: fine, 15: it fell off the bus)
 * NVML_DRIVER   the driver's version
 * NVML_INIT     what nvmlInit answers: 0, 9 (driver not loaded), 18 (library and kernel module differ)
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OK = 0, INVALID_ARGUMENT = 2, MAXIMUM = 8 };

struct gpu {
    char pci[32], name[96], capability[8];
    unsigned long long total, free;
    unsigned display, status;
};
struct pci { char legacy[16]; unsigned domain, bus, device, id, subsystem; char bus_id[32]; };
struct pci_ext { unsigned version, domain, bus, device, id, subsystem, base, subclass; char bus_id[32]; };

static struct gpu gpus[MAXIMUM];
static unsigned count;

static const char *variable(const char *name, const char *otherwise) {
    return getenv(name) ? getenv(name) : otherwise;
}

int nvmlInit_v2(void) {
    char *rest, *all = strdup(variable("NVML_GPUS", ""));
    count = 0;
    for (char *one = strtok_r(all, ";", &rest); one && count < MAXIMUM; one = strtok_r(NULL, ";", &rest)) {
        struct gpu *gpu = &gpus[count];
        if (sscanf(one, "%31[^|]|%95[^|]|%llu|%llu|%7[^|]|%u|%u", gpu->pci, gpu->name, &gpu->total, &gpu->free,
                   gpu->capability, &gpu->display, &gpu->status) == 7)
            count++;
    }
    free(all);
    return atoi(variable("NVML_INIT", "0"));
}
int nvmlInit(void) { return nvmlInit_v2(); }
int nvmlInitWithFlags(unsigned flags) { (void)flags; return nvmlInit_v2(); }
int nvmlShutdown(void) { return OK; }

const char *nvmlErrorString(int status) {
    switch (status) {
        case 0: return "Success";
        case 9: return "Driver Not Loaded";
        case 15: return "GPU is lost";
        case 18: return "Driver/library version mismatch";
        default: return "Not Supported";
    }
}

int nvmlSystemGetDriverVersion(char *to, unsigned size) {
    snprintf(to, size, "%s", variable("NVML_DRIVER", "0"));
    return OK;
}
int nvmlSystemGetNVMLVersion(char *to, unsigned size) { return nvmlSystemGetDriverVersion(to, size); }
int nvmlSystemGetCudaDriverVersion(int *version) { *version = 12040; return OK; }
int nvmlSystemGetCudaDriverVersion_v2(int *version) { return nvmlSystemGetCudaDriverVersion(version); }

int nvmlDeviceGetCount_v2(unsigned *to) { *to = count; return OK; }
int nvmlDeviceGetCount(unsigned *to) { return nvmlDeviceGetCount_v2(to); }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, struct gpu **to) {
    if (index >= count) return INVALID_ARGUMENT;
    *to = &gpus[index];
    return gpus[index].status;
}
int nvmlDeviceGetHandleByIndex(unsigned index, struct gpu **to) { return nvmlDeviceGetHandleByIndex_v2(index, to); }
int nvmlDeviceGetIndex(struct gpu *gpu, unsigned *to) { *to = gpu - gpus; return OK; }
int nvmlDeviceGetMinorNumber(struct gpu *gpu, unsigned *to) { *to = gpu - gpus; return OK; }
int nvmlDeviceGetName(struct gpu *gpu, char *to, unsigned size) { snprintf(to, size, "%s", gpu->name); return OK; }
int nvmlDeviceGetUUID(struct gpu *gpu, char *to, unsigned size) {
    snprintf(to, size, "GPU-00000000-0000-0000-0000-%012u", (unsigned)(gpu - gpus));
    return OK;
}

int nvmlDeviceGetPciInfo_v3(struct gpu *gpu, struct pci *to) {
    memset(to, 0, sizeof *to);
    sscanf(gpu->pci, "%x:%x:%x", &to->domain, &to->bus, &to->device);
    to->id = 0x268410DE;
    snprintf(to->bus_id, sizeof to->bus_id, "%08X:%02X:%02X.0", to->domain, to->bus, to->device);
    snprintf(to->legacy, sizeof to->legacy, "%04X:%02X:%02X.0", to->domain, to->bus, to->device);
    return OK;
}
int nvmlDeviceGetPciInfo_v2(struct gpu *gpu, struct pci *to) { return nvmlDeviceGetPciInfo_v3(gpu, to); }
int nvmlDeviceGetPciInfo(struct gpu *gpu, struct pci *to) { return nvmlDeviceGetPciInfo_v3(gpu, to); }
int nvmlDeviceGetPciInfoExt(struct gpu *gpu, struct pci_ext *to) {
    struct pci old;
    nvmlDeviceGetPciInfo_v3(gpu, &old);
    *to = (struct pci_ext){to->version, old.domain, old.bus, old.device, old.id, 0, 3, 0, ""};
    memcpy(to->bus_id, old.bus_id, sizeof to->bus_id);
    return OK;
}

int nvmlDeviceGetMemoryInfo(struct gpu *gpu, unsigned long long *to) {
    to[0] = gpu->total << 20, to[1] = gpu->free << 20, to[2] = to[0] - to[1];
    return OK;
}
int nvmlDeviceGetMemoryInfo_v2(struct gpu *gpu, unsigned long long *to) { /* to[0] is the version of the structure */
    to[1] = gpu->total << 20, to[2] = 0, to[3] = gpu->free << 20, to[4] = to[1] - to[3];
    return OK;
}
int nvmlDeviceGetDisplayActive(struct gpu *gpu, unsigned *to) { *to = gpu->display; return OK; }
int nvmlDeviceGetDisplayMode(struct gpu *gpu, unsigned *to) { (void)gpu; *to = 1; return OK; }
int nvmlDeviceGetCudaComputeCapability(struct gpu *gpu, int *major, int *minor) {
    sscanf(gpu->capability, "%d.%d", major, minor);
    return OK;
}

/* nvidia-smi's private functions: number 81 gives a GPU's handle (drivers 535 and 550); the others only succeed. */
static int quiet(void) { return OK; }
int nvmlInternalGetExportTable(const void **table, const void *id) {
    static void *functions[256];
    (void)id;
    functions[0] = (void *)sizeof functions;
    for (int each = 1; each < 256; each++) functions[each] = (void *)quiet;
    functions[81] = (void *)nvmlDeviceGetHandleByIndex_v2;
    *table = functions;
    return OK;
}
