/* What was measured of layouts, maps and plans: a line of a table, and a row of JSON. */
#ifndef GDNCP_LAYOUTS_REPORT_H
#define GDNCP_LAYOUTS_REPORT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "layouts_bench.h"
#include "measure.h"

typedef struct layouts_result {
    const char *name;
    const layouts_pack_t *pack;
    bool is_right;
    bench_times_t times;
    int64_t bytes;    /* of the arrays that were written; 0: something was made */
    double fill_ms;   /* that memset() takes for so many */
    int64_t segments; /* of a layout that was made, else 0 */
    double held_mib;  /* that stayed allocated */
    double peak_mib;  /* that was resident at most while it was made */
} layouts_result_t;

void layouts_print_head(void);
void layouts_print_result(const layouts_result_t *result);

/* Add it to the results of an object of bench_json_head(). */
void layouts_json_add(json_t *object, const layouts_result_t *result);

#endif
