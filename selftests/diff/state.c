// SPDX-License-Identifier: GPL-2.0
/*
 * A machine's state by named fields: see state.h. Left out, because they are time: the LAPIC timer's count, when the
 * PIT's channels were loaded, the clock's values; the MSRs of the TSC are not in the list.
 */
#include "random.h"
#include "state.h"

enum { SHOWN_CHANGES = 64 };

#define F(type, m) { #m, offsetof(struct type, m), sizeof(((struct type *)0)->m), 1, 0 }
#define A(type, m, text) { text, offsetof(struct type, m), sizeof(((struct type *)0)->m[0]),	\
	ARRAY_SIZE(((struct type *)0)->m), sizeof(((struct type *)0)->m[0]) }

static const struct field regs_fields[] = {
	F(kvm_regs, rax), F(kvm_regs, rbx), F(kvm_regs, rcx), F(kvm_regs, rdx), F(kvm_regs, rsi), F(kvm_regs, rdi),
	F(kvm_regs, rsp), F(kvm_regs, rbp), F(kvm_regs, r8), F(kvm_regs, r9), F(kvm_regs, r10), F(kvm_regs, r11),
	F(kvm_regs, r12), F(kvm_regs, r13), F(kvm_regs, r14), F(kvm_regs, r15), F(kvm_regs, rip), F(kvm_regs, rflags),
};

#define SEG(r) F(kvm_sregs, r.base), F(kvm_sregs, r.limit), F(kvm_sregs, r.selector), F(kvm_sregs, r.type),	\
	F(kvm_sregs, r.present), F(kvm_sregs, r.dpl), F(kvm_sregs, r.db), F(kvm_sregs, r.s), F(kvm_sregs, r.l),	\
	F(kvm_sregs, r.g), F(kvm_sregs, r.avl), F(kvm_sregs, r.unusable)
#define TABLE(t) F(kvm_sregs, t.base), F(kvm_sregs, t.limit)
static const struct field sregs_fields[] = {
	F(kvm_sregs, cr0), F(kvm_sregs, cr2), F(kvm_sregs, cr3), F(kvm_sregs, cr4), F(kvm_sregs, cr8),
	F(kvm_sregs, efer), F(kvm_sregs, apic_base), A(kvm_sregs, interrupt_bitmap, "interrupt_bitmap[%u]"),
	TABLE(gdt), TABLE(idt), SEG(cs), SEG(ds), SEG(es), SEG(fs), SEG(gs), SEG(ss), SEG(tr), SEG(ldt),
};

static const struct field fpu_fields[] = {
	F(kvm_fpu, fcw), F(kvm_fpu, fsw), F(kvm_fpu, ftwx), F(kvm_fpu, last_opcode), F(kvm_fpu, last_ip),
	F(kvm_fpu, last_dp), F(kvm_fpu, mxcsr),
	{ "fpr16[%u]", 0, 2, 64, 2 }, { "xmm64[%u]", offsetof(struct kvm_fpu, xmm), 8, 32, 8 },
};

static const struct field xsave_fields[] = { A(kvm_xsave, region, "region[%u]") };

static const struct field xcrs_fields[] = {
	F(kvm_xcrs, nr_xcrs), F(kvm_xcrs, flags), F(kvm_xcrs, xcrs[0].xcr), F(kvm_xcrs, xcrs[0].value),
};

static const struct field debug_fields[] = {
	A(kvm_debugregs, db, "db[%u]"), F(kvm_debugregs, dr6), F(kvm_debugregs, dr7), F(kvm_debugregs, flags),
};

#define E(m) F(kvm_vcpu_events, m)
static const struct field events_fields[] = {
	E(flags), E(exception.injected), E(exception.nr), E(exception.has_error_code), E(exception.pending),
	E(exception.error_code), E(interrupt.injected), E(interrupt.nr), E(interrupt.soft), E(interrupt.shadow),
	E(nmi.injected), E(nmi.pending), E(nmi.masked), E(sipi_vector), E(smi.smm), E(smi.pending),
	E(smi.smm_inside_nmi), E(smi.latched_init), E(triple_fault.pending), E(exception_has_payload),
	E(exception_payload),
};

static const struct field mp_fields[] = { F(kvm_mp_state, mp_state) };
static const struct field lapic_fields[] = { { "regs[%u*16]", 0, 4, 56, 16 }, { "regs[0x380]", 0x3e0, 4, 1, 0 } };
static const struct field cpuid_fields[] = { { "word[%u]", 0, 4, 16 * 10 + 2, 4 } };
static const struct field memory_fields[] = { { "u64[0x%x]", 0, 8, LOW_BYTES / 8, 8 } };

#define P(m) { #m, offsetof(struct kvm_irqchip, chip.pic.m), 1, 1, 0 }
static const struct field pic_fields[] = {
	P(last_irr), P(irr), P(imr), P(isr), P(priority_add), P(irq_base), P(read_reg_select), P(poll),
	P(special_mask), P(init_state), P(auto_eoi), P(rotate_on_auto_eoi), P(special_fully_nested_mode), P(init4),
	P(elcr), P(elcr_mask),
};
#define IO(m) { #m, offsetof(struct kvm_irqchip, chip.ioapic.m), 4, 1, 0 }
static const struct field ioapic_fields[] = {
	{ "base_address", offsetof(struct kvm_irqchip, chip.ioapic.base_address), 8, 1, 0 },
	IO(ioregsel), IO(id), IO(irr),
	{ "redirtbl[%u]", offsetof(struct kvm_irqchip, chip.ioapic.redirtbl), 8, 24, 8 },
};

#define C(n, m) F(kvm_pit_state2, channels[n].m)
#define COUNTER(n) C(n, latched_count), C(n, count_latched), C(n, status_latched), C(n, status), C(n, read_state), \
	C(n, write_state), C(n, write_latch), C(n, rw_mode), C(n, bcd), C(n, gate)
static const struct field pit_fields[] = {
	COUNTER(0), COUNTER(1), COUNTER(2), C(1, mode), C(2, mode), C(1, count), C(2, count), F(kvm_pit_state2, flags),
};
static const struct field clock_fields[] = { F(kvm_clock_data, flags) };

const u32 state_msrs[] = {
	0x1b, 0x3a, 0x48, 0xe1, 0x174, 0x175, 0x176, 0x17a, 0x1a0, 0x1d9, 0x200, 0x201, 0x20f, 0x250, 0x258, 0x26f,
	0x277, 0x2ff, 0x400, 0x401, 0xda0, 0xc0000080, 0xc0000081, 0xc0000082, 0xc0000083, 0xc0000084, 0xc0000100,
	0xc0000101, 0xc0000102, 0xc0000103, 0xc0010015, 0xc001001f, 0x4b564d00, 0x4b564d01, 0x4b564d03, 0x4b564d04,
};
const u32 state_msr_count = ARRAY_SIZE(state_msrs);
/* A word says whether it can be read, the other is the value. */
static const struct field msr_fields[] = {
	{ "refused(0x%x)", 0, 8, ARRAY_SIZE(state_msrs), 16 }, { "msr(0x%x)", 8, 8, ARRAY_SIZE(state_msrs), 16 },
};

#define S(id, name, what, fields, vm)							\
	[S_##id] = { name, "struct " #what, KVM_GET_##id, KVM_SET_##id, sizeof(struct what),	\
		     ARRAY_SIZE(fields), fields, vm }
#define KVM_GET_EVENTS KVM_GET_VCPU_EVENTS
#define KVM_SET_EVENTS KVM_SET_VCPU_EVENTS
#define KVM_GET_MP KVM_GET_MP_STATE
#define KVM_SET_MP KVM_SET_MP_STATE
#define KVM_GET_PIC0 KVM_GET_IRQCHIP
#define KVM_SET_PIC0 KVM_SET_IRQCHIP
#define KVM_GET_PIC1 KVM_GET_IRQCHIP
#define KVM_SET_PIC1 KVM_SET_IRQCHIP
#define KVM_GET_IOAPIC KVM_GET_IRQCHIP
#define KVM_SET_IOAPIC KVM_SET_IRQCHIP

const struct state states[STATES] = {
	S(REGS, "regs", kvm_regs, regs_fields, false),
	S(SREGS, "sregs", kvm_sregs, sregs_fields, false),
	S(FPU, "fpu", kvm_fpu, fpu_fields, false),
	S(XSAVE, "xsave", kvm_xsave, xsave_fields, false),
	S(XCRS, "xcrs", kvm_xcrs, xcrs_fields, false),
	S(DEBUGREGS, "debugregs", kvm_debugregs, debug_fields, false),
	S(EVENTS, "events", kvm_vcpu_events, events_fields, false),
	S(MP, "mp_state", kvm_mp_state, mp_fields, false),
	S(LAPIC, "lapic", kvm_lapic_state, lapic_fields, false),
	[S_CPUID] = { "cpuid", "struct kvm_cpuid2", KVM_GET_CPUID2, KVM_SET_CPUID2, 8 + 16 * 40,
		      ARRAY_SIZE(cpuid_fields), cpuid_fields, false },
	[S_MSRS] = { "msrs", "", 0, 0, ARRAY_SIZE(state_msrs) * 16, ARRAY_SIZE(msr_fields), msr_fields, false },
	S(PIC0, "pic0", kvm_irqchip, pic_fields, true),
	S(PIC1, "pic1", kvm_irqchip, pic_fields, true),
	S(IOAPIC, "ioapic", kvm_irqchip, ioapic_fields, true),
	[S_PIT] = { "pit", "struct kvm_pit_state2", KVM_GET_PIT2, KVM_SET_PIT2, sizeof(struct kvm_pit_state2),
		    ARRAY_SIZE(pit_fields), pit_fields, true },
	S(CLOCK, "clock", kvm_clock_data, clock_fields, true),
	[S_MEMORY] = { "memory", "", 0, 0, LOW_BYTES, ARRAY_SIZE(memory_fields), memory_fields, true },
};

static void get_msrs(struct machine *m, u64 *words)
{
	for (u32 i = 0; i < state_msr_count; i++) {
		struct {
			struct kvm_msrs head;
			struct kvm_msr_entry entry;
		} one = { .head.nmsrs = 1, .entry.index = state_msrs[i] };

		words[2 * i] = ioctl(m->v->fd, KVM_GET_MSRS, &one) != 1;
		words[2 * i + 1] = words[2 * i] ? 0 : one.entry.data;
	}
}

/*
 * The extensions of the events' structure that Lodge leaves out, with SMM: not valid, so that what is written back is
 * about the rest.
 */
static void forget_smm(struct kvm_vcpu_events *e)
{
	e->flags &= ~(KVM_VCPUEVENT_VALID_SMM | KVM_VCPUEVENT_VALID_PAYLOAD | KVM_VCPUEVENT_VALID_TRIPLE_FAULT);
	memset(&e->smi, 0, sizeof(e->smi));
}

/* What may differ without anybody having changed it. */
static void forget_time(enum state_id id, void *buf)
{
	struct kvm_pit_state2 *pit = buf;
	struct kvm_clock_data *clock = buf;

	if (id == S_LAPIC)
		memset((u8 *)buf + 0x390, 0, 4);
	if (id == S_PIT)
		for (int i = 0; i < 3; i++)
			pit->channels[i].count_load_time = 0;
	if (id == S_CLOCK)
		*clock = (struct kvm_clock_data) { .flags = clock->flags };
}

int state_get(struct machine *m, enum state_id id, void *buf)
{
	memset(buf, 0, states[id].size);
	if (id == S_MSRS) {
		get_msrs(m, buf);
		return 0;
	}
	if (id == S_MEMORY) {
		memcpy(buf, m->vm->mem, LOW_BYTES);
		return 0;
	}
	if (id == S_CPUID)
		((struct kvm_cpuid2 *)buf)->nent = 16;
	if (id >= S_PIC0 && id <= S_IOAPIC)
		((struct kvm_irqchip *)buf)->chip_id = id - S_PIC0;
	if (ioctl(states[id].of_vm ? m->vm->fd : m->v->fd, states[id].get, buf) < 0)
		return errno;
	if (id == S_EVENTS)
		forget_smm(buf);
	return 0;
}

int state_set(struct machine *m, enum state_id id, void *buf)
{
	return ioctl(states[id].of_vm ? m->vm->fd : m->v->fd, states[id].set, buf) < 0 ? errno : 0;
}

static void place_name(const struct field *f, u32 index, char *text, size_t size)
{
	if (f->count == ARRAY_SIZE(state_msrs) && f->stride == 16)
		index = state_msrs[index];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	snprintf(text, size, f->name, index);
#pragma GCC diagnostic pop
}

struct place random_place(enum state_id id)
{
	const struct field *f = &states[id].field[below(states[id].fields)];
	u32 index = below(f->count);
	struct place p;

	/* Most of an XSAVE image is free; what has rules is the legacy header and that of XSAVE. */
	if (id == S_XSAVE && below(2))
		index = below(2) ? below(9) : 128 + below(8);
	p = (struct place) { .offset = f->offset + index * f->stride, .size = f->size };
	place_name(f, index, p.text, sizeof(p.text));
	return p;
}

struct snapshot *snapshot_new(void)
{
	struct snapshot *s = calloc(1, sizeof(*s));

	for (int id = 0; id < STATES; id++)
		s->buf[id] = aligned_alloc(64, STATE_BYTES);
	return s;
}

void snapshot_take(struct machine *m, struct snapshot *s)
{
	for (int id = 0; id < STATES; id++) {
		s->err[id] = state_get(m, id, s->buf[id]);
		if (s->err[id])
			memset(s->buf[id], 0, states[id].size);
		forget_time(id, s->buf[id]);
	}
}

static u64 value_at(const u8 *buf, u32 offset, u32 size)
{
	u64 value = 0;

	memcpy(&value, buf + offset, size);
	return value;
}

/* Too many at once are counted, and stand for themselves by a number. */
static void changes_of(enum state_id id, const u8 *old, const u8 *new)
{
	const struct state *s = &states[id];
	u32 shown = 0, hash = 0;
	char text[64];

	for (u32 f = 0; f < s->fields; f++)
		for (u32 i = 0; i < s->field[f].count; i++) {
			u32 at = s->field[f].offset + i * s->field[f].stride, size = s->field[f].size;

			if (!memcmp(old + at, new + at, size))
				continue;
			if (++shown > SHOWN_CHANGES) {
				hash = hash * 31 + fact_hash(new + at, size) + at;
				continue;
			}
			place_name(&s->field[f], i, text, sizeof(text));
			fact_add("%s.%s=%llx", s->name, text, (unsigned long long)value_at(new, at, size));
		}
	if (shown > SHOWN_CHANGES)
		fact_add("%s.more=%u/%08x", s->name, shown - SHOWN_CHANGES, hash);
}

void fact_changes(const struct snapshot *old, const struct snapshot *new)
{
	for (int id = 0; id < STATES; id++) {
		if (old->err[id] != new->err[id])
			fact_add("%s=%s", states[id].name, new->err[id] ? strerrorname_np(new->err[id]) : "readable");
		if (memcmp(old->buf[id], new->buf[id], states[id].size))
			changes_of(id, old->buf[id], new->buf[id]);
	}
}

void fact_fresh(struct machine *m, const struct snapshot *s)
{
	char text[64];

	for (int id = 0; id < S_MEMORY; id++) {
		const struct state *st = &states[id];

		if (s->err[id])
			FACT(("%s", strerrorname_np(s->err[id])), "fresh %s %s", kind_name[m->kind], st->name);
		for (u32 f = 0; f < st->fields; f++)
			for (u32 i = 0; i < st->field[f].count; i++) {
				u64 value = value_at(s->buf[id], st->field[f].offset + i * st->field[f].stride,
						     st->field[f].size);

				if (!value)
					continue;
				place_name(&st->field[f], i, text, sizeof(text));
				FACT(("%llx", (unsigned long long)value), "fresh %s %s.%s", kind_name[m->kind],
				     st->name, text);
			}
	}
}
