#ifndef TAMALE_ENGINE_SOFTWARE_H
#define TAMALE_ENGINE_SOFTWARE_H

#include <stdint.h>

struct engine_logit {
    int32_t value;
    uint32_t row;
};

/* The memory that rows are streamed from, and where logits go, or none. */
void engine_software_attach(const uint8_t *memory, struct engine_logit *logits);
int8_t *engine_software_activations(void);

#endif
