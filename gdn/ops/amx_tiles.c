/* The matrix tiles (AMX) of x86 processors: whether there are any, and a thread's use of them. */
#include "amx_tiles.h"

#include <assert.h>
#include <stdint.h>

#include "environment.h"

#if defined(__x86_64__) && defined(__linux__)

#include <cpuid.h>
#include <immintrin.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Of the kernel: arch_prctl()'s call for a part of a processor's state, and the tiles' data. */
#define REQUEST_PERMISSION 0x1023
#define STATE_TILE_CONFIG 17
#define STATE_TILE_DATA 18

static pthread_once_t asked = PTHREAD_ONCE_INIT;
static bool is_usable;

__attribute__((target("xsave"))) static uint64_t enabled_states(void)
{
    return _xgetbv(0);
}

static void ask(void)
{
    const unsigned has_xgetbv = 1u << 27;
    const unsigned has_tiles = 1u << 22 | 1u << 24; /* bf16, tiles */
    const uint64_t states = 1u << STATE_TILE_CONFIG | 1u << STATE_TILE_DATA;
    unsigned a;
    unsigned b;
    unsigned c;
    unsigned d;

    if (!__get_cpuid(1, &a, &b, &c, &d) || (c & has_xgetbv) == 0 ||
        !__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & has_tiles) != has_tiles ||
        (enabled_states() & states) != states) {
        return;
    }
    is_usable = syscall(SYS_arch_prctl, REQUEST_PERMISSION, STATE_TILE_DATA) == 0;
}

static bool can_use_tiles(void)
{
    pthread_once(&asked, ask);
    return is_usable;
}

/* As ldtilecfg reads it. */
typedef struct tile_config {
    uint8_t palette;
    uint8_t start_row;
    uint8_t reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} tile_config_t;

static_assert(sizeof(tile_config_t) == 64, "what ldtilecfg reads");

#define EIGHT(x)                                                                                   \
    {                                                                                              \
        x, x, x, x, x, x, x, x                                                                     \
    }

/* Constant: compilers take ldtilecfg for one that reads just the first bytes. */
static const tile_config_t all_tiles = {
    .palette = 1, .row_bytes = EIGHT(GDNCP_TILE_ROW_BYTES), .rows = EIGHT(GDNCP_TILE_ROWS)};

GDNCP_AMX void gdncp_amx_begin(void)
{
    _tile_loadconfig(&all_tiles);
}

GDNCP_AMX void gdncp_amx_end(void)
{
    _tile_release();
}

#else

static bool can_use_tiles(void)
{
    return false;
}

void gdncp_amx_begin(void)
{
}

void gdncp_amx_end(void)
{
}

#endif

gdncp_status_t gdncp_amx_is_wanted(bool *is_wanted)
{
    int64_t wanted = 1;
    const gdncp_status_t status = gdncp_environment_integer(GDNCP_VARIABLE_AMX, 0, 1, 1, &wanted);

    *is_wanted = status == GDNCP_OK && wanted == 1 && can_use_tiles();
    return status;
}
