/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The ground: the structures that everybody works on (by the headers below), and what everybody does with
 * them. Nothing here calls anything but the kernel and the vendor's hooks.
 */
#ifndef LODGE_CORE_H
#define LODGE_CORE_H

#include <linux/lodge.h>

#include "core/exit.h"
#include "core/ops.h"
#include "core/parts.h"
#include "core/state.h"
#include "core/vcpu.h"
#include "core/vm.h"

typedef int lodge_vm_ioctl(struct lodge_vm *vm, void *buf, unsigned long arg);
typedef int lodge_vcpu_ioctl(struct lodge_vcpu *v, void *buf, unsigned long arg);

/* kick.c: what others ask of a vCPU or of a whole VM */
void lodge_request(struct lodge_vcpu *v, enum lodge_request r);	/* set, then kick */
void lodge_kick(struct lodge_vcpu *v);			/* out of the window, or awake */
void lodge_kick_all_sync(struct lodge_vm *vm);		/* returns when no vCPU is in a window it had entered before; may sleep */
void lodge_vm_sync(struct lodge_vm *vm);		/* wait for SRCU readers and open windows; may sleep */
void lodge_vm_kill(struct lodge_vm *vm, const char *why);	/* impossible condition; any context */
struct lodge_vcpu *lodge_vcpu_by_id(struct lodge_vm *vm, u32 id);

/* exception.c: what is raised in the guest */
struct lodge_event lodge_exception_event(u8 vector, bool has_error, u32 error);	/* as userspace injects it */
void lodge_queue_exception(struct lodge_vcpu *v, u8 vector);
void lodge_queue_exception_error(struct lodge_vcpu *v, u8 vector, u32 error);
void lodge_queue_pf(struct lodge_vcpu *v, u64 gva, u32 error);
void lodge_queue_walk_fault(struct lodge_vcpu *v, const struct lodge_walk_fault *f);
void lodge_queue_nmi(struct lodge_vcpu *v);	/* any context */
void lodge_reinject(struct lodge_vcpu *v, const struct lodge_event *e);	/* a delivery that was intercepted */

/* insn.c: at the instruction that exited */
int lodge_code_bits(struct lodge_vcpu *v);	/* 16, 32 or 64: the size of the code at CS:RIP */
void lodge_end_of_insn(struct lodge_vcpu *v);
void lodge_end_of_element(struct lodge_vcpu *v);

/* RFLAGS as the guest has it: TF is userspace's while that steps. */
static inline u64 lodge_own_flags(const struct lodge_vcpu *v)
{
	return v->debug.control & KVM_GUESTDBG_SINGLESTEP ? v->st.rflags & ~(u64)X86_EFLAGS_TF : v->st.rflags;
}

/* The instruction is done: RIP moves on, a shadow and RF end, TF raises the #DB that the hardware would. */
static inline void lodge_advance_rip(struct lodge_vcpu *v, u64 next_rip)
{
	lodge_need(v, LG_RIP | LG_RFLAGS | LG_SHADOW);
	v->st.rip = next_rip;
	v->dirty |= LG_RIP;
	if (unlikely(v->st.int_shadow || v->st.rflags & (X86_EFLAGS_TF | X86_EFLAGS_RF)))
		lodge_end_of_insn(v);
}

/* Whole words, which is what most state is made of: by the word on every processor, unlike memcpy(). Aligned to 8. */
static inline void lodge_copy_words(void *to, const void *from, size_t bytes)
{
	size_t words = bytes / 8;

	asm volatile("rep movsq" : "+D" (to), "+S" (from), "+c" (words) : : "memory");
}

static inline void lodge_clear_words(void *to, size_t bytes)
{
	size_t words = bytes / 8;

	asm volatile("rep stosq" : "+D" (to), "+c" (words) : "a" (0ul) : "memory");
}

static inline bool lodge_same_words(const void *a, const void *b, size_t bytes)
{
	size_t words = bytes / 8;
	bool same;

	asm volatile("cmp %%eax, %%eax\n\trepe cmpsq" : "=@cce" (same), "+D" (a), "+S" (b), "+c" (words) : : "memory");
	return same;
}

/* ioctl.c: the same from and to userspace, which memcpy's kin do by the byte on some processors. Multiples of 8. */
int lodge_words_from_user(void *to, const void __user *from, size_t bytes);	/* 0; -EFAULT */
int lodge_words_to_user(void __user *to, const void *from, size_t bytes);

/* ioctl.c: what ioctl tables hold. One row: one copy in, one call, one copy out. */
struct lodge_ioctl {
	u32 cmd;
	u16 flags;
#define IOC_VAL		BIT(0)		/* the argument is a value: buf is not to be looked at */
#define IOC_TAIL	BIT(1)		/* arg is passed on: the function copies a variable tail itself */
#define IOC_FILLS	BIT(2)		/* the function writes every byte that goes out */
#define IOC_E2BIG	BIT(3)		/* with that errno too the argument goes out: it says what it takes */
#define SEAL(what)	(LODGE_SEAL_##what << IOC_SEALS)	/* LODGE_SEAL ends it */
#define IOC_SEALS	8
	u16 in;		/* bytes to copy in where the command's number tells it wrong; then nothing goes out */
	union {
		lodge_vm_ioctl *vm;
		lodge_vcpu_ioctl *vcpu;
	} fn;
};
static inline bool lodge_sealed(const struct lodge_vm *vm, const struct lodge_ioctl *row)
{
	return row->flags >> IOC_SEALS & READ_ONCE(vm->seals);
}

/* Lodge's own structures may grow: a command with one is it whatever size its number has. */
static inline bool lodge_cmd_is(u32 cmd, u32 own)
{
	return !((cmd ^ own) & ~IOCSIZE_MASK);
}

/* Whether a row is the command's. */
static inline bool lodge_ioctl_is(const struct lodge_ioctl *row, u32 cmd)
{
	if (_IOC_TYPE(row->cmd) == LODGE_IOC && !(row->flags & IOC_VAL))
		return lodge_cmd_is(cmd, row->cmd);
	return cmd == row->cmd;
}

long lodge_ioctl_sized(const struct lodge_ioctl *row, u32 cmd, struct lodge_vm *vm, unsigned long arg);

void *lodge_scratch(struct page **page);
long lodge_ioctl_table(const struct lodge_ioctl *row, void *obj, unsigned long arg, struct page **page);
#endif
