#include "layer_on_device.h"

#include "gdncp/layer.h"
#include "layer_device_call.h"

/* As the renamed functions are called. */
__typeof__(gdncp_cp_rule_create) layer_on_device_rule_create;
__typeof__(gdncp_cp_rule_destroy) layer_on_device_rule_destroy;
__typeof__(gdncp_cp_rule_forward) layer_on_device_rule_forward;
__typeof__(gdncp_cp_rule_backward) layer_on_device_rule_backward;
__typeof__(gdncp_cp_core_create) layer_on_device_core_create;
__typeof__(gdncp_cp_core_destroy) layer_on_device_core_destroy;
__typeof__(gdncp_cp_core_forward) layer_on_device_core_forward;
__typeof__(gdncp_cp_core_backward) layer_on_device_core_backward;
__typeof__(gdncp_layer_create) layer_on_device_create;
__typeof__(gdncp_layer_destroy) layer_on_device_destroy;
__typeof__(gdncp_layer_forward) layer_on_device_forward;
__typeof__(gdncp_layer_backward) layer_on_device_backward;

/* Structs of arguments hold tensors and nothing else. */
#define TENSORS(arguments)                                                                         \
    ((gdncp_tensor_t *)(arguments)), (int)(sizeof *(arguments) / sizeof(gdncp_tensor_t))

gdncp_status_t layer_on_device_rule_create(gdncp_comm_t *comm, const gdncp_layout_t *layout,
                                           const gdncp_cp_rule_config_t *config,
                                           gdncp_cp_rule_t **rule_p)
{
    layer_place_t *const place = layer_place_open();
    gdncp_cp_rule_config_t on_device = *config;

    on_device.device = GDNCP_DEVICE_CUDA;
    on_device.stream = place->stream;
    const gdncp_status_t status = gdncp_cp_rule_create(comm, layout, &on_device, rule_p);

    layer_place_keep(place, status == GDNCP_OK ? *rule_p : NULL);
    return status;
}

void layer_on_device_rule_destroy(gdncp_cp_rule_t *rule)
{
    gdncp_cp_rule_destroy(rule);
    if (rule != NULL) {
        layer_place_close(rule);
    }
}

gdncp_status_t layer_on_device_rule_forward(gdncp_cp_rule_t *rule,
                                            const gdncp_cp_rule_inputs_t *inputs,
                                            gdncp_cp_rule_saved_t *saved, const gdncp_tensor_t *o,
                                            const gdncp_tensor_t *final_state)
{
    layer_call_t call;
    gdncp_cp_rule_inputs_t in = *inputs;
    gdncp_tensor_t out[] = {*o, *final_state};

    layer_call_begin(&call, rule, 0);
    layer_call_inputs(&call, TENSORS(&in));
    layer_call_outputs(&call, out, 2);
    while (layer_call_next(&call)) {
        call.status = gdncp_cp_rule_forward(rule, &in, saved, &out[0], &out[1]);
    }
    return layer_call_end(&call);
}

gdncp_status_t layer_on_device_rule_backward(gdncp_cp_rule_t *rule,
                                             const gdncp_cp_rule_inputs_t *inputs,
                                             const gdncp_cp_rule_saved_t *saved,
                                             const gdncp_tensor_t *grad_o,
                                             const gdncp_tensor_t *grad_final_state,
                                             const gdncp_cp_rule_grads_t *grads)
{
    layer_call_t call;
    gdncp_cp_rule_inputs_t in = *inputs;
    gdncp_tensor_t upstream[] = {*grad_o, *grad_final_state};
    gdncp_cp_rule_grads_t out = *grads;

    layer_call_begin(&call, rule, 1);
    layer_call_inputs(&call, TENSORS(&in));
    layer_call_inputs(&call, upstream, 2);
    layer_call_outputs(&call, TENSORS(&out));
    while (layer_call_next(&call)) {
        call.status = gdncp_cp_rule_backward(rule, &in, saved, &upstream[0], &upstream[1], &out);
    }
    return layer_call_end(&call);
}

gdncp_status_t layer_on_device_core_create(gdncp_comm_t *comm, const gdncp_layout_t *layout,
                                           const gdncp_layer_config_t *config,
                                           gdncp_cp_core_t **core_p)
{
    layer_place_t *const place = layer_place_open();
    gdncp_layer_config_t on_device = *config;

    on_device.device = GDNCP_DEVICE_CUDA;
    on_device.stream = place->stream;
    const gdncp_status_t status = gdncp_cp_core_create(comm, layout, &on_device, core_p);

    layer_place_keep(place, status == GDNCP_OK ? *core_p : NULL);
    return status;
}

void layer_on_device_core_destroy(gdncp_cp_core_t *core)
{
    gdncp_cp_core_destroy(core);
    if (core != NULL) {
        layer_place_close(core);
    }
}

gdncp_status_t layer_on_device_core_forward(gdncp_cp_core_t *core,
                                            const gdncp_cp_core_params_t *params,
                                            const gdncp_cp_core_inputs_t *inputs,
                                            gdncp_cp_core_saved_t *saved, const gdncp_tensor_t *y)
{
    layer_call_t call;
    gdncp_cp_core_params_t weights = *params;
    gdncp_cp_core_inputs_t in = *inputs;
    gdncp_tensor_t out = *y;

    layer_call_begin(&call, core, 0);
    layer_call_inputs(&call, TENSORS(&weights));
    layer_call_inputs(&call, TENSORS(&in));
    layer_call_outputs(&call, &out, 1);
    while (layer_call_next(&call)) {
        call.status = gdncp_cp_core_forward(core, &weights, &in, saved, &out);
    }
    return layer_call_end(&call);
}

gdncp_status_t
layer_on_device_core_backward(gdncp_cp_core_t *core, const gdncp_cp_core_params_t *params,
                              const gdncp_cp_core_inputs_t *inputs, gdncp_cp_core_saved_t *saved,
                              const gdncp_tensor_t *grad_y, const gdncp_cp_core_grads_t *grads)
{
    layer_call_t call;
    gdncp_cp_core_params_t weights = *params;
    gdncp_cp_core_inputs_t in = *inputs;
    gdncp_tensor_t upstream = *grad_y;
    gdncp_cp_core_grads_t out = *grads;

    layer_call_begin(&call, core, 1);
    layer_call_inputs(&call, TENSORS(&weights));
    layer_call_inputs(&call, TENSORS(&in));
    layer_call_inputs(&call, &upstream, 1);
    layer_call_outputs(&call, TENSORS(&out));
    while (layer_call_next(&call)) {
        call.status = gdncp_cp_core_backward(core, &weights, &in, saved, &upstream, &out);
    }
    return layer_call_end(&call);
}

gdncp_status_t layer_on_device_create(gdncp_comm_t *comm, const gdncp_layout_t *layout,
                                      const gdncp_layer_config_t *config, gdncp_layer_t **layer_p)
{
    layer_place_t *const place = layer_place_open();
    gdncp_layer_config_t on_device = *config;

    on_device.device = GDNCP_DEVICE_CUDA;
    on_device.stream = place->stream;
    const gdncp_status_t status = gdncp_layer_create(comm, layout, &on_device, layer_p);

    layer_place_keep(place, status == GDNCP_OK ? *layer_p : NULL);
    return status;
}

void layer_on_device_destroy(gdncp_layer_t *layer)
{
    gdncp_layer_destroy(layer);
    if (layer != NULL) {
        layer_place_close(layer);
    }
}

gdncp_status_t layer_on_device_forward(gdncp_layer_t *layer, const gdncp_layer_params_t *params,
                                       const gdncp_tensor_t *hidden, gdncp_layer_saved_t *saved,
                                       const gdncp_tensor_t *output)
{
    layer_call_t call;
    gdncp_layer_params_t weights = *params;
    gdncp_tensor_t in = *hidden;
    gdncp_tensor_t out = *output;

    layer_call_begin(&call, layer, 0);
    layer_call_inputs(&call, TENSORS(&weights));
    layer_call_inputs(&call, &in, 1);
    layer_call_outputs(&call, &out, 1);
    while (layer_call_next(&call)) {
        call.status = gdncp_layer_forward(layer, &weights, &in, saved, &out);
    }
    return layer_call_end(&call);
}

gdncp_status_t layer_on_device_backward(gdncp_layer_t *layer, const gdncp_layer_params_t *params,
                                        const gdncp_tensor_t *hidden, gdncp_layer_saved_t *saved,
                                        const gdncp_tensor_t *grad_output,
                                        const gdncp_tensor_t *grad_hidden,
                                        const gdncp_layer_params_t *grads)
{
    layer_call_t call;
    gdncp_layer_params_t weights = *params;
    gdncp_tensor_t in[] = {*hidden, *grad_output};
    gdncp_tensor_t out = *grad_hidden;
    gdncp_layer_params_t out_grads = *grads;

    layer_call_begin(&call, layer, 1);
    layer_call_inputs(&call, TENSORS(&weights));
    layer_call_inputs(&call, in, 2);
    layer_call_outputs(&call, &out, 1);
    layer_call_outputs(&call, TENSORS(&out_grads));
    while (layer_call_next(&call)) {
        call.status =
            gdncp_layer_backward(layer, &weights, &in[0], saved, &in[1], &out, &out_grads);
    }
    return layer_call_end(&call);
}
