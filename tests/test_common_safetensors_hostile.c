/* Files that lie: each must be refused with a sentence, and none may be read out of bounds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "gdncp/memory.h"
#include "gdncp/safetensors.h"
#include "random.h"

static char path[256];

static int make_file(void **state)
{
    const char *const parent = getenv("TMPDIR");

    (void)state;
    snprintf(path, sizeof path, "%s/gdncp-hostile-XXXXXX", parent != NULL ? parent : "/tmp");
    return close(mkstemp(path));
}

static int remove_file(void **state)
{
    (void)state;
    return unlink(path);
}

static void write_bytes(const void *bytes, size_t size)
{
    FILE *const stream = fopen(path, "wb");

    assert_non_null(stream);
    assert_int_equal(fwrite(bytes, 1, size, stream), size);
    assert_int_equal(fclose(stream), 0);
}

/* The length, the header padded to 8 bytes, and data_bytes of data; returns the size. */
static size_t compose(const char *header, size_t data_bytes, unsigned char *bytes, size_t room)
{
    const uint64_t padded = (strlen(header) + 7) / 8 * 8;
    const size_t size = 8 + (size_t)padded + data_bytes;

    assert_true(size <= room);
    memcpy(bytes, &padded, 8);
    memset(bytes + 8, ' ', padded);
    memcpy(bytes + 8, header, strlen(header));
    memset(bytes + 8 + padded, 0x5a, data_bytes);
    return size;
}

static void write_file(const char *header, size_t data_bytes)
{
    unsigned char bytes[4096];

    write_bytes(bytes, compose(header, data_bytes, bytes, sizeof bytes));
}

static void check_refused(gdncp_status_t expected, const char *sentence)
{
    gdncp_memory_usage_t usage = {0};
    gdncp_safetensors_t *file = NULL;

    gdncp_memory_track(&usage);
    const gdncp_status_t status = gdncp_safetensors_open(path, &file);

    gdncp_memory_track(NULL);
    assert_int_equal(status, expected);
    assert_null(file);
    assert_int_equal(usage.current_bytes, 0);
    assert_memory_equal(gdncp_last_error(), path, strlen(path));
    if (strstr(gdncp_last_error(), sentence) == NULL) {
        fail_msg("expected \"%s\" in \"%s\"", sentence, gdncp_last_error());
    }
}

#define TENSOR(dtype, shape, offsets)                                                              \
    "{\"x\":{\"dtype\":" dtype ",\"shape\":" shape ",\"data_offsets\":" offsets "}}"
#define TWO(first, second)                                                                         \
    "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":" first "},"                         \
    "\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":" second "}}"

static const struct {
    const char *header;
    size_t data_bytes;
    const char *sentence;
} hostile[] = {
    {"{", 0, "header: expected JSON"},
    {"{\"x\"", 0, "header: expected JSON"},
    {"{} x", 0, "header: expected JSON"},
    {"{'x':1}", 0, "header: expected JSON"},
    {"{\"\xff\":1}", 0, "header: expected JSON"},
    {"{\"a\\u0000b\":1}", 0, "header: expected JSON"},
    {"[]", 0, "header: expected to begin with {, got byte 0x5b"},
    {" {}", 0, "header: expected to begin with {, got byte 0x20"},
    {"not json", 0, "header: expected to begin with {"},
    {"{\"x\":1,\"x\":2}", 0, "duplicate"},
    {"{\"x\":{\"dtype\":\"F32\",\"dtype\":\"I8\"}}", 0, "duplicate"},
    {"{\"\":{}}", 0, "tensor name: expected text without control characters, got an empty one"},
    {"{\"a\\nb\":{}}", 0, "tensor name"},
    {"{\"a\\u007fb\":{}}", 0, "tensor name"},
    {"{\"x\":1}", 0, "tensor \"x\": expected an object, got an integer"},
    {"{\"x\":null}", 0, "tensor \"x\": expected an object, got null"},
    {"{\"x\":{}}", 0, "tensor \"x\": dtype: expected a string, got nothing"},
    {"{\"__metadata__\":[]}", 0, "__metadata__: expected an object, got an array"},
    {"{\"__metadata__\":{\"k\":1}}", 0, "__metadata__: value of \"k\": expected a string"},
    {"{\"__metadata__\":{\"k\":\"1\",\"k\":\"2\"}}", 0, "duplicate"},
    {TENSOR("7", "[1]", "[0,4]"), 4, "dtype: expected a string, got an integer"},
    {TENSOR("null", "[1]", "[0,4]"), 4, "dtype: expected a string, got null"},
    {TENSOR("\"F32\"", "4", "[0,4]"), 4, "shape: expected an array, got an integer"},
    {TENSOR("\"F32\"", "{}", "[0,4]"), 4, "shape: expected an array, got an object"},
    {TENSOR("\"F32\"", "[1.0]", "[0,4]"), 4, "shape[0]: expected an integer, got a number"},
    {TENSOR("\"F32\"", "[1,\"1\"]", "[0,4]"), 4, "shape[1]: expected an integer, got a string"},
    {TENSOR("\"F32\"", "[true]", "[0,4]"), 4, "shape[0]: expected an integer, got a boolean"},
    {TENSOR("\"F32\"", "[-1]", "[0,4]"), 4, "shape[0]: expected 0 or more, got -1"},
    {TENSOR("\"F32\"", "[-1,-1]", "[0,4]"), 4, "shape[0]: expected 0 or more, got -1"},
    {TENSOR("\"F32\"", "[1e400]", "[0,4]"), 4, "header: expected JSON"},
    {TENSOR("\"F32\"", "[9223372036854775808]", "[0,4]"), 4, "header: expected JSON"},
    {TENSOR("\"F32\"", "[4611686018427387904]", "[0,4]"), 4, "data_offsets: expected 46116"},
    {TENSOR("\"F32\"", "[4294967296,4294967297]", "[0,4]"), 4, "expected fewer than 2^63"},
    {TENSOR("\"F32\"", "[0,4294967296,4294967296]", "[0,0]"), 0, "expected fewer than 2^63"},
    {TENSOR("\"F32\"", "[3]", "[0,8]"), 8, "expected 3 elements of 4 bytes, got 8 bytes"},
    {TENSOR("\"F32\"", "[]", "[0,0]"), 0, "expected 1 elements of 4 bytes, got 0 bytes"},
    {TENSOR("\"F32\"", "[0]", "[0,4]"), 4, "expected 0 elements of 4 bytes, got 4 bytes"},
    {TENSOR("\"BOOL\"", "[3]", "[0,4]"), 4, "expected 3 elements of 1 bytes, got 4 bytes"},
    {TENSOR("\"F32\"", "[1]", "{}"), 4, "data_offsets: expected [begin, end], got an object"},
    {TENSOR("\"F32\"", "[1]", "[0]"), 4, "data_offsets: expected [begin, end], got an array of 1"},
    {TENSOR("\"F32\"", "[1]", "[0,4,4]"), 4, "data_offsets: expected [begin, end]"},
    {TENSOR("\"F32\"", "[1]", "[\"0\",4]"), 4, "data_offsets[0]: expected an integer"},
    {TENSOR("\"F32\"", "[1]", "[0,4.0]"), 4, "data_offsets[1]: expected an integer"},
    {TENSOR("\"F32\"", "[1]", "[-4,0]"), 4, "data_offsets[0]: expected 0 or more, got -4"},
    {TENSOR("\"F32\"", "[1]", "[4,0]"), 4, "data_offsets: expected a range inside"},
    {TENSOR("\"F32\"", "[2]", "[0,8]"), 4, "inside the 4 bytes of data, got [0, 8]"},
    {TENSOR("\"F32\"", "[1]", "[9223372036854775803,9223372036854775807]"), 4, "inside the 4"},
    {TENSOR("\"F32\"", "[1]", "[0,4]"), 8, "data: expected 4 bytes, where the last tensor ends"},
    {TENSOR("\"F32\"", "[1]", "[4,8]"), 8, "expected to begin at 0"},
    {"{}", 8, "data: expected 0 bytes"},
    {TWO("[0,8]", "[0,8]"), 16, "tensor \"b\": data_offsets: expected to begin at 8"},
    {TWO("[0,8]", "[4,12]"), 12, "tensor \"b\": data_offsets: expected to begin at 8"},
    {TWO("[0,8]", "[12,20]"), 20, "tensor \"b\": data_offsets: expected to begin at 8"},
    {TWO("[8,16]", "[4,12]"), 16, "tensor \"b\": data_offsets: expected to begin at 0"},
    {"{\"a\":{\"dtype\":\"I8\",\"shape\":[1],\"data_offsets\":[0,1]},"
     "\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[1,5]}}",
     5, "tensor \"b\": data_offsets: expected data at a multiple of 4 bytes"},
    {"{\"a\":{\"dtype\":\"I8\",\"shape\":[4],\"data_offsets\":[0,4]},"
     "\"b\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[2,2]}}",
     4, "tensor \"b\": data_offsets: expected data at a multiple of 4 bytes"},
};

static void hostile_headers_are_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof hostile / sizeof hostile[0]; i++) {
        write_file(hostile[i].header, hostile[i].data_bytes);
        check_refused(GDNCP_ERR_FORMAT, hostile[i].sentence);
    }
}

static void lying_header_lengths_are_refused(void **state)
{
    static const uint64_t lengths[] = {
        0,
        1,
        65,
        72,
        73,
        1u << 25,
        INT64_MAX - 7,
        INT64_MAX,
        (uint64_t)INT64_MAX + 1,
        UINT64_MAX,
        UINT64_MAX - 7,
    };
    unsigned char bytes[4096];
    const size_t size = compose(TENSOR("\"I8\"", "[]", "[0,1]"), 1, bytes, sizeof bytes);

    (void)state;
    assert_int_equal(size, 65); /* a header of 56 bytes */
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        memcpy(bytes, &lengths[i], 8);
        write_bytes(bytes, size);
        check_refused(GDNCP_ERR_FORMAT, "header length: expected 2..57, got ");
    }
    /* One byte more takes the tensor's data into the header. */
    memcpy(bytes, &(uint64_t){57}, 8);
    write_bytes(bytes, size);
    check_refused(GDNCP_ERR_FORMAT, "header: expected JSON");
}

static void a_huge_header_is_refused(void **state)
{
    const uint64_t length = 1 << 25;

    (void)state;
    write_bytes(&length, sizeof length);
    assert_int_equal(truncate(path, 1 << 26), 0);
    check_refused(GDNCP_ERR_FORMAT, "header length: expected 2..16777216, got 33554432");
}

static void deep_nesting_is_refused(void **state)
{
    enum { depth = 100000 };
    char *const bytes = malloc(8 + depth);

    (void)state;
    memcpy(bytes, &(uint64_t){depth}, 8);
    memset(bytes + 8, '[', depth);
    memcpy(bytes + 8, "{\"x\":", 5);
    write_bytes(bytes, 8 + depth);
    free(bytes);
    check_refused(GDNCP_ERR_FORMAT, "header: expected JSON");
}

static void every_truncation_is_refused(void **state)
{
    unsigned char bytes[4096];
    const size_t size = compose("{\"__metadata__\":{\"k\":\"v\"},"
                                "\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
                                "\"b\":{\"dtype\":\"I8\",\"shape\":[3],\"data_offsets\":[8,11]}}",
                                11, bytes, sizeof bytes);
    gdncp_safetensors_t *file = NULL;

    (void)state;
    for (size_t length = 0; length < size; length++) {
        write_bytes(bytes, length);
        check_refused(GDNCP_ERR_FORMAT, "expected");
    }
    write_bytes(bytes, size);
    assert_int_equal(gdncp_safetensors_open(path, &file), GDNCP_OK);
    gdncp_safetensors_close(file);
}

static void what_is_no_file_is_an_io_error(void **state)
{
    (void)state;
    assert_int_equal(unlink(path), 0);
    check_refused(GDNCP_ERR_IO, "cannot open");
    assert_int_equal(mkfifo(path, 0600), 0);
    check_refused(GDNCP_ERR_IO, "expected a regular file");
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkdir(path, 0700), 0);
    check_refused(GDNCP_ERR_IO, "expected a regular file");
    assert_int_equal(rmdir(path), 0);
    write_bytes("", 0);
}

/* They may lie in a file whose other tensors are wanted. */
static void tensors_without_a_name_in_gdncp_open_but_cannot_be_had(void **state)
{
    gdncp_safetensors_t *file = NULL;
    gdncp_tensor_t tensor = {.ndim = 77};

    (void)state;
    write_file("{\"mask\":{\"dtype\":\"BOOL\",\"shape\":[3],\"data_offsets\":[0,3]},"
               "\"scale\":{\"dtype\":\"F8_E8M0\",\"shape\":[1],\"data_offsets\":[3,4]},"
               "\"next\":{\"dtype\":\"F4\",\"shape\":[8],\"data_offsets\":[4,8]},"
               "\"deep\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1],\"data_offsets\":[8,12]},"
               "\"good\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1],\"data_offsets\":[12,16]}}",
               16);
    assert_int_equal(gdncp_safetensors_open(path, &file), GDNCP_OK);
    assert_int_equal(gdncp_safetensors_get(file, "mask", &tensor), GDNCP_ERR_FORMAT);
    assert_non_null(strstr(gdncp_last_error(), "\"mask\": dtype: expected F32"));
    assert_int_equal(gdncp_safetensors_get(file, "scale", &tensor), GDNCP_ERR_FORMAT);
    assert_non_null(strstr(gdncp_last_error(), "got F8_E8M0"));
    assert_int_equal(gdncp_safetensors_get(file, "next", &tensor), GDNCP_ERR_FORMAT);
    assert_non_null(strstr(gdncp_last_error(), "got F4"));
    assert_int_equal(gdncp_safetensors_get(file, "deep", &tensor), GDNCP_ERR_FORMAT);
    assert_non_null(strstr(gdncp_last_error(), "shape: expected 5 dimensions at most, got 6"));
    assert_int_equal(gdncp_safetensors_get(file, "absent", &tensor), GDNCP_ERR_FORMAT);
    assert_non_null(strstr(gdncp_last_error(), "name: expected one of the file's 5 tensors"));
    assert_int_equal(gdncp_safetensors_get(file, "__metadata__", &tensor), GDNCP_ERR_FORMAT);
    assert_int_equal(tensor.ndim, 77);
    assert_int_equal(gdncp_safetensors_get(file, "good", &tensor), GDNCP_OK);
    assert_int_equal(((const unsigned char *)tensor.data)[3], 0x5a);
    gdncp_safetensors_close(file);
}

/* Reads every byte of every tensor; the file's size bounds where they may lie. */
static void read_whole(const gdncp_safetensors_t *file, int64_t file_bytes)
{
    int64_t total = 0;

    for (int64_t i = 0; i < gdncp_safetensors_num_tensors(file); i++) {
        gdncp_tensor_t tensor;

        if (gdncp_safetensors_get(file, gdncp_safetensors_name(file, i), &tensor) == GDNCP_OK) {
            const int64_t bytes =
                gdncp_tensor_num_elements(&tensor) * (int64_t)gdncp_dtype_size(tensor.dtype);

            assert_true(bytes >= 0);
            for (int64_t j = 0; j < bytes; j++) {
                total += ((const volatile unsigned char *)tensor.data)[j] != 0;
            }
            assert_int_equal((uintptr_t)tensor.data % gdncp_dtype_size(tensor.dtype), 0);
        }
    }
    assert_true(total <= file_bytes);
}

static void random_damage_is_survived(void **state)
{
    static const char letters[] = "0123456789-[]{}\",:eF3264IBOUL\\u ";
    test_random_t random = test_random_start("random_damage_is_survived", 22);
    unsigned char good[4096];
    const size_t size = compose("{\"__metadata__\":{\"k\":\"v\"},"
                                "\"a\":{\"dtype\":\"F32\",\"shape\":[2,1],\"data_offsets\":[0,8]},"
                                "\"b\":{\"dtype\":\"I16\",\"shape\":[4],\"data_offsets\":[8,16]}}",
                                16, good, sizeof good);
    int opened = 0;

    (void)state;
    for (int round = 0; round < 5000; round++) {
        unsigned char bytes[4096];
        gdncp_safetensors_t *file = NULL;
        const int64_t damages = test_random_int(&random, 1, 3);

        memcpy(bytes, good, size);
        for (int64_t i = 0; i < damages; i++) {
            const int64_t where = test_random_int(&random, 0, (int64_t)size - 1);
            const bool is_text = where >= 8 && test_random_int(&random, 0, 3) > 0;

            bytes[where] =
                is_text ? (unsigned char)
                              letters[test_random_int(&random, 0, (int64_t)sizeof letters - 2)]
                        : (unsigned char)test_random_u64(&random);
        }
        write_bytes(bytes, size);
        const gdncp_status_t status = gdncp_safetensors_open(path, &file);

        if (status == GDNCP_OK) {
            opened++;
            read_whole(file, (int64_t)size);
            gdncp_safetensors_close(file);
        } else {
            assert_int_equal(status, GDNCP_ERR_FORMAT);
            assert_null(file);
        }
    }
    /* Damage to names, data and padding does no harm; most of the rest does. */
    assert_true(opened > 100 && opened < 4000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(hostile_headers_are_refused, make_file, remove_file),
        cmocka_unit_test_setup_teardown(lying_header_lengths_are_refused, make_file, remove_file),
        cmocka_unit_test_setup_teardown(a_huge_header_is_refused, make_file, remove_file),
        cmocka_unit_test_setup_teardown(deep_nesting_is_refused, make_file, remove_file),
        cmocka_unit_test_setup_teardown(every_truncation_is_refused, make_file, remove_file),
        cmocka_unit_test_setup_teardown(what_is_no_file_is_an_io_error, make_file, remove_file),
        cmocka_unit_test_setup_teardown(tensors_without_a_name_in_gdncp_open_but_cannot_be_had,
                                        make_file, remove_file),
        cmocka_unit_test_setup_teardown(random_damage_is_survived, make_file, remove_file),
    };

    return cmocka_run_group_tests_name("safetensors_hostile", tests, NULL, NULL);
}
