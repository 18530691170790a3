/*
 * step_graph.c: a training step as a graph, launched by one call instead of thousands.
 *
 * Every step has the same shapes and everything that changes lies in the slot's memory, so a slot needs one graph.  Its
 * first step is called op by op: what ops need besides their tensors is then there.
 *
 * Where exchanges between ranks are part of a graph, all ranks must run graphs or none: NCCL has nothing between.  So what
 * makes one process go on op by op ends a training of several.
 */
#include "train/stepper.h"

static d2c_status
capture(d2c_stepper *s, step_slot *slot, int texts, d2c_error *err)
{
    d2c_status status, ended;

    if (d2c_capture_begin(s->be) != D2C_OK)
        return d2c_backend_error(s->be, err);
    status = step_pass(s, slot, texts, 1, err);
    ended = d2c_capture_end(s->be, &slot->graph);
    if (status == D2C_OK && ended != D2C_OK)
        status = d2c_backend_error(s->be, err);
    if (status != D2C_OK && slot->graph != NULL) {
        d2c_graph_free(s->be, slot->graph);
        slot->graph = NULL;
    }
    return status;
}

void
step_graph_free(d2c_stepper *s)
{
    int i;

    for (i = 0; i < s->slots; i++) {
        if (s->slot[i].graph != NULL)
            d2c_graph_free(s->be, s->slot[i].graph);
        s->slot[i].graph = NULL;
        s->slot[i].runs = 0;
    }
}

d2c_status
step_graph(d2c_stepper *s, step_slot *slot, int texts, d2c_error *err)
{
    d2c_error why;

    if (s->graphs && slot->runs++ > 0 && slot->graph == NULL && capture(s, slot, texts, &why) != D2C_OK) {
        if (s->be->lost || step_is_shared(s)) {
            if (err != NULL)
                *err = why;
            return why.status;
        }
        s->graphs = 0;
        step_graph_free(s);
        if (why.status != D2C_UNSUPPORTED)
            step_notice(s, "steps are not run as a graph: %s", why.message);
    }
    if (slot->graph == NULL)
        return step_pass(s, slot, texts, 1, err);
    return d2c_graph_launch(s->be, slot->graph) == D2C_OK ? D2C_OK : d2c_backend_error(s->be, err);
}
