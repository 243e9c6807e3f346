#include "threads_hub.h"

#include "error.h"
#include "gdncp/memory.h"

void gdncp_hub_destroy(gdncp_hub_t *hub)
{
    const size_t num_channels = (size_t)hub->size * (size_t)hub->size;

    for (size_t i = 0; i < num_channels; i++) {
        pthread_mutex_destroy(&hub->channels[i].mutex);
    }
    gdncp_memory_free(hub->channels);
    gdncp_memory_free(hub->left);
    gdncp_memory_free(hub);
}

gdncp_status_t gdncp_hub_create(int size, gdncp_hub_t **hub_p)
{
    const size_t num_channels = (size_t)size * (size_t)size;
    gdncp_hub_t *const hub = gdncp_memory_alloc(sizeof *hub);

    if (hub == NULL) {
        return gdncp_fail_memory("communicators of threads");
    }
    hub->size = size;
    atomic_init(&hub->num_users, size);
    atomic_init(&hub->aborted_by, -1);
    hub->left = gdncp_memory_alloc((size_t)size * sizeof *hub->left);
    hub->channels = gdncp_memory_alloc(num_channels * sizeof *hub->channels);
    if (hub->left == NULL || hub->channels == NULL) {
        gdncp_memory_free(hub->channels);
        gdncp_memory_free(hub->left);
        gdncp_memory_free(hub);
        return gdncp_fail_memory("communicators of threads");
    }
    for (int rank = 0; rank < size; rank++) {
        atomic_init(&hub->left[rank], false);
    }
    for (size_t i = 0; i < num_channels; i++) {
        gdncp_hub_channel_t *const channel = &hub->channels[i];

        pthread_mutex_init(&channel->mutex, NULL);
        channel->head = NULL;
        channel->tail = NULL;
        atomic_init(&channel->num_sent, 0);
        channel->num_received = 0;
    }
    *hub_p = hub;
    return GDNCP_OK;
}
