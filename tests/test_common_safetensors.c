/* Files that are made as they should be: what is written is read back, and dumps of others open. */
#include <math.h>
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

static char folder[256];
static char path[512];

static int make_folder(void **state)
{
    const char *const parent = getenv("TMPDIR");

    (void)state;
    snprintf(folder, sizeof folder, "%s/gdncp-XXXXXX", parent != NULL ? parent : "/tmp");
    if (mkdtemp(folder) == NULL) {
        return -1;
    }
    snprintf(path, sizeof path, "%s/file.safetensors", folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(folder); /* fails where a temporary was left behind */
}

static void check_same_tensor(const gdncp_safetensors_t *file, const gdncp_named_tensor_t *wanted)
{
    gdncp_tensor_t tensor;

    memset(&tensor, 0xa5, sizeof tensor);
    assert_int_equal(gdncp_safetensors_get(file, wanted->name, &tensor), GDNCP_OK);
    assert_int_equal(tensor.dtype, wanted->tensor.dtype);
    assert_int_equal(tensor.device, GDNCP_DEVICE_CPU);
    assert_int_equal(tensor.ndim, wanted->tensor.ndim);
    assert_non_null(tensor.data);
    assert_int_equal((uintptr_t)tensor.data % gdncp_dtype_size(tensor.dtype), 0);
    for (int i = 0; i < tensor.ndim; i++) {
        assert_int_equal(tensor.shape[i], wanted->tensor.shape[i]);
        assert_int_equal(tensor.strides[i], wanted->tensor.strides[i]);
    }
    assert_memory_equal(tensor.data, wanted->tensor.data,
                        (size_t)gdncp_tensor_num_elements(&tensor) *
                            gdncp_dtype_size(tensor.dtype));
}

static void what_is_written_is_read(void **state)
{
    enum { num_tensors = 13, bytes = 4096 };
    static const char *const metadata[] = {"kind", "round trip", "empty", "", "größe", "\"\\\n"};
    test_random_t random = test_random_start("what_is_written_is_read", 21);
    unsigned char *const data = malloc(bytes);
    gdncp_memory_usage_t usage = {0};
    gdncp_safetensors_t *file = NULL;
    gdncp_safetensors_t *gone = NULL;

    (void)state;
    for (int i = 0; i < bytes; i++) {
        data[i] = (unsigned char)test_random_u64(&random);
    }
    /* Odd byte counts first: each tensor's data must still come out aligned. */
    const gdncp_named_tensor_t tensors[num_tensors] = {
        {"i8", gdncp_tensor_contiguous(data, GDNCP_I8, 1, (const int64_t[]){3})},
        {"f32", gdncp_tensor_contiguous(data + 8, GDNCP_F32, 3, (const int64_t[]){2, 3, 5})},
        {"bf16", gdncp_tensor_contiguous(data + 2, GDNCP_BF16, 2, (const int64_t[]){7, 1})},
        {"f64", gdncp_tensor_contiguous(data + 16, GDNCP_F64, 2, (const int64_t[]){4, 4})},
        {"i16", gdncp_tensor_contiguous(data + 6, GDNCP_I16, 1, (const int64_t[]){9})},
        {"f16", gdncp_tensor_contiguous(data, GDNCP_F16, 5, (const int64_t[]){1, 2, 1, 2, 1})},
        {"i64", gdncp_tensor_contiguous(data + 8, GDNCP_I64, 1, (const int64_t[]){2})},
        {"i32", gdncp_tensor_contiguous(data + 4, GDNCP_I32, 0, NULL)},
        {"none", gdncp_tensor_contiguous(data, GDNCP_F64, 2, (const int64_t[]){0, 8})},
        {"u8", gdncp_tensor_contiguous(data + 1, GDNCP_U8, 1, (const int64_t[]){5})},
        {"f8 e4m3", gdncp_tensor_contiguous(data + 9, GDNCP_F8_E4M3, 2, (const int64_t[]){1, 3})},
        {"f8 e5m2", gdncp_tensor_contiguous(data + 3, GDNCP_F8_E5M2, 1, (const int64_t[]){1})},
        {"naïve \"quoted\"", gdncp_tensor_contiguous(data, GDNCP_I8, 1, (const int64_t[]){2})},
    };

    gdncp_memory_track(&usage);
    assert_int_equal(gdncp_safetensors_write(path, tensors, num_tensors, metadata, 3), GDNCP_OK);
    assert_int_equal(gdncp_safetensors_open(path, &file), GDNCP_OK);
    gdncp_memory_track(NULL);
    assert_int_equal(gdncp_safetensors_num_tensors(file), num_tensors);
    for (int i = 0; i < num_tensors; i++) {
        assert_string_equal(gdncp_safetensors_name(file, i), tensors[i].name);
        check_same_tensor(file, &tensors[i]);
    }
    assert_null(gdncp_safetensors_name(file, -1));
    assert_null(gdncp_safetensors_name(file, num_tensors));
    assert_string_equal(gdncp_safetensors_metadata(file, "kind"), "round trip");
    assert_string_equal(gdncp_safetensors_metadata(file, "empty"), "");
    assert_string_equal(gdncp_safetensors_metadata(file, "größe"), "\"\\\n");
    assert_null(gdncp_safetensors_metadata(file, "f32"));
    assert_int_equal(gdncp_safetensors_open("/nonexistent/file", &gone), GDNCP_ERR_IO);
    assert_null(gone);
    gdncp_safetensors_close(file);
    gdncp_safetensors_close(NULL);
    assert_int_equal(usage.current_bytes, 0);
    free(data);
}

/* A dimension of one has no stride to speak of. */
static void strides_of_one_are_free(void **state)
{
    float x[2] = {1.0f, 2.0f};
    gdncp_named_tensor_t named = {
        "x", gdncp_tensor_contiguous(x, GDNCP_F32, 2, (const int64_t[]){1, 2})};
    gdncp_safetensors_t *file = NULL;

    (void)state;
    named.tensor.strides[0] = 99;
    assert_int_equal(gdncp_safetensors_write(path, &named, 1, NULL, 0), GDNCP_OK);
    assert_int_equal(gdncp_safetensors_open(path, &file), GDNCP_OK);
    named.tensor.strides[0] = 2;
    check_same_tensor(file, &named);
    gdncp_safetensors_close(file);
}

static void nothing_is_a_file_too(void **state)
{
    gdncp_safetensors_t *file = NULL;

    (void)state;
    assert_int_equal(gdncp_safetensors_write(path, NULL, 0, NULL, 0), GDNCP_OK);
    assert_int_equal(gdncp_safetensors_open(path, &file), GDNCP_OK);
    assert_int_equal(gdncp_safetensors_num_tensors(file), 0);
    assert_null(gdncp_safetensors_metadata(file, "kind"));
    gdncp_safetensors_close(file);
}

static void an_open_file_survives_its_replacement(void **state)
{
    float before = 1.0f;
    float after = 2.0f;
    const gdncp_named_tensor_t old = {"x", gdncp_tensor_contiguous(&before, GDNCP_F32, 0, NULL)};
    const gdncp_named_tensor_t new = {"x", gdncp_tensor_contiguous(&after, GDNCP_F32, 0, NULL)};
    gdncp_safetensors_t *old_file = NULL;
    gdncp_safetensors_t *new_file = NULL;
    struct stat information;

    (void)state;
    umask(022);
    assert_int_equal(gdncp_safetensors_write(path, &old, 1, NULL, 0), GDNCP_OK);
    assert_int_equal(gdncp_safetensors_open(path, &old_file), GDNCP_OK);
    assert_int_equal(gdncp_safetensors_write(path, &new, 1, NULL, 0), GDNCP_OK);
    assert_int_equal(gdncp_safetensors_open(path, &new_file), GDNCP_OK);
    check_same_tensor(old_file, &old);
    check_same_tensor(new_file, &new);
    gdncp_safetensors_close(old_file);
    gdncp_safetensors_close(new_file);
    assert_int_equal(stat(path, &information), 0);
    assert_int_equal(information.st_mode & 0777, 0644);
}

static void bad_tensors_are_not_written(void **state)
{
    float x[6] = {0};
    const gdncp_tensor_t good = gdncp_tensor_contiguous(x, GDNCP_F32, 2, (const int64_t[]){2, 3});
    gdncp_named_tensor_t bad[8];
    static const char *const sentences[] = {
        "tensors[1].name: expected text",
        "tensors[1].name: expected text",
        "tensors[1] \"x\": dtype",
        "tensors[1] \"x\": device",
        "tensors[1] \"x\": ndim: expected 0..5, got 6",
        "tensors[1] \"x\": shape[1]: expected 0 or more",
        "tensors[1] \"x\": strides[0]: expected 3 (contiguous), got 4",
        "tensors[1] \"x\": data: expected memory, got NULL",
    };

    (void)state;
    for (int i = 0; i < 8; i++) {
        bad[i] = (gdncp_named_tensor_t){"x", good};
    }
    bad[0].name = NULL;
    bad[1].name = "__metadata__";
    bad[2].tensor.dtype = (gdncp_dtype_t)11;
    bad[3].tensor.device = GDNCP_DEVICE_CUDA;
    bad[4].tensor.ndim = 6;
    bad[5].tensor.shape[1] = -1;
    bad[6].tensor.strides[0] = 4;
    bad[7].tensor.data = NULL;
    for (int i = 0; i < 8; i++) {
        const gdncp_named_tensor_t tensors[] = {{"good", good}, bad[i]};

        assert_int_equal(gdncp_safetensors_write(path, tensors, 2, NULL, 0),
                         GDNCP_ERR_INVALID_ARGUMENT);
        assert_memory_equal(gdncp_last_error(), sentences[i], strlen(sentences[i]));
    }
    bad[5].tensor.shape[1] = INT64_MAX / 4;
    assert_int_equal(gdncp_safetensors_write(path, &bad[5], 1, NULL, 0),
                     GDNCP_ERR_INVALID_ARGUMENT);
    assert_non_null(strstr(gdncp_last_error(), "shape[1]"));
    assert_int_equal(access(path, F_OK), -1);
}

static void bad_names_and_metadata_are_not_written(void **state)
{
    float x = 0.0f;
    const gdncp_tensor_t tensor = gdncp_tensor_contiguous(&x, GDNCP_F32, 0, NULL);
    static const char *const twice[] = {"a", "1", "a", "2"};
    static const char *const not_text[] = {"a", "\xff"};
    const gdncp_named_tensor_t doubled[] = {{"x", tensor}, {"x", tensor}};
    char *const long_name = malloc((17 << 20) + 1);
    const struct {
        gdncp_named_tensor_t tensor;
        const char *sentence;
    } names[] = {
        {{"", tensor}, "tensors[0].name: expected text"},
        {{"a\nb", tensor}, "tensors[0].name: expected text"},
        {{"\xff", tensor}, "tensors[0].name: expected UTF-8"},
        {{long_name, tensor}, "tensors: expected names and metadata"},
    };

    (void)state;
    memset(long_name, 'n', 17 << 20);
    long_name[17 << 20] = '\0';
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        assert_int_equal(gdncp_safetensors_write(path, &names[i].tensor, 1, NULL, 0),
                         GDNCP_ERR_INVALID_ARGUMENT);
        assert_non_null(strstr(gdncp_last_error(), names[i].sentence));
    }
    free(long_name);
    assert_int_equal(gdncp_safetensors_write(path, doubled, 2, NULL, 0),
                     GDNCP_ERR_INVALID_ARGUMENT);
    assert_non_null(strstr(gdncp_last_error(), "tensors[1].name: expected each name once"));
    assert_int_equal(gdncp_safetensors_write(path, doubled, 1, twice, 2),
                     GDNCP_ERR_INVALID_ARGUMENT);
    assert_non_null(strstr(gdncp_last_error(), "metadata[2]: expected each key once"));
    assert_int_equal(gdncp_safetensors_write(path, doubled, 1, not_text, 1),
                     GDNCP_ERR_INVALID_ARGUMENT);
    assert_non_null(strstr(gdncp_last_error(), "metadata[0]: expected a key and a value in UTF-8"));
    assert_int_equal(gdncp_safetensors_write(path, doubled, -1, NULL, 0),
                     GDNCP_ERR_INVALID_ARGUMENT);
    assert_non_null(strstr(gdncp_last_error(), "num_tensors"));
    assert_int_equal(gdncp_safetensors_write(path, doubled, 1, NULL, -1),
                     GDNCP_ERR_INVALID_ARGUMENT);
    assert_non_null(strstr(gdncp_last_error(), "num_metadata"));
    assert_int_equal(access(path, F_OK), -1);
}

static void a_failed_write_leaves_what_was_there(void **state)
{
    float x = 3.0f;
    const gdncp_named_tensor_t tensor = {"x", gdncp_tensor_contiguous(&x, GDNCP_F32, 0, NULL)};

    (void)state;
    /* A directory cannot be replaced by a file. */
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(gdncp_safetensors_write(path, &tensor, 1, NULL, 0), GDNCP_ERR_IO);
    assert_non_null(strstr(gdncp_last_error(), path));
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(gdncp_safetensors_write("/nonexistent/x", &tensor, 1, NULL, 0), GDNCP_ERR_IO);
    assert_non_null(strstr(gdncp_last_error(), "cannot create"));
}

static const char *const dumps[] = {
    "layer_olmo_hybrid",           "layer_qwen3_5_batch2",
    "layer_qwen3_5_packed",        "layer_qwen3_next",
    "layer_qwen3_next_d128",       "rule_basic",
    "rule_correlated_keys",        "rule_d60",
    "rule_gva_odd_length",         "rule_negative_eigenvalues",
    "rule_no_decay_initial_state", "rule_packed",
    "rule_strong_decay",
};

/* Every tensor of the dumps comes back from a copy, and has no NaN. */
static void dumps_open_and_copy(void **state)
{
    (void)state;
    for (size_t d = 0; d < sizeof dumps / sizeof dumps[0]; d++) {
        char dump[512];
        gdncp_safetensors_t *file = NULL;
        gdncp_safetensors_t *copy = NULL;

        snprintf(dump, sizeof dump, "%s/%s.safetensors", GDNCP_TEST_DATA, dumps[d]);
        assert_int_equal(gdncp_safetensors_open(dump, &file), GDNCP_OK);
        const int64_t count = gdncp_safetensors_num_tensors(file);
        gdncp_named_tensor_t *const tensors = calloc((size_t)count, sizeof *tensors);

        assert_true(count > 5);
        for (int64_t i = 0; i < count; i++) {
            gdncp_tensor_t *const tensor = &tensors[i].tensor;

            tensors[i].name = gdncp_safetensors_name(file, i);
            assert_int_equal(gdncp_safetensors_get(file, tensors[i].name, tensor), GDNCP_OK);
            for (int64_t j = 0; tensor->dtype == GDNCP_F32 && j < gdncp_tensor_num_elements(tensor);
                 j++) {
                assert_true(isfinite(((const float *)tensor->data)[j]));
            }
        }
        assert_int_equal(gdncp_safetensors_write(path, tensors, count, NULL, 0), GDNCP_OK);
        assert_int_equal(gdncp_safetensors_open(path, &copy), GDNCP_OK);
        assert_int_equal(gdncp_safetensors_num_tensors(copy), count);
        for (int64_t i = 0; i < count; i++) {
            check_same_tensor(copy, &tensors[i]);
        }
        gdncp_safetensors_close(copy);
        gdncp_safetensors_close(file);
        free(tensors);
    }
}

static void a_dump_holds_what_its_header_says(void **state)
{
    gdncp_safetensors_t *file = NULL;
    gdncp_tensor_t tensor;

    (void)state;
    assert_int_equal(gdncp_safetensors_open(GDNCP_TEST_DATA "/rule_d60.safetensors", &file),
                     GDNCP_OK);
    assert_string_equal(gdncp_safetensors_metadata(file, "key_head_dim"), "60");
    assert_string_equal(gdncp_safetensors_name(file, 0), "cu_seqlens");
    assert_int_equal(gdncp_safetensors_get(file, "cu_seqlens", &tensor), GDNCP_OK);
    assert_int_equal(tensor.dtype, GDNCP_I64);
    assert_int_equal(((const int64_t *)tensor.data)[1], 75);
    assert_int_equal(gdncp_safetensors_get(file, "v", &tensor), GDNCP_OK);
    assert_int_equal(tensor.ndim, 3);
    assert_int_equal(tensor.shape[0], 75);
    assert_int_equal(tensor.shape[1], 2);
    assert_int_equal(tensor.shape[2], 100);
    gdncp_safetensors_close(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_written_is_read, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(strides_of_one_are_free, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(nothing_is_a_file_too, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(an_open_file_survives_its_replacement, make_folder,
                                        remove_folder),
        cmocka_unit_test_setup_teardown(bad_tensors_are_not_written, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(bad_names_and_metadata_are_not_written, make_folder,
                                        remove_folder),
        cmocka_unit_test_setup_teardown(a_failed_write_leaves_what_was_there, make_folder,
                                        remove_folder),
        cmocka_unit_test_setup_teardown(dumps_open_and_copy, make_folder, remove_folder),
        cmocka_unit_test(a_dump_holds_what_its_header_says),
    };

    return cmocka_run_group_tests_name("safetensors", tests, NULL, NULL);
}
