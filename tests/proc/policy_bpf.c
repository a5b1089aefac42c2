#include "tests/proc/policy_bpf.h"

#include "common/filter.h"
#include "tests/lib/test.h"

void bpf_of_policy(const char *name, struct bpf_program *ret)
{
	size_t n;
	const struct sock_filter *program = filter_program(name, &n);

	if (!program)
		test_fail(__FILE__, __LINE__, "no filter '%s'", name);
	CHECK(n > 0 && n <= sizeof(ret->insn) / sizeof(ret->insn[0]));
	memcpy(ret->insn, program, n * sizeof(ret->insn[0]));
	ret->n = n;
}

static uint32_t load(const struct seccomp_data *d, uint32_t offset)
{
	uint32_t value;

	CHECK(offset <= sizeof(*d) - sizeof(value) && offset % sizeof(value) == 0);
	memcpy(&value, (const char *)d + offset, sizeof(value));
	return value;
}

uint32_t bpf_run(const struct bpf_program *p, const struct seccomp_data *d)
{
	uint32_t a = 0;

	for (size_t pc = 0; pc < p->n; pc++) {
		const struct sock_filter *i = &p->insn[pc];
		bool taken;

		switch (i->code) {
		case BPF_LD | BPF_W | BPF_ABS:
			a = load(d, i->k);
			continue;
		case BPF_ALU | BPF_AND | BPF_K:
			a &= i->k;
			continue;
		case BPF_RET | BPF_K:
			return i->k;
		case BPF_JMP | BPF_JA:
			pc += i->k;
			continue;
		case BPF_JMP | BPF_JEQ | BPF_K:
			taken = a == i->k;
			break;
		case BPF_JMP | BPF_JGE | BPF_K:
			taken = a >= i->k;
			break;
		case BPF_JMP | BPF_JGT | BPF_K:
			taken = a > i->k;
			break;
		default:
			test_fail(__FILE__, __LINE__, "instruction 0x%x", i->code);
		}
		pc += taken ? i->jt : i->jf;
	}
	test_fail(__FILE__, __LINE__, "the program has no end");
}
