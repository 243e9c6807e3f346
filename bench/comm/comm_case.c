/* A benchmark's data on one rank. */
#include "comm_bench.h"

#include <string.h>

#include "error.h"
#include "gdncp/memory.h"

void comm_keep(comm_case_t *c, gdncp_status_t status)
{
    if (c->status == GDNCP_OK) {
        c->status = status;
    }
}

void *comm_alloc(comm_case_t *c, int64_t count, int64_t size)
{
    const size_t bytes = (size_t)count * (size_t)size;
    void *const memory = c->status == GDNCP_OK ? gdncp_memory_alloc(bytes) : NULL;

    if (memory != NULL) {
        memset(memory, 0, bytes);
    } else {
        comm_keep(c, gdncp_fail_memory("a benchmark's data"));
    }
    return memory;
}

int comm_value(int rank, int64_t index)
{
    const uint64_t mixed =
        ((uint64_t)index + ((uint64_t)rank << 40)) * UINT64_C(0x9e3779b97f4a7c15);

    return (int)(mixed >> 62);
}

/* What a dtype makes of the numbers that comm_value() gives. */
static void make_numbers(gdncp_dtype_t dtype, char (*numbers)[8])
{
    for (int i = 0; i < 4; i++) {
        const float number = (float)i;

        (void)gdncp_convert_from_f32(&number, 1, dtype, numbers[i]);
    }
}

void comm_fill(gdncp_dtype_t dtype, int rank, int64_t elements, void *buffer)
{
    const size_t size = gdncp_dtype_size(dtype);
    char numbers[4][8];

    make_numbers(dtype, numbers);
    for (int64_t i = 0; i < elements; i++) {
        memcpy((char *)buffer + (size_t)i * size, numbers[comm_value(rank, i)], size);
    }
}

void comm_poison(comm_case_t *c)
{
    if (c->status == GDNCP_OK) {
        memset(c->out, 0xff, (size_t)c->out_bytes);
    }
}

void comm_make_buffers(comm_case_t *c, int64_t in_elements, int64_t out_elements)
{
    const int64_t size = (int64_t)gdncp_dtype_size(c->shape.dtype);

    c->in_bytes = in_elements * size;
    c->out_bytes = out_elements * size;
    c->in = comm_alloc(c, in_elements, size);
    c->out = comm_alloc(c, out_elements, size);
    if (c->status == GDNCP_OK) {
        comm_fill(c->shape.dtype, c->rank, in_elements, c->in);
    }
}

bool comm_is(gdncp_dtype_t dtype, const void *buffer, int64_t i, float expected)
{
    float got = -1.0f;

    return gdncp_convert_to_f32(dtype, (const char *)buffer + (size_t)i * gdncp_dtype_size(dtype),
                                1, &got) == GDNCP_OK &&
           got == expected;
}

int64_t comm_count_wrong(const comm_case_t *c, const comm_run_t *run)
{
    const size_t size = gdncp_dtype_size(c->shape.dtype);
    const char *const out = (const char *)c->out + (size_t)run->offset * size;
    char numbers[4][8];
    int64_t wrong = 0;

    make_numbers(c->shape.dtype, numbers);
    for (int64_t i = 0; i < run->elements; i++) {
        const int value = run->source < 0 ? 0 : comm_value(run->source, run->source_offset + i);

        wrong += memcmp(out + (size_t)i * size, numbers[value], size) != 0;
    }
    return wrong;
}

/* Who holds which token, and where. */
static void list_holders(comm_case_t *c)
{
    const gdncp_segment_t *const segments = gdncp_layout_segments(c->layout);

    c->holder_of = comm_alloc(c, c->shape.tokens, (int64_t)sizeof *c->holder_of);
    c->place_of = comm_alloc(c, c->shape.tokens, (int64_t)sizeof *c->place_of);
    for (int64_t s = 0; s < gdncp_layout_num_segments(c->layout) && c->status == GDNCP_OK; s++) {
        for (int64_t i = 0; i < segments[s].length; i++) {
            c->holder_of[segments[s].begin + i] = segments[s].rank;
            c->place_of[segments[s].begin + i] = segments[s].local_offset + i;
        }
    }
}

void comm_case_start(comm_case_t *c, const comm_benchmark_t *benchmark, gdncp_comm_t *comm,
                     const comm_shape_t *shape)
{
    const int64_t cu_seqlens[] = {0, shape->tokens};

    *c = (comm_case_t){.benchmark = benchmark,
                       .comm = comm,
                       .rank = gdncp_comm_rank(comm),
                       .size = gdncp_comm_size(comm),
                       .shape = *shape};
    comm_keep(
        c, gdncp_layout_create(GDNCP_LAYOUT_DUAL_CHUNK_SWAP, cu_seqlens, 1, c->size, &c->layout));
    if (c->status == GDNCP_OK) {
        comm_keep(c, gdncp_layout_create(GDNCP_LAYOUT_CONTIGUOUS, cu_seqlens, 1, c->size,
                                         &c->contiguous));
    }
    if (c->status == GDNCP_OK) {
        list_holders(c);
    }
    if (c->status == GDNCP_OK) {
        benchmark->setup(c);
    }
}

void comm_case_end(comm_case_t *c)
{
    c->benchmark->end(c);
    gdncp_memory_free(c->in);
    gdncp_memory_free(c->out);
    gdncp_memory_free(c->holder_of);
    gdncp_memory_free(c->place_of);
    gdncp_layout_destroy(c->contiguous);
    gdncp_layout_destroy(c->layout);
}
