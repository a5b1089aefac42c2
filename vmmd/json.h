/* JSON as QMP needs it: members of a kind, or none. */
#pragma once

#include <errno.h>
#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>

/* Puts value into `to` and takes it, also on failure. 0 or -ENOMEM. */
static inline int json_set_consume(struct json_object *to, const char *key, struct json_object *value)
{
	if (to && value && json_object_object_add(to, key, value) == 0)
		return 0;
	json_object_put(value);
	return -ENOMEM;
}

static inline int json_set_text(struct json_object *to, const char *key, const char *text)
{
	return json_set_consume(to, key, json_object_new_string(text));
}

static inline int json_set_number(struct json_object *to, const char *key, uint64_t number)
{
	return json_set_consume(to, key, json_object_new_uint64(number));
}

/* The member, borrowed; NULL: none of that type. */
static inline struct json_object *json_member(struct json_object *o, const char *key,
	enum json_type type)
{
	struct json_object *value;

	if (!json_object_is_type(o, json_type_object) || !json_object_object_get_ex(o, key, &value) ||
		!json_object_is_type(value, type))
		return NULL;
	return value;
}

/* The text, borrowed; "": none. */
static inline const char *json_text(struct json_object *o, const char *key)
{
	struct json_object *value = json_member(o, key, json_type_string);

	return value ? json_object_get_string(value) : "";
}

/* Whether there is a whole number from 0 to max. */
static inline bool json_number(struct json_object *o, const char *key, uint64_t max, uint64_t *ret)
{
	struct json_object *value = json_member(o, key, json_type_int);

	if (!value || (json_object_get_int64(value) < 0))
		return false;
	*ret = json_object_get_uint64(value);
	return *ret <= max;
}

static inline void cleanup_json(struct json_object **json)
{
	json_object_put(*json);
}

#define _cleanup_json_ __attribute__((cleanup(cleanup_json)))
