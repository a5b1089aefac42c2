/* Time for deadlines and for measurements: CLOCK_MONOTONIC. */
#pragma once

#include <stdint.h>

int64_t clock_ms(void);
int64_t clock_us(void);

/* What is left until deadline_ms, for poll(): never negative. */
int clock_left_ms(int64_t deadline_ms);
