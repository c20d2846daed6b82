// SPDX-License-Identifier: GPL-2.0
/*
 * The vendor in use, the hooks that are called directly, the tracepoints, and the parameters that more than
 * one room reads: all of them variables that lower floors use, and that the top sets once, at load.
 *
 * No locks.
 */
#include <linux/cache.h>
#include <linux/init.h>

#include "core/core.h"
#define CREATE_TRACE_POINTS
#include "core/trace.h"

const struct lodge_ops *lodge_ops __ro_after_init;
DEFINE_STATIC_CALL_NULL(lodge_window_begin, LODGE_OP(window_begin));
DEFINE_STATIC_CALL_NULL(lodge_window_end, LODGE_OP(window_end));
DEFINE_STATIC_CALL_NULL(lodge_run, LODGE_OP(run));
DEFINE_STATIC_CALL_NULL(lodge_set_event, LODGE_OP(set_event));
DEFINE_STATIC_CALL_NULL(lodge_set_windows, LODGE_OP(set_windows));
DEFINE_STATIC_CALL_NULL(lodge_set_tpr, LODGE_OP(set_tpr));
DEFINE_STATIC_CALL_NULL(lodge_state_load, LODGE_OP(state_load));
DEFINE_STATIC_CALL_NULL(lodge_state_store, LODGE_OP(state_store));

bool lodge_npt_huge = true;
bool lodge_preemption_timer = true;

/**
 * lodge_ops_choose - from here on this is the vendor
 * @ops: its hooks, all of them there
 *
 * Context: load; may sleep.
 */
void __init lodge_ops_choose(const struct lodge_ops *ops)
{
	lodge_ops = ops;
	static_call_update(lodge_window_begin, ops->window_begin);
	static_call_update(lodge_window_end, ops->window_end);
	static_call_update(lodge_run, ops->run);
	static_call_update(lodge_set_event, ops->set_event);
	static_call_update(lodge_set_windows, ops->set_windows);
	static_call_update(lodge_set_tpr, ops->set_tpr);
	static_call_update(lodge_state_load, ops->state_load);
	static_call_update(lodge_state_store, ops->state_store);
}
