#include "agentd/inbox.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "ipc/mountd.pb-c.h"
#include "ipc/tables.h"

struct parcel {
	struct parcel *next;
	uint16_t type;
	uint32_t number;
	ProtobufCMessage *msg;
	struct fdlist fds;
};

static struct parcel **find(struct inbox *box, uint16_t type, uint32_t number)
{
	struct parcel **at = &box->first;

	while (*at && ((*at)->type != type || (*at)->number != number))
		at = &(*at)->next;
	return at;
}

static uint32_t number_of(const struct ipc_packet *p, const ProtobufCMessage *msg)
{
	if (p->hdr.type == MOUNTD_AGENTD_CONFIG)
		return ((const Ipc__Config *)msg)->index;
	return ((const Ipc__Stdio *)msg)->process;
}

/* p's fds and, when it succeeds, msg are the box's from here on. */
static int keep(struct inbox *box, struct ipc_packet *p, ProtobufCMessage *msg, struct error *err)
{
	uint32_t number = number_of(p, msg);
	struct parcel *parcel;

	if (*find(box, p->hdr.type, number))
		return error_set(err, EPROTO, "%s %u came twice", p->row->name, number);
	if (box->n == INBOX_MAX)
		return error_set(err, EPROTO, "%d messages that nobody asked for", INBOX_MAX);
	parcel = calloc(1, sizeof(*parcel));
	if (!parcel)
		return error_errno(err, ENOMEM, "%s %u", p->row->name, number);
	parcel->type = p->hdr.type;
	parcel->number = number;
	parcel->msg = msg;
	parcel->fds = p->fds;
	p->fds = (struct fdlist)FDLIST_INIT;
	parcel->next = box->first;
	box->first = parcel;
	box->n++;
	return 1;
}

int inbox_recv(struct inbox *box, int fd, struct error *err)
{
	CLEANUP(ipc_packet_done) struct ipc_packet p = { .fds = FDLIST_INIT };
	ProtobufCMessage *msg;
	int r = channel_recv(fd, &ipc_mountd_agentd, MSG_DONTWAIT, &p, err);

	if (r <= 0)
		return r;
	msg = ipc_decode(&p, err);
	if (!msg)
		return -EPROTO;
	r = keep(box, &p, msg, err);
	if (r < 0)
		ipc_free(msg);
	return r;
}

static void unlink_parcel(struct inbox *box, struct parcel **at)
{
	struct parcel *parcel = *at;

	*at = parcel->next;
	box->n--;
	fdlist_done(&parcel->fds);
	if (parcel->msg)
		ipc_free(parcel->msg);
	free(parcel);
}

bool inbox_take(struct inbox *box, uint16_t type, uint32_t number, struct fdlist *ret,
	ProtobufCMessage **ret_msg)
{
	struct parcel **at = find(box, type, number);

	if (!*at)
		return false;
	*ret = (*at)->fds;
	(*at)->fds = (struct fdlist)FDLIST_INIT;
	if (ret_msg) {
		*ret_msg = (*at)->msg;
		(*at)->msg = NULL;
	}
	unlink_parcel(box, at);
	return true;
}

void inbox_drop(struct inbox *box, uint16_t type, uint32_t number)
{
	struct parcel **at = find(box, type, number);

	if (*at)
		unlink_parcel(box, at);
}

void inbox_done(struct inbox *box)
{
	while (box->first)
		unlink_parcel(box, &box->first);
}
