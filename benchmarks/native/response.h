/* What is sent back. Both functions fill c->response and, where an object's bytes follow, their place in the pattern. */
#ifndef RESPONSE_H
#define RESPONSE_H

#include <stdatomic.h>

#include "request.h"

struct counters {
    atomic_ullong connections, requests, partial, parts, bytes_in, bytes_out;
};
extern struct counters counters;

void respond(struct connection *c);
void refuse(struct connection *c, int status, const char *code, const char *headers);

#endif
