/* Threads of a block that can run, and which of them does so next. */
#ifndef GDNCP_EMULATOR_READY_THREADS_H
#define GDNCP_EMULATOR_READY_THREADS_H

#include <utility>

#include "block.h"
#include "schedule.h"

namespace gdncp_emulated
{

class ready_threads
{
  public:
    /* No thread is ready, and the order of this block is settled. */
    void clear(int num_threads)
    {
        first = 0;
        count = 0;
        num_warps = num_threads / 32;
        order = schedule_is_random() ? (order_kind)(1 + choose(3)) : IN_TURN;
        for (int warp = 0; order == WARPS_BY_RANK && warp < num_warps; warp++) {
            rank_of_warp[warp] = choose(RANKS);
            count_of_warp[warp] = 0;
        }
    }

    void add(thread_state *thread)
    {
        count++;
        if (order != WARPS_BY_RANK) {
            threads[(first + count - 1) % MAX_THREADS] = thread;
            return;
        }
        const int warp = thread->index / 32;

        threads[32 * warp + count_of_warp[warp]++] = thread;
        if (choose(CHANGE_EVERY) == 0) {
            rank_of_warp[warp] = choose(RANKS);
        }
    }

    /* NULL where none is ready. */
    thread_state *take()
    {
        if (count == 0) {
            return nullptr;
        }
        count--;
        switch (order) {
        case IN_TURN:
            return threads[first++ % MAX_THREADS];
        case LAST_FIRST:
            return threads[count];
        case ANY: {
            const uint64_t taken = choose(count + 1);

            std::swap(threads[taken], threads[count]);
            return threads[count];
        }
        default: {
            const int warp = warp_of_highest_rank();

            return threads[32 * warp + --count_of_warp[warp]];
        }
        }
    }

  private:
    enum order_kind {
        IN_TURN,       /* who came first */
        LAST_FIRST,    /* who came last: threads run ahead */
        ANY,           /* at random each time */
        WARPS_BY_RANK, /* the warp of highest rank runs ahead; ranks change now and then */
    };
    static constexpr uint64_t RANKS = 1u << 20;
    static constexpr uint64_t CHANGE_EVERY = 256; /* wake-ups */

    int warp_of_highest_rank() const
    {
        int best = -1;

        for (int warp = 0; warp < num_warps; warp++) {
            if (count_of_warp[warp] > 0 && (best < 0 || rank_of_warp[warp] > rank_of_warp[best])) {
                best = warp;
            }
        }
        return best;
    }

    order_kind order;
    unsigned first; /* of IN_TURN; else 0 */
    unsigned count;
    int num_warps;
    uint64_t rank_of_warp[MAX_THREADS / 32];
    int count_of_warp[MAX_THREADS / 32];
    thread_state *threads[MAX_THREADS]; /* WARPS_BY_RANK: 32 places a warp */
};

} /* namespace gdncp_emulated */

#endif
