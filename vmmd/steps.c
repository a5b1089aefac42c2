#include "vmmd/steps.h"

#include "common/log.h"

static void log_stuck(const struct step *step, const struct error *failure)
{
	log_error("%s: cannot be taken back: %s", step->name, failure->msg);
}

int steps_take(const struct step *steps, size_t n, void *ctx, struct error *err)
{
	size_t done = 0;
	int r = 0;

	while (done < n && r == 0) {
		r = steps[done].take(ctx, err);
		if (r == 0)
			done++;
	}
	if (r == 0)
		return 0;
	while (done-- > 0) {
		struct error failure = ERROR_INIT;

		if (steps[done].undo(ctx, &failure) < 0)
			log_stuck(&steps[done], &failure);
	}
	return r;
}

int steps_undo(const struct step *steps, size_t n, void *ctx, struct error *err)
{
	size_t left = n;
	int r = 0;

	while (left > 0 && r == 0) {
		r = steps[left - 1].undo(ctx, err);
		if (r == 0)
			left--;
	}
	if (r == 0)
		return 0;
	for (; left < n; left++) {
		struct error failure = ERROR_INIT;

		if (steps[left].take(ctx, &failure) < 0) {
			log_stuck(&steps[left], &failure);
			break; /* what comes after it needs it */
		}
	}
	return r;
}
