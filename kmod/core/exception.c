// SPDX-License-Identifier: GPL-2.0
/*
 * What is raised in the guest: exceptions, NMIs, and deliveries that an exit interrupted.
 *
 * Here they are queued (v->pending_exc, v->nmi_queued, v->inject); cpu/event.c, which has the three
 * stages of an event, chooses among them and the interrupts, and begins their delivery.
 *
 * vcpu->mutex held (lodge_queue_nmi: any context). No locks.
 */
#include <asm/trapnr.h>

#include "core/core.h"

static bool contributory(u8 vector)
{
	return vector == X86_TRAP_DE || (vector >= X86_TRAP_TS && vector <= X86_TRAP_GP);
}

static bool has_error_code(u8 vector)
{
	return vector == X86_TRAP_DF || (vector >= X86_TRAP_TS && vector <= X86_TRAP_PF) ||
	       vector == X86_TRAP_AC;
}

/* A second exception while one is pending or being delivered: SDM 3, table 6-5. */
static void queue(struct lodge_vcpu *v, u8 vector, bool has_error, u32 error)
{
	struct lodge_event *first = v->pending_exc.type ? &v->pending_exc : &v->inject;

	lodge_set_request(v, REQ_EVENT);
	if (first->type == EVENT_EXCEPTION) {
		if (first->vector == X86_TRAP_DF) {
			lodge_set_request(v, REQ_TRIPLE_FAULT);
			return;
		}
		if ((contributory(first->vector) && contributory(vector)) ||
		    (first->vector == X86_TRAP_PF && (contributory(vector) || vector == X86_TRAP_PF))) {
			vector = X86_TRAP_DF;
			has_error = true;
			error = 0;
		}
		first->type = EVENT_NONE;
	}
	v->pending_exc = (struct lodge_event) {
		.type = EVENT_EXCEPTION, .vector = vector, .has_error = has_error, .error = error,
	};
}

/**
 * lodge_exception_event - what userspace injects as an exception
 * @vector: which; #BP and #OF come from INT3 and INTO: the guest is to find RIP behind those
 * @has_error: with an error code
 * @error: the code
 */
struct lodge_event lodge_exception_event(u8 vector, bool has_error, u32 error)
{
	bool soft = vector == X86_TRAP_BP || vector == X86_TRAP_OF;

	return (struct lodge_event) {
		.type = soft ? EVENT_SOFT_EXC : EVENT_EXCEPTION, .vector = vector, .len = soft,
		.has_error = has_error, .error = error,
	};
}

/**
 * lodge_queue_exception - raise an exception without error code (or with 0 where one belongs)
 * @v: the vCPU
 * @vector: which; a #DB's DR6 bits go into v->pending_payload first
 */
void lodge_queue_exception(struct lodge_vcpu *v, u8 vector)
{
	queue(v, vector, has_error_code(vector), 0);
}

/**
 * lodge_queue_exception_error - raise an exception with an error code
 * @v: the vCPU
 * @vector: which
 * @error: the error code
 */
void lodge_queue_exception_error(struct lodge_vcpu *v, u8 vector, u32 error)
{
	queue(v, vector, true, error);
}

/**
 * lodge_queue_pf - raise #PF
 * @v: the vCPU
 * @gva: goes into CR2 at delivery
 * @error: the page-fault error code
 */
void lodge_queue_pf(struct lodge_vcpu *v, u64 gva, u32 error)
{
	v->pending_payload = gva;
	queue(v, X86_TRAP_PF, true, error);
}

/**
 * lodge_queue_walk_fault - raise what a walk of the guest's page tables ended in
 * @v: the vCPU
 * @f: from mem/gwalk.c
 */
void lodge_queue_walk_fault(struct lodge_vcpu *v, const struct lodge_walk_fault *f)
{
	if (f->gp)
		lodge_queue_exception(v, X86_TRAP_GP);
	else
		lodge_queue_pf(v, f->gva, f->error);
}

/**
 * lodge_queue_nmi - an NMI for a vCPU
 * @v: the vCPU; any context
 */
void lodge_queue_nmi(struct lodge_vcpu *v)
{
	atomic_inc(&v->nmi_queued);
	lodge_request(v, REQ_NMI);
}

/**
 * lodge_reinject - the hardware says that this event's delivery was interrupted by the exit
 * @v: the vCPU; window
 * @e: the event; EVENT_NONE where running the instruction again raises it
 *
 * The window ends with this exit, whatever its handler finds: a delivery that is interrupted each time it is tried never
 * comes to where the host's interrupts would get through.
 */
void lodge_reinject(struct lodge_vcpu *v, const struct lodge_event *e)
{
	v->inject = *e;
	lodge_set_request(v, REQ_EVENT);
	lodge_set_request(v, REQ_KICK);
}
