/* The forms of a relay by name. */
#include "relay.h"

#include <string.h>

#include "error.h"

static const char *const names[] = {
    [GDNCP_RELAY_OWNERS] = "owners",
    [GDNCP_RELAY_ALL_GATHER] = "all_gather",
    [GDNCP_RELAY_CHAIN] = "chain",
};

enum { NUM_FORMS = sizeof names / sizeof names[0] };

const char *gdncp_relay_form_name(gdncp_relay_form_t form)
{
    return (unsigned)form < NUM_FORMS ? names[form] : "?";
}

gdncp_status_t gdncp_relay_form_from_name(const char *name, gdncp_relay_form_t *form_p)
{
    for (int form = 0; form < NUM_FORMS && name != NULL; form++) {
        if (strcmp(name, names[form]) == 0) {
            *form_p = (gdncp_relay_form_t)form;
            return GDNCP_OK;
        }
    }
    return gdncp_fail(
        GDNCP_ERR_INVALID_ARGUMENT, "form: expected owners, all_gather or chain, got %s%.40s%s",
        name != NULL ? "\"" : "", name != NULL ? name : "NULL", name != NULL ? "\"" : "");
}
