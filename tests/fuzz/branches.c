/* Tells libFuzzer which branches of the scanner ran. gcc calls __sanitizer_cov_trace_pc() at each of them
 * (-fsanitize-coverage=trace-pc); libFuzzer, which atheris brings, wants a table of counters and one of addresses. */

#include <stdint.h>

#define BRANCHES 4096

void __sanitizer_cov_8bit_counters_init(uint8_t *start, uint8_t *stop);
void __sanitizer_cov_pcs_init(const uintptr_t *start, const uintptr_t *stop);

static uint8_t counters[BRANCHES];
static uintptr_t addresses[2 * BRANCHES]; /* (address, flags) of each counter */

/* Hidden: the calls of this module come here, and not to the function of that name which libFuzzer has. */
__attribute__((visibility("hidden"))) void __sanitizer_cov_trace_pc(void)
{
    uintptr_t at = (uintptr_t)__builtin_return_address(0) - (uintptr_t)counters;
    counters[(at * 2654435761u >> 12) % BRANCHES]++;
}

/* gcc reports comparisons of floating-point numbers, too; the scanner has none, Cython's own code does. */
__attribute__((visibility("hidden"))) void __sanitizer_cov_trace_cmpf(float a, float b) { (void)a, (void)b; }
__attribute__((visibility("hidden"))) void __sanitizer_cov_trace_cmpd(double a, double b) { (void)a, (void)b; }

__attribute__((constructor)) static void tell(void)
{
    for (uintptr_t i = 0; i < BRANCHES; i++)
        addresses[2 * i] = (uintptr_t)counters + i;
    __sanitizer_cov_8bit_counters_init(counters, counters + BRANCHES);
    __sanitizer_cov_pcs_init(addresses, addresses + 2 * BRANCHES);
}
