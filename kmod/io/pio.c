// SPDX-License-Identifier: GPL-2.0
/*
 * IN, OUT, INS and OUTS.
 *
 * IN and OUT are finished in the window when an in-kernel device or an ioeventfd answers; otherwise
 * v->run is filled in right there and the instruction completes on the next KVM_RUN. RIP stays at the instruction
 * until then, as with KVM: userspace that sets other registers meanwhile has the last word.
 *
 * Each element of a string form is an operand of its own (operand.c), in memory or a device's (access.c). What lies
 * in memory, one element behind the other in one page, may be had at once: INS asks userspace for all of such a run.
 * OUTS sends one element at a time, as with KVM, whose users are used to it; all of a run where they asked for that
 * (LODGE_CAP_BATCH_OUTS). In-kernel devices take runs, as far as they do. Where the first element goes is known
 * before the port is read, so a page fault there costs no input (SDM 1, 19.4.2).
 *
 * vcpu->mutex held; outside the window vm->srcu too.
 */
#include "core/trace.h"
#include "io/io.h"

static void *pio_data(struct lodge_vcpu *v)
{
	return v->pio_data;
}

static u64 addr_mask(u8 addr_size)
{
	return addr_size >= 8 ? ~0ull : (1ull << addr_size * 8) - 1;
}

/* Write a register of which only the low addr_size bytes count. */
static void put_reg(struct lodge_vcpu *v, int r, u64 val, u8 addr_size)
{
	if (addr_size == 2)
		v->regs[r] = (v->regs[r] & ~0xffffull) | (val & 0xffff);
	else
		v->regs[r] = val & addr_mask(addr_size);
}

static void put_ax(struct lodge_vcpu *v, const void *data, u8 size)
{
	if (size == 4)
		v->regs[R_AX] = READ_ONCE(*(const u32 *)data);
	else if (size == 2)
		*(u16 *)&v->regs[R_AX] = READ_ONCE(*(const u16 *)data);
	else
		*(u8 *)&v->regs[R_AX] = READ_ONCE(*(const u8 *)data);
}

static void to_user(struct lodge_vcpu *v, u16 port, u32 count)
{
	struct kvm_run *run = v->run;

	run->exit_reason = KVM_EXIT_IO;
	run->io.direction = v->pio.in ? KVM_EXIT_IO_IN : KVM_EXIT_IO_OUT;
	run->io.size = v->pio.size;
	run->io.port = port;
	run->io.count = count;
	run->io.data_offset = LODGE_PIO_PAGE * PAGE_SIZE;
	v->pio.count = count;
	v->pio.rip = v->st.rip;
}

/* The next KVM_RUN after an IN or OUT that went to userspace. */
static void complete_port(struct lodge_vcpu *v)
{
	if (lodge_rip(v) != v->pio.rip)
		return;
	if (v->pio.in)
		put_ax(v, pio_data(v), v->pio.size);
	lodge_advance_rip(v, v->pio.next_rip);
}

static u64 next_rip(struct lodge_vcpu *v)
{
	const struct lodge_exit *x = &v->exit;

	return x->io.next_rip ? x->io.next_rip : lodge_rip(v) + x->len;
}

static enum lodge_next simple(struct lodge_vcpu *v, bool window)
{
	const u16 port = v->exit.io.port;
	const u8 size = v->exit.io.size;
	int ret;

	v->pio.val = v->regs[R_AX];
	if (v->exit.io.flags & IO_IN)
		ret = lodge_bus_read(v, BUS_PIO, port, size, &v->pio.val, window);
	else
		ret = lodge_bus_write(v, BUS_PIO, port, size, &v->pio.val, window);
	if (ret == -EAGAIN)
		return NEXT_HANDLE;
	trace_kvm_pio(!(v->exit.io.flags & IO_IN), port, size, 1, v->pio.val);
	if (likely(ret == -EOPNOTSUPP)) {
		v->pio.in = v->exit.io.flags & IO_IN;
		v->pio.size = size;
		v->pio.next_rip = next_rip(v);
		if (!v->pio.in)
			*(u32 *)pio_data(v) = v->pio.val;	/* of which size bytes count */
		to_user(v, port, 1);
		v->complete_regs = complete_port;
		return NEXT_USER;
	}
	if (v->exit.io.flags & IO_IN)
		put_ax(v, &v->pio.val, size);
	lodge_advance_rip(v, next_rip(v));
	return NEXT_ENTER;
}

/* -- string forms -- */

static u64 elements_left(struct lodge_vcpu *v)
{
	return v->pio.rep ? v->regs[R_CX] & addr_mask(v->pio.addr_size) : 1;
}

/* count elements further, of which userspace may have left fewer. True: the instruction is done. */
static bool string_step(struct lodge_vcpu *v, u64 count)
{
	const struct lodge_pio *p = &v->pio;
	int r = p->in ? R_DI : R_SI;
	s64 step;

	count = min(count, elements_left(v));
	step = count * p->size;
	put_reg(v, r, v->regs[r] + (v->st.rflags & X86_EFLAGS_DF ? -step : step), p->addr_size);
	if (p->rep)
		put_reg(v, R_CX, v->regs[R_CX] - count, p->addr_size);
	if (p->rep && elements_left(v)) {
		lodge_end_of_element(v);
		return false;
	}
	lodge_advance_rip(v, p->next_rip);
	return true;
}

/* The element at an offset: its pieces. As lodge_operand(). */
static int element(struct lodge_vcpu *v, u64 ea, struct lodge_operand *o)
{
	struct lodge_mmio *m = &v->mmio;
	struct lodge_pio *p = &v->pio;

	*o = (struct lodge_operand) { .ea = ea & addr_mask(p->addr_size), .seg = p->seg, .len = p->size };
	memset(m, 0, sizeof(*m));
	return p->in ? lodge_operand(v, o, true, true, m->wr, &m->nwr) :
		       lodge_operand(v, o, false, false, m->rd, &m->nrd);
}

/*
 * So many elements, from that one on, lie in memory and are one piece. At least 1, which may be neither. Single
 * steps are elements.
 */
static u32 memory_run(struct lodge_vcpu *v, const struct lodge_operand *o, u64 left)
{
	struct lodge_mmio *m = &v->mmio;
	const struct lodge_pio *p = &v->pio;

	if (v->st.rflags & (X86_EFLAGS_DF | X86_EFLAGS_TF) || m->nrd + m->nwr != 1 ||
	    !lodge_is_memory(v, p->in ? m->wr[0].gpa : m->rd[0].gpa, p->in))
		return 1;
	return lodge_operand_run(v, o, p->addr_size, p->in, left);
}

/* So many of these elements an in-kernel device has taken, or given. The others are userspace's. */
static u32 string_device(struct lodge_vcpu *v, void *data, u32 count)
{
	const struct lodge_pio *p = &v->pio;
	u32 i;

	for (i = 0; i < count; i++, data += p->size) {
		int ret = p->in ? lodge_bus_read(v, BUS_PIO, p->port, p->size, data, false) :
				  lodge_bus_write(v, BUS_PIO, p->port, p->size, data, false);

		if (ret)
			break;
	}
	return i;
}

/* INS, with elements in hand: to where they were to go when the port was asked, by registers as they are now. */
static int store(struct lodge_vcpu *v)
{
	struct lodge_pio *p = &v->pio;
	s64 step = v->st.rflags & X86_EFLAGS_DF ? -p->size : p->size;
	u8 *data = pio_data(v);

	while (p->done < p->count) {
		u64 left = min_t(u64, elements_left(v), p->count - p->done);
		struct lodge_operand o;
		u32 n = 1;
		int ret;

		if (!left) {
			lodge_advance_rip(v, p->next_rip);
			return NEXT_ENTER;
		}
		if (!p->storing) {
			ret = element(v, p->ea + p->done * step, &o);
			if (ret)
				return ret < 0 ? ret : NEXT_ENTER;
			n = memory_run(v, &o, left);
			memcpy(v->mmio.data, data + p->done * p->size, p->size);
		}
		p->storing = true;
		ret = n > 1 ? lodge_write_gpa(v, v->mmio.wr[0].gpa, data + p->done * p->size, n * p->size) :
			      lodge_access(v, true, store);
		if (ret)
			return ret;
		p->storing = false;
		p->done += n;
		if (string_step(v, n))
			break;
	}
	return NEXT_ENTER;
}

static int complete_in(struct lodge_vcpu *v)
{
	if (lodge_rip(v) != v->pio.rip)
		return NEXT_ENTER;
	lodge_need(v, LG_ALL);
	return store(v);
}

/* INS: the first element has a place, or the port is not asked. */
static int string_in(struct lodge_vcpu *v)
{
	struct lodge_pio *p = &v->pio;
	struct lodge_operand o;
	u32 want;
	int ret;

	p->ea = v->regs[R_DI];
	ret = element(v, p->ea, &o);
	if (ret)
		return ret < 0 ? ret : NEXT_ENTER;
	want = memory_run(v, &o, elements_left(v));
	p->done = 0;
	p->storing = false;
	p->count = string_device(v, pio_data(v), want);
	trace_kvm_pio(false, p->port, p->size, p->count ?: want, 0);
	if (p->count)
		return store(v);
	to_user(v, p->port, want);
	v->complete = complete_in;
	return NEXT_USER;
}

/* OUTS, the first element read: it, and those that are had with it, go to whoever has the port. */
static int send(struct lodge_vcpu *v)
{
	struct lodge_pio *p = &v->pio;
	u8 *data = pio_data(v);
	gpa_t gpa = v->mmio.rd[0].gpa;
	u32 run, n = 1, taken;
	int ret;

	ret = lodge_access(v, false, send);
	if (ret)
		return ret;
	memcpy(data, v->mmio.data, p->size);
	run = p->count;
	if (run > 1 && READ_ONCE(v->vm->set.batch_outs)) {
		ret = lodge_read_gpa(v, gpa, data, run * p->size);
		if (ret)
			return ret;
		n = run;
	}
	taken = string_device(v, data, n);
	if (taken == n && n < run && !lodge_read_gpa(v, gpa + p->size, data, (run - 1) * p->size))
		taken += string_device(v, data, run - 1);
	trace_kvm_pio(true, p->port, p->size, taken ?: n, 0);
	if (!taken)
		to_user(v, p->port, n);
	/* As KVM does it, OUTS is over when userspace hears of it: there is nothing to complete. */
	string_step(v, taken ?: n);
	return taken ? NEXT_ENTER : NEXT_USER;
}

static int string_out(struct lodge_vcpu *v)
{
	struct lodge_operand o;
	int ret = element(v, v->regs[R_SI], &o);

	if (ret)
		return ret < 0 ? ret : NEXT_ENTER;
	v->pio.count = memory_run(v, &o, elements_left(v));
	return send(v);
}

/* What the hardware does not say about them is in their prefixes. 0, 1: run the guest again, or an errno. */
static int string_prefixes(struct lodge_vcpu *v)
{
	const struct lodge_exit *x = &v->exit;
	struct lodge_pio *p = &v->pio;
	struct lodge_walk_fault f;
	struct lodge_strio s;
	u8 bytes[15];
	int n;

	p->addr_size = x->io.addr_size;
	p->seg = x->io.flags & IO_IN ? SEG_ES : x->io.seg;
	if (p->addr_size && p->seg != 0xff)
		return 0;
	n = lodge_fetch(v, bytes, sizeof(bytes), &f, false);
	if (n < 0)
		return n;
	if (n == 0) {
		lodge_queue_walk_fault(v, &f);
		return 1;
	}
	if (lodge_decode_strio(bytes, n, lodge_code_bits(v), &s))
		return 1;	/* the guest changed its code: run what is there now */
	p->addr_size = s.addr_size;
	if (p->seg == 0xff)
		p->seg = s.seg;
	return 0;
}

static noinline int string(struct lodge_vcpu *v)
{
	const struct lodge_exit *x = &v->exit;
	struct lodge_pio *p = &v->pio;
	int ret;

	lodge_need(v, LG_ALL);
	ret = string_prefixes(v);
	if (ret)
		return ret < 0 ? ret : NEXT_ENTER;
	p->in = x->io.flags & IO_IN;
	p->port = x->io.port;
	p->size = x->io.size;
	p->rep = x->io.flags & IO_REP;
	p->next_rip = next_rip(v);
	if (!elements_left(v)) {
		/* Intel's write the count back, whose upper half is then 0. */
		if (p->addr_size == 4 && boot_cpu_data.x86_vendor == X86_VENDOR_INTEL)
			v->regs[R_CX] = 0;
		lodge_advance_rip(v, p->next_rip);
		return NEXT_ENTER;
	}
	return p->in ? string_in(v) : string_out(v);
}

/**
 * lodge_handle_io - EXIT_IO
 * @v: the vCPU
 * @window: called with IRQs off: string forms and slow devices have to wait
 */
enum lodge_next lodge_handle_io(struct lodge_vcpu *v, bool window)
{
	if (likely(!(v->exit.io.flags & IO_STRING)))
		return simple(v, window);
	return window ? NEXT_HANDLE : string(v);
}
