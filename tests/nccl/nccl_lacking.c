/* A library that tells a version of NCCL, STAND_IN_VERSION, and has none of its other calls. */
__attribute__((visibility("default"))) int ncclGetVersion(int *version);

int ncclGetVersion(int *version)
{
    *version = STAND_IN_VERSION;
    return 0;
}
