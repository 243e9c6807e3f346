/* A communicator's courier: jobs in order, all of them before it ends, and none waited for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <time.h>

#include "courier.h"

enum { NUM_JOBS = 1000 };

typedef struct record {
    int numbers[NUM_JOBS];
    int count; /* the courier's until it is destroyed */
} record_t;

typedef struct numbered_job {
    gdncp_courier_job_t job;
    record_t *record;
    int number;
} numbered_job_t;

static void note(void *context)
{
    const numbered_job_t *const job = context;

    job->record->numbers[job->record->count++] = job->number;
}

static void sleep_and_note(void *context)
{
    nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    note(context);
}

static void jobs_run_in_order(void **state)
{
    static numbered_job_t jobs[NUM_JOBS];
    static record_t record;
    gdncp_courier_t *courier = NULL;

    (void)state;
    assert_int_equal(gdncp_courier_create(&courier), GDNCP_OK);
    for (int i = 0; i < NUM_JOBS; i++) {
        /* The first one keeps the courier busy until many others wait. */
        jobs[i] = (numbered_job_t){
            .job = {.run = i == 0 ? sleep_and_note : note}, .record = &record, .number = i};
        jobs[i].job.context = &jobs[i];
        gdncp_courier_post(courier, &jobs[i].job);
    }
    gdncp_courier_destroy(courier);
    assert_int_equal(record.count, NUM_JOBS);
    for (int i = 0; i < NUM_JOBS; i++) {
        assert_int_equal(record.numbers[i], i);
    }
}

static void idle_couriers_end(void **state)
{
    gdncp_courier_t *courier = NULL;

    (void)state;
    assert_int_equal(gdncp_courier_create(&courier), GDNCP_OK);
    gdncp_courier_destroy(courier);
    gdncp_courier_destroy(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(jobs_run_in_order),
        cmocka_unit_test(idle_couriers_end),
    };

    return cmocka_run_group_tests_name("courier", tests, NULL, NULL);
}
