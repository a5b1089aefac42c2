/* A container that the test brings to life by hand, as guest: every request of agentd is looked at. */
#pragma once

#include "tests/proc/agentd_rig.h"

extern struct rig rig;

/* The four requests that follow a start. */
struct running {
	struct guest_request wait, out, err, end;
};

bool readable(int fd, int ms);

/* The next event says that this process has ended, in the last 30 s. */
void expect_exited(uint32_t process, uint32_t status);

/* CREATE_CONTAINER and START of container 0, process 1, in a sandbox that is there. */
void scripted_container(bool in, bool out, bool err);

/* All of it, from rig_up() on, without streams. */
void scripted_start(struct running *run);
void running_done(struct running *run);

/* Answers of the guest. */
void reply_data(const struct guest_request *r, const void *data, size_t len);
void reply_status(const struct guest_request *r, int status);

/* The next event says that the agent is lost, and why. */
void expect_lost(const char *reason);

/* Nothing but errors from here on, and no second event; agentd itself lives. Ends the rig. */
void expect_useless(void);
