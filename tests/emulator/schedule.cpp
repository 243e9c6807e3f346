/* One sequence of random numbers a host thread, which starts anew when a seed is set. */
#include "schedule.h"

#include <atomic>
#include <mutex>

extern "C" {
#include "environment.h"
}

namespace gdncp_emulated
{

namespace
{

struct sequence {
    uint64_t generation; /* of the seed that it was started from */
    uint64_t number;     /* of the thread */
    uint64_t state;      /* 0 with seed 0 */
};

std::atomic<uint64_t> seed;
std::atomic<uint64_t> generation; /* 0: the environment has not been read */
std::atomic<uint64_t> num_threads_seen;
thread_local sequence own;

/* Steele, Lea and Flood's SplitMix64. */
uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

void read_environment()
{
    static std::once_flag once;

    std::call_once(once, [] {
        int64_t value = 0;

        if (generation == 0 && gdncp_environment_integer(GDNCP_VARIABLE_EMULATOR_SEED, 0, INT64_MAX,
                                                         0, &value) == GDNCP_OK) {
            seed = (uint64_t)value;
        }
        generation++;
    });
}

void start_sequence()
{
    if (own.number == 0) {
        own.number = ++num_threads_seen;
    }
    own.generation = generation;
    own.state = seed == 0 ? 0 : mix(seed + mix(own.number)) | 1;
}

} /* namespace */

void set_schedule(uint64_t new_seed)
{
    read_environment();
    seed = new_seed;
    generation++;
}

uint64_t schedule_seed()
{
    read_environment();
    return seed;
}

gdncp_status_t schedule_check()
{
    int64_t value;

    return gdncp_environment_integer(GDNCP_VARIABLE_EMULATOR_SEED, 0, INT64_MAX, 0, &value);
}

bool schedule_is_random()
{
    return schedule_seed() != 0;
}

uint64_t choose(uint64_t count)
{
    if (own.generation != generation.load(std::memory_order_relaxed) || own.generation == 0) {
        read_environment();
        start_sequence();
    }
    if (own.state == 0) {
        return 0;
    }
    own.state += 0x9e3779b97f4a7c15u;
    return (uint64_t)((unsigned __int128)mix(own.state) * count >> 64);
}

} /* namespace gdncp_emulated */
