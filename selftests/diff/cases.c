// SPDX-License-Identifier: GPL-2.0
/* See cases.h. */
#include "again.h"
#include "cases.h"

struct machine random_machine(void)
{
	static const struct {
		u32 at, size, flags;
	} slots[] = {
		{ 0x0000, 0x2000, 0 }, { 0x4000, 0x2000, 0 }, { 0x6000, 0x2000, KVM_MEM_READONLY },
		{ 0xa000, 0x2000, 0 }, { 0xc000, 0x2000, KVM_MEM_READONLY }, { 0xe000, 0x2000, 0 },
	};
	static u8 *data;
	struct machine m = machine_new(NO_IRQCHIP);
	u64 *pt = (u64 *)(m.vm->mem + AT_PT);

	if (!data)
		data = host_pages(AREA);
	for (u32 i = 0; i < AREA; i++)
		data[i] = i * 7 + (i >> 8) * 3 + 1;
	for (u32 i = 0; i < 16; i++)
		pt[(ALIAS >> 12) + i] = i == 8 ? 0 : (DATA + ((u64)(i * 5 & 15) << 12)) | (i == 10 ? 0x65 : 0x67);
	for (size_t i = 0; i < ARRAY_SIZE(slots); i++)
		OK(vm_slot(m.vm, 1 + i, DATA + slots[i].at, slots[i].size, data + slots[i].at, slots[i].flags));
	no_areas();
	set_world(m.vm, m.v, NULL);
	add_area(data, AREA);
	return m;
}

void set_case(struct machine *m, const struct insn_case *c)
{
	static const u8 end[] = { 0xe6, END_PORT, 0xf4 };
	struct kvm_guest_debug debug = { .control = c->step ? KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP : 0 };
	struct kvm_vcpu_events none = { .flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW };

	memcpy(m->vm->mem + AT_CODE, c->code, c->len);
	memcpy(m->vm->mem + AT_CODE + c->len, end, sizeof(end));
	OK(ioctl(m->v->fd, KVM_SET_VCPU_EVENTS, &none));
	set_sregs(m->v, &c->sregs);
	set_regs(m->v, &c->regs);
	OK(ioctl(m->v->fd, KVM_SET_GUEST_DEBUG, &debug));
}

void raise_event(struct vcpu *v, u32 event, bool first)
{
	struct kvm_interrupt irq = { .irq = 0x40 };
	struct kvm_vcpu_events e;

	if (event == EVENT_NMI) {
		OK(ioctl(v->fd, KVM_NMI, 0));
	/* QEMU may deliver one twice, and no run is like another then: lib/guest.c. The lives of guests have some that count. */
	} else if (event == EVENT_INTERRUPT && first && !host_is_qemu && get_regs(v).rflags & 0x200) {
		OK(ioctl(v->fd, KVM_INTERRUPT, &irq));
	} else if (event == EVENT_EXCEPTION && first) {
		OK(ioctl(v->fd, KVM_GET_VCPU_EVENTS, &e));
		e.flags &= KVM_VCPUEVENT_VALID_SHADOW;
		e.exception.injected = 1;
		e.exception.nr = 6;
		OK(ioctl(v->fd, KVM_SET_VCPU_EVENTS, &e));
	}
}

void settle(struct vcpu *v)
{
	v->run->immediate_exit = 1;
	while (!vcpu_run(v))
		;
	v->run->immediate_exit = 0;
}
