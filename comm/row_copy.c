#include "row_copy.h"

#include <stdint.h>
#include <string.h>

#ifdef __x86_64__
#include <immintrin.h>

enum {
    LINE = 64,
    PAGE = 4096,
    LEAST_BYTES = 512,      /* fewer are not worth the partial lines at both ends */
    LINES_AHEAD = 16,       /* of the next page; the processor fetches the rest by itself */
    BYTES_OWNED_AHEAD = 512 /* of the target, which another core may hold */
};

/* Copies whole lines; to is aligned to one. */
typedef void copy_lines_t(char *to, const char *from, size_t lines);

__attribute__((target("avx512f"))) static void stream_lines_512(char *to, const char *from,
                                                                size_t lines)
{
    for (; lines >= 4; lines -= 4, from += 4 * LINE, to += 4 * LINE) {
        const __m512i a = _mm512_loadu_si512(from);
        const __m512i b = _mm512_loadu_si512(from + LINE);
        const __m512i c = _mm512_loadu_si512(from + 2 * LINE);
        const __m512i d = _mm512_loadu_si512(from + 3 * LINE);

        _mm512_stream_si512((void *)to, a);
        _mm512_stream_si512((void *)(to + LINE), b);
        _mm512_stream_si512((void *)(to + 2 * LINE), c);
        _mm512_stream_si512((void *)(to + 3 * LINE), d);
    }
    for (; lines > 0; lines--, from += LINE, to += LINE) {
        _mm512_stream_si512((void *)to, _mm512_loadu_si512(from));
    }
}

__attribute__((target("avx512f"))) static void store_lines_512(char *to, const char *from,
                                                               size_t lines)
{
    for (; lines > 0; lines--, from += LINE, to += LINE) {
        __builtin_prefetch(to + BYTES_OWNED_AHEAD, 1);
        _mm512_store_si512((void *)to, _mm512_loadu_si512(from));
    }
}

__attribute__((target("avx"))) static void stream_lines_256(char *to, const char *from,
                                                            size_t lines)
{
    for (; lines > 0; lines--, from += LINE, to += LINE) {
        const __m256i a = _mm256_loadu_si256((const void *)from);
        const __m256i b = _mm256_loadu_si256((const void *)(from + LINE / 2));

        _mm256_stream_si256((void *)to, a);
        _mm256_stream_si256((void *)(to + LINE / 2), b);
    }
}

static void store_lines(char *to, const char *from, size_t lines)
{
    memcpy(to, from, lines * LINE);
}

static copy_lines_t *choose(bool streams)
{
    if (__builtin_cpu_supports("avx512f")) {
        return streams ? stream_lines_512 : store_lines_512;
    }
    return streams && __builtin_cpu_supports("avx") ? stream_lines_256 : store_lines;
}

static void fetch_ahead(const char *from)
{
    for (int line = 0; line < LINES_AHEAD; line++) {
        _mm_prefetch(from + line * LINE, _MM_HINT_T1);
    }
}

void gdncp_copy_row(void *to, const void *from, size_t bytes, const void *next, bool streams)
{
    if (bytes < LEAST_BYTES) {
        memcpy(to, from, bytes);
        return;
    }
    copy_lines_t *const copy_lines = choose(streams);
    const size_t head = -(uintptr_t)to % LINE;
    char *target = (char *)to + head;
    const char *source = (const char *)from + head;
    size_t rest = bytes - head;

    memcpy(to, from, head);
    while (rest >= LINE) {
        const size_t in_page = (PAGE - (uintptr_t)source % PAGE + LINE - 1) / LINE;
        const size_t lines = in_page < rest / LINE ? in_page : rest / LINE;
        const char *const ahead = lines * LINE + LINE <= rest ? source + lines * LINE : next;

        if (ahead != NULL) {
            fetch_ahead(ahead);
        }
        copy_lines(target, source, lines);
        target += lines * LINE;
        source += lines * LINE;
        rest -= lines * LINE;
    }
    memcpy(target, source, rest);
}

void gdncp_copy_fence(void)
{
    _mm_sfence();
}

#else

void gdncp_copy_row(void *to, const void *from, size_t bytes, const void *next, bool streams)
{
    (void)next;
    (void)streams;
    memcpy(to, from, bytes);
}

void gdncp_copy_fence(void)
{
}

#endif
