#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "child_process.h"
#include "comm_internal.h"
#include "comm_operations.h"
#include "deadline.h"

/* Parsed; to be released by json_decref(). */
static json_t *read_record(const gdncp_comm_t *comm)
{
    char *text = NULL;
    size_t size = 0;
    FILE *const stream = open_memstream(&text, &size);
    json_error_t error;

    assert_int_equal(gdncp_comm_write_flight_record(comm, stream), GDNCP_OK);
    fclose(stream);
    json_t *const record = json_loads(text, 0, &error);
    if (record == NULL) {
        fail_msg("%s in %s", error.text, text);
    }
    free(text);
    return record;
}

static json_int_t integer_of(const json_t *object, const char *key)
{
    const json_t *const value = json_object_get(object, key);

    assert_true(json_is_integer(value));
    return json_integer_value(value);
}

static const char *string_of(const json_t *object, const char *key)
{
    const json_t *const value = json_object_get(object, key);

    assert_true(json_is_string(value));
    return json_string_value(value);
}

static const json_t *operation_at(const json_t *record, size_t i)
{
    return json_array_get(json_object_get(record, "operations"), i);
}

static void the_last_operations_are_kept(void **state)
{
    static const int counts[] = {0, 1, 254, 255, 256, 300, 1000};
    const int64_t begin_ns = gdncp_now_ns();

    (void)state;
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        const size_t num_operations = (size_t)counts[i] + 1;
        const size_t num_kept = num_operations < 256 ? num_operations : 256;
        gdncp_comm_t *comm = NULL;
        int64_t last_ns = begin_ns;

        assert_int_equal(gdncp_comm_create_self(&comm), GDNCP_OK);
        for (int n = 0; n < counts[i]; n++) {
            assert_int_equal(gdncp_comm_barrier(comm), GDNCP_OK);
        }
        json_t *const record = read_record(comm);
        assert_int_equal(integer_of(record, "rank"), 0);
        assert_int_equal(integer_of(record, "size"), 1);
        assert_string_equal(string_of(record, "transport"), "self");
        assert_int_equal(json_array_size(json_object_get(record, "operations")), num_kept);
        for (size_t n = 0; n < num_kept; n++) {
            const json_t *const operation = operation_at(record, n);
            const size_t sequence = num_operations - num_kept + n;

            assert_int_equal(integer_of(operation, "sequence"), sequence);
            assert_string_equal(string_of(operation, "name"), sequence == 0 ? "create" : "barrier");
            assert_string_equal(string_of(operation, "status"), "GDNCP_OK");
            assert_true(integer_of(operation, "begin_ns") >= last_ns);
            last_ns = integer_of(operation, "end_ns");
            assert_true(last_ns >= integer_of(operation, "begin_ns"));
        }
        assert_true(integer_of(record, "now_ns") >= last_ns);
        json_decref(record);
        gdncp_comm_destroy(comm);
    }
}

static void exchanges_carry_their_plan(void **state)
{
    gdncp_comm_t *comm = NULL;
    operation_t operation;

    (void)state;
    assert_int_equal(gdncp_comm_create_self(&comm), GDNCP_OK);
    assert_int_equal(make_operation(&operation, comm, OPERATION_CONV_HALO, false, false), GDNCP_OK);
    assert_int_equal(start_operation(&operation), GDNCP_OK);
    for (int is_done = 0; is_done < 2; is_done++) {
        json_t *const record = read_record(comm);
        const json_t *const last =
            operation_at(record, json_array_size(json_object_get(record, "operations")) - 1);

        assert_string_equal(string_of(last, "name"), "conv_halo");
        assert_non_null(strstr(string_of(last, "text"), "f32"));
        assert_int_equal(integer_of(last, "bytes_sent"), gdncp_plan_bytes_sent(operation.plan));
        assert_int_equal(json_is_null(json_object_get(last, "end_ns")), !is_done);
        assert_int_equal(json_is_null(json_object_get(last, "status")), !is_done);
        json_decref(record);
        assert_int_equal(wait_operation(&operation), GDNCP_OK);
    }
    free_operation(&operation);
    gdncp_comm_destroy(comm);
}

static void texts_are_cut_and_escaped(void **state)
{
    gdncp_comm_t *comm = NULL;
    char longest[1000];

    (void)state;
    memset(longest, 'x', sizeof longest);
    longest[sizeof longest - 1] = '\0';
    assert_int_equal(gdncp_comm_create_self(&comm), GDNCP_OK);
    gdncp_flight_begin(comm, "a \"b\" \\ \n c", longest, 1, 2, 7);
    json_t *const record = read_record(comm);
    assert_string_equal(string_of(operation_at(record, 1), "name"), "a \"b\" \\ \n c");
    assert_int_equal(strlen(string_of(operation_at(record, 1), "text")), 159);
    assert_int_equal(integer_of(operation_at(record, 1), "bytes_sent"), 1);
    assert_int_equal(integer_of(operation_at(record, 1), "bytes_received"), 2);
    assert_int_equal(integer_of(operation_at(record, 1), "begin_ns"), 7);
    json_decref(record);
    gdncp_comm_destroy(comm);
}

static void arguments_are_checked(void **state)
{
    gdncp_comm_t *comm = NULL;
    FILE *const full = fopen("/dev/full", "w");

    (void)state;
    assert_int_equal(gdncp_comm_create_self(&comm), GDNCP_OK);
    assert_int_equal(gdncp_comm_write_flight_record(NULL, stdout), GDNCP_ERR_INVALID_ARGUMENT);
    assert_non_null(strstr(gdncp_last_error(), "comm:"));
    assert_int_equal(gdncp_comm_write_flight_record(comm, NULL), GDNCP_ERR_INVALID_ARGUMENT);
    assert_non_null(strstr(gdncp_last_error(), "stream:"));
    assert_int_equal(gdncp_comm_write_flight_record(comm, full), GDNCP_ERR_IO);
    assert_non_null(strstr(gdncp_last_error(), "stream:"));
    fclose(full);
    gdncp_comm_destroy(comm);
}

static void recording_is_cheap(void **state)
{
    enum { NUM = 10000, NUM_TRIES = 30 };
    int64_t least_ns = INT64_MAX;
    char text[192];
    gdncp_comm_t *comm = NULL;

    (void)state;
    memset(text, 't', sizeof text);
    text[sizeof text - 1] = '\0';
    assert_int_equal(gdncp_comm_create_self(&comm), GDNCP_OK);
    for (int try = 0; try < NUM_TRIES; try++) {
        const int64_t begin_ns = gdncp_now_ns();

        for (int i = 0; i < NUM; i++) {
            gdncp_flight_end(comm, gdncp_flight_begin(comm, "cp2hp", text, 1, 1, 0), GDNCP_OK);
        }
        const int64_t took_ns = gdncp_now_ns() - begin_ns;
        least_ns = took_ns < least_ns ? took_ns : least_ns;
    }
    printf("an operation is kept in %.1f ns\n", (double)least_ns / NUM);
    assert_true(least_ns < 1000 * NUM); /* sanitizers, slow clocks */
    gdncp_comm_destroy(comm);
}

/* In a process of its own, as the handler and the numbers of communicators are the process's. */
static char folder[] = "/tmp/gdncp-flight-XXXXXX";
static volatile sig_atomic_t num_earlier;

static void count_signal(int number)
{
    num_earlier += number == SIGUSR1;
}

static bool has_file(const char *name, const char *word)
{
    char path[128];
    char text[65536];

    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *const file = fopen(path, "r");
    if (file == NULL) {
        return false;
    }
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);
    remove(path);
    json_t *const record = json_loads(text, 0, NULL);
    const bool is_record = record != NULL && strstr(text, word) != NULL;
    json_decref(record);
    return is_record;
}

static void set_prefix(void)
{
    char prefix[64];

    snprintf(prefix, sizeof prefix, "%s/record", folder);
    setenv("GDNCP_FLIGHT_RECORD", prefix, 1);
}

#define REQUIRE(condition)                                                                         \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "line %d: %s\n", __LINE__, #condition);                                \
            return 1;                                                                              \
        }                                                                                          \
    } while (0)

static int signals_body(const void *context)
{
    struct sigaction action;
    gdncp_comm_t *comm = NULL;
    gdncp_comm_t *other = NULL;

    (void)context;
    unsetenv("GDNCP_FLIGHT_RECORD");
    signal(SIGUSR1, count_signal);
    REQUIRE(gdncp_comm_create_self(&comm) == GDNCP_OK);
    sigaction(SIGUSR1, NULL, &action);
    REQUIRE(action.sa_handler == count_signal); /* left alone */
    REQUIRE(gdncp_comm_barrier(comm) == GDNCP_OK);
    gdncp_comm_destroy(comm);

    set_prefix();
    REQUIRE(gdncp_comm_create_self(&comm) == GDNCP_OK);
    REQUIRE(gdncp_comm_create_self(&other) == GDNCP_OK);
    raise(SIGUSR1);
    REQUIRE(num_earlier == 1);
    REQUIRE(!has_file("record.0.1.json", "")); /* nobody has polled */
    gdncp_flight_look(comm);
    REQUIRE(has_file("record.0.1.json", "create"));
    gdncp_flight_look(comm);
    REQUIRE(!has_file("record.0.1.json", "")); /* once a signal */
    REQUIRE(!has_file("record.0.2.json", ""));
    gdncp_flight_look(other);
    REQUIRE(has_file("record.0.2.json", "create"));
    gdncp_comm_destroy(comm);
    gdncp_comm_destroy(other);
    return 0;
}

/* The default action would end the process. */
static int default_body(const void *context)
{
    gdncp_group_t *group = NULL;
    gdncp_comm_t *comm = NULL;
    bool done = true;
    char byte;

    (void)context;
    signal(SIGUSR1, SIG_DFL);
    set_prefix();
    REQUIRE(gdncp_comm_create_self(&comm) == GDNCP_OK);
    raise(SIGUSR1);
    REQUIRE(gdncp_comm_group_create(comm, 1, &group) == GDNCP_OK);
    REQUIRE(gdncp_comm_group_begin(comm, group) == GDNCP_OK);
    REQUIRE(gdncp_comm_recv(comm, group, &byte, 1, 0) == GDNCP_OK);
    REQUIRE(gdncp_comm_group_end(comm, group, NULL) == GDNCP_OK);
    REQUIRE(gdncp_comm_group_test(comm, group, &done) == GDNCP_OK && !done);
    REQUIRE(has_file("record.0.json", "create")); /* a poll is enough */
    gdncp_comm_group_destroy(comm, group);
    gdncp_comm_destroy(comm);
    return 0;
}

/* An operation that fails; a place where nothing can be written changes no status. */
static int failing_body(const void *context)
{
    gdncp_comm_t *comms[2] = {NULL};

    set_prefix();
    if (context != NULL) {
        setenv("GDNCP_FLIGHT_RECORD", "/nowhere/at/all", 1);
    }
    REQUIRE(gdncp_comm_create_threads(2, NULL, comms) == GDNCP_OK);
    gdncp_comm_destroy(comms[0]);
    REQUIRE(gdncp_comm_barrier(comms[1]) == GDNCP_ERR_PEER_LOST);
    REQUIRE(strstr(gdncp_last_error(), "rank 0 destroyed its communicator") != NULL);
    REQUIRE(context != NULL || has_file("record.1.json", "GDNCP_ERR_PEER_LOST"));
    REQUIRE(!has_file("record.0.json", ""));
    gdncp_comm_destroy(comms[1]);
    return 0;
}

static void expect_success(int (*body)(const void *context), const void *context)
{
    const child_outcome_t outcome = run_child(body, context);

    if (outcome.signal != 0 || outcome.exit_code != 0) {
        fail_msg("signal %d, exit code %d: %s", outcome.signal, outcome.exit_code, outcome.text);
    }
}

static void signals_ask_for_the_record(void **state)
{
    (void)state;
    expect_success(signals_body, NULL);
    expect_success(default_body, NULL);
}

static void errors_write_the_record(void **state)
{
    (void)state;
    expect_success(failing_body, NULL);
    expect_success(failing_body, "nowhere");
}

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) == NULL;
}

static int remove_folder(void **state)
{
    (void)state;
    return rmdir(folder); /* fails where a record was left */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        /* First, while the process has made no communicator. */
        cmocka_unit_test(signals_ask_for_the_record),
        cmocka_unit_test(errors_write_the_record),
        cmocka_unit_test(the_last_operations_are_kept),
        cmocka_unit_test(exchanges_carry_their_plan),
        cmocka_unit_test(texts_are_cut_and_escaped),
        cmocka_unit_test(arguments_are_checked),
        cmocka_unit_test(recording_is_cheap),
    };

    return cmocka_run_group_tests_name("flight_recorder", tests, make_folder, remove_folder);
}
