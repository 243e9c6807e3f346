/*
 * Golden vectors of the wrappers of kernel.h.
 *
 *     wrapper_goldens write FILE   random inputs and what the device (GDNCP_CUDA) makes of them
 *     wrapper_goldens check FILE   whether it makes the same of a file's inputs
 *     wrapper_goldens catch        whether check sees a wrong word of each wrapper
 *
 * Written on a GPU and checked in the emulator, they show what both sides of kernel.h could
 * otherwise believe wrongly together: the layouts of fragments.
 */
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend.h"
#include "gdncp/device.h"
#include "gdncp/safetensors.h"
#include "random.h"
#include "wrappers.h"

enum { BLOCKS = 8, LANES = 32, MAX_WRAPPERS = 64, NAME_BYTES = 64 };

/* Of float32 with absolute values about 1 in sums of 16 products: far less than any product. */
#define SUM_TOLERANCE 4e-5
/* Relative, of functions: few units in the last place. */
#define FUNCTION_TOLERANCE 1e-6

static float as_float(uint32_t word)
{
    float value;

    memcpy(&value, &word, sizeof value);
    return value;
}

static uint32_t as_word(float value)
{
    uint32_t word;

    memcpy(&word, &value, sizeof word);
    return word;
}

static uint32_t draw_pair(test_random_t *random, gdncp_dtype_t dtype)
{
    const float values[2] = {(float)test_random_normal(random), (float)test_random_normal(random)};
    uint32_t word = 0;

    (void)gdncp_convert_from_f32(values, 2, dtype, &word);
    return word;
}

static uint32_t draw_word(const wrapper_t *wrapper, int place, test_random_t *random)
{
    const float normal = (float)test_random_normal(random);

    /* d, behind a [4] and b [2] */
    if (wrapper->words != WRAPPER_BITS && wrapper->num_in == 10 && place >= 6) {
        return as_word(normal);
    }
    switch (wrapper->words) {
    case WRAPPER_BF16:
        return draw_pair(random, GDNCP_BF16);
    case WRAPPER_F16:
        return draw_pair(random, GDNCP_F16);
    case WRAPPER_TF32:
        return as_word(normal) & 0xffffe000u;
    case WRAPPER_FUNCTIONS:
        return as_word((float)(40.0 * test_random_uniform(random) - 20.0));
    default:
        return (uint32_t)test_random_u64(random);
    }
}

static gdncp_status_t launch(int number, const uint32_t *in, uint32_t *out)
{
    const gdncp_backend_t *backend;
    gdncp_status_t status = gdncp_backend_find(&backend);

    if (status != GDNCP_OK) {
        return status;
    }
#ifdef GDNCP_HAVE_CUDA
    if (backend == &gdncp_backend_cuda) {
        return wrapper_launch_cuda(number, BLOCKS, in, out, NULL);
    }
#endif
#ifdef GDNCP_HAVE_EMULATOR
    if (backend == &gdncp_backend_emulated) {
        return wrapper_launch_emulated(number, BLOCKS, in, out, NULL);
    }
#endif
    return GDNCP_ERR_NOT_SUPPORTED;
}

/* out [BLOCKS, LANES, num_out] of in [BLOCKS, LANES, num_in], both on the host. */
static gdncp_status_t run(int number, const uint32_t *in, uint32_t *out)
{
    const wrapper_t *const wrapper = wrapper_number(number);
    const size_t in_bytes = sizeof *in * BLOCKS * LANES * (size_t)wrapper->num_in;
    const size_t out_bytes = sizeof *out * BLOCKS * LANES * (size_t)wrapper->num_out;
    void *on_device[2] = {NULL, NULL};
    gdncp_status_t status = gdncp_device_alloc(GDNCP_DEVICE_CUDA, in_bytes, &on_device[0]);

    if (status == GDNCP_OK) {
        status = gdncp_device_alloc(GDNCP_DEVICE_CUDA, out_bytes, &on_device[1]);
    }
    if (status == GDNCP_OK) {
        status = gdncp_device_copy(GDNCP_DEVICE_CUDA, on_device[0], in, in_bytes, NULL);
    }
    if (status == GDNCP_OK) {
        status = launch(number, on_device[0], on_device[1]);
    }
    if (status == GDNCP_OK) {
        status = gdncp_device_copy(GDNCP_DEVICE_CUDA, out, on_device[1], out_bytes, NULL);
    }
    if (status == GDNCP_OK) {
        status = gdncp_stream_synchronize(GDNCP_DEVICE_CUDA, NULL);
    }
    gdncp_device_free(GDNCP_DEVICE_CUDA, on_device[1]);
    gdncp_device_free(GDNCP_DEVICE_CUDA, on_device[0]);
    return status;
}

static bool is_same(const wrapper_t *wrapper, uint32_t got, uint32_t expected)
{
    if (got == expected) {
        return true;
    }
    if (!wrapper->as_floats) {
        return false;
    }
    const double a = (double)as_float(got);
    const double b = (double)as_float(expected);

    if (isnan(a) && isnan(b)) {
        return true;
    }
    switch (wrapper->words) {
    case WRAPPER_BITS:
        return false;
    case WRAPPER_FUNCTIONS:
        return fabs(a - b) <= FUNCTION_TOLERANCE * fabs(b);
    default:
        return fabs(a - b) <= SUM_TOLERANCE;
    }
}

/* Number of words that differ; prints the first. */
static int compare(const wrapper_t *wrapper, const uint32_t *got, const uint32_t *expected)
{
    int count = 0;

    for (int i = 0; i < BLOCKS * LANES * wrapper->num_out; i++) {
        if (!is_same(wrapper, got[i], expected[i]) && count++ == 0) {
            const int lane = i / wrapper->num_out;

            printf("%s: word %d of lane %d of block %d: expected %08x (%g), got %08x (%g)\n",
                   wrapper->name, i % wrapper->num_out, lane % LANES, lane / LANES, expected[i],
                   (double)as_float(expected[i]), got[i], (double)as_float(got[i]));
        }
    }
    return count;
}

/* Inputs and outputs of every wrapper. */
typedef struct goldens {
    uint32_t *in[MAX_WRAPPERS];
    uint32_t *out[MAX_WRAPPERS];
    int count;
} goldens_t;

static void *alloc_words(int num_words)
{
    void *const words = calloc((size_t)BLOCKS * LANES * (size_t)num_words, sizeof(uint32_t));

    if (words == NULL) {
        abort();
    }
    return words;
}

static gdncp_status_t make(goldens_t *goldens)
{
    test_random_t random = {.state = 20261121};
    gdncp_status_t status = GDNCP_OK;

    for (int n = 0; wrapper_number(n) != NULL && status == GDNCP_OK; n++) {
        const wrapper_t *const wrapper = wrapper_number(n);

        goldens->in[n] = alloc_words(wrapper->num_in);
        goldens->out[n] = alloc_words(wrapper->num_out);
        goldens->count = n + 1;
        for (int i = 0; i < BLOCKS * LANES * wrapper->num_in; i++) {
            goldens->in[n][i] = draw_word(wrapper, i % wrapper->num_in, &random);
        }
        status = run(n, goldens->in[n], goldens->out[n]);
    }
    return status;
}

static void release(goldens_t *goldens)
{
    for (int n = 0; n < goldens->count; n++) {
        free(goldens->in[n]);
        free(goldens->out[n]);
    }
}

static gdncp_status_t write_goldens(const char *path)
{
    static char names[2 * MAX_WRAPPERS][NAME_BYTES];
    gdncp_named_tensor_t tensors[2 * MAX_WRAPPERS];
    goldens_t goldens = {.count = 0};
    gdncp_device_info_t info = {.name = "?"};
    gdncp_status_t status = make(&goldens);
    int count = 0;

    for (int n = 0; n < goldens.count; n++) {
        const wrapper_t *const wrapper = wrapper_number(n);
        const int64_t in_shape[3] = {BLOCKS, LANES, wrapper->num_in};
        const int64_t out_shape[3] = {BLOCKS, LANES, wrapper->num_out};

        snprintf(names[count], NAME_BYTES, "%s.in", wrapper->name);
        tensors[count] = (gdncp_named_tensor_t){
            names[count], gdncp_tensor_contiguous(goldens.in[n], GDNCP_I32, 3, in_shape)};
        count++;
        snprintf(names[count], NAME_BYTES, "%s.out", wrapper->name);
        tensors[count] = (gdncp_named_tensor_t){
            names[count], gdncp_tensor_contiguous(goldens.out[n], GDNCP_I32, 3, out_shape)};
        count++;
    }
    if (status == GDNCP_OK) {
        status = gdncp_device_describe(GDNCP_DEVICE_CUDA, &info);
    }
    if (status == GDNCP_OK) {
        const char *const metadata[2] = {"device", info.name};

        status = gdncp_safetensors_write(path, tensors, count, metadata, 1);
    }
    release(&goldens);
    return status;
}

/* A tensor of a file with so many words a lane, or NULL. */
static const uint32_t *words_of(const gdncp_safetensors_t *file, const wrapper_t *wrapper,
                                const char *what, int num_words)
{
    char name[NAME_BYTES];
    gdncp_tensor_t tensor;

    snprintf(name, sizeof name, "%s.%s", wrapper->name, what);
    if (gdncp_safetensors_get(file, name, &tensor) != GDNCP_OK) {
        printf("%s\n", gdncp_last_error());
        return NULL;
    }
    if (tensor.dtype != GDNCP_I32 || tensor.ndim != 3 || tensor.shape[0] != BLOCKS ||
        tensor.shape[1] != LANES || tensor.shape[2] != num_words) {
        printf("%s: expected i32 [%d, %d, %d]\n", name, BLOCKS, LANES, num_words);
        return NULL;
    }
    return tensor.data;
}

/* Number of wrappers that differ. */
static gdncp_status_t check_goldens(const char *path, int *wrong_p)
{
    gdncp_safetensors_t *file = NULL;
    gdncp_status_t status = gdncp_safetensors_open(path, &file);

    for (int n = 0; wrapper_number(n) != NULL && status == GDNCP_OK; n++) {
        const wrapper_t *const wrapper = wrapper_number(n);
        const uint32_t *const in = words_of(file, wrapper, "in", wrapper->num_in);
        const uint32_t *const out = words_of(file, wrapper, "out", wrapper->num_out);

        if (in == NULL || out == NULL) {
            ++*wrong_p;
            continue;
        }
        uint32_t *const got = alloc_words(wrapper->num_out);

        status = run(n, in, got);
        const int differ = status == GDNCP_OK ? compare(wrapper, got, out) : 0;

        if (status == GDNCP_OK) {
            printf("%-18s %5d words, %d differ\n", wrapper->name, BLOCKS * LANES * wrapper->num_out,
                   differ);
        }
        *wrong_p += differ > 0 ? 1 : 0;
        free(got);
    }
    if (status == GDNCP_OK) {
        const char *const device = gdncp_safetensors_metadata(file, "device");

        printf("goldens of %s\n", device != NULL ? device : "?");
    }
    gdncp_safetensors_close(file);
    return status;
}

/* A product that is left out of a sum, or any other bit, is seen. */
static gdncp_status_t catch_wrong_words(int *wrong_p)
{
    goldens_t goldens = {.count = 0};
    const gdncp_status_t status = make(&goldens);

    for (int n = 0; n < goldens.count && status == GDNCP_OK; n++) {
        const wrapper_t *const wrapper = wrapper_number(n);
        const int num_words = BLOCKS * LANES * wrapper->num_out;
        uint32_t *const changed = alloc_words(wrapper->num_out);
        const int place = (n * 37) % num_words;

        memcpy(changed, goldens.out[n], sizeof *changed * (size_t)num_words);
        if (compare(wrapper, changed, goldens.out[n]) != 0) {
            printf("%s: equal words differ\n", wrapper->name);
            ++*wrong_p;
        }
        changed[place] ^= wrapper->words == WRAPPER_BITS ? 1u << 16 : 1u << 15;
        /* A NaN with other bits is a NaN still. */
        if (compare(wrapper, changed, goldens.out[n]) != 1 &&
            !isnan((double)as_float(goldens.out[n][place]))) {
            printf("%s: a changed word is not seen\n", wrapper->name);
            ++*wrong_p;
        }
        free(changed);
    }
    release(&goldens);
    return status;
}

int main(int argc, char **argv)
{
    gdncp_status_t status = GDNCP_ERR_INVALID_ARGUMENT;
    int wrong = 0;

    if (argc == 3 && strcmp(argv[1], "write") == 0) {
        status = write_goldens(argv[2]);
    } else if (argc == 3 && strcmp(argv[1], "check") == 0) {
        status = check_goldens(argv[2], &wrong);
    } else if (argc == 2 && strcmp(argv[1], "catch") == 0) {
        status = catch_wrong_words(&wrong);
    } else {
        fprintf(stderr, "usage: wrapper_goldens write FILE | check FILE | catch\n");
        return 1;
    }
    if (status != GDNCP_OK) {
        fprintf(stderr, "wrapper_goldens: %s\n", gdncp_last_error());
    }
    return status == GDNCP_OK && wrong == 0 ? 0 : 1;
}
