// SPDX-License-Identifier: GPL-2.0
/*
 * irqfd: an eventfd that raises a GSI when it is signalled. ioeventfd: a port or an address whose
 * write signals an eventfd instead of ending KVM_RUN.
 *
 * An irqfd sits in the eventfd's wait queue and raises the GSI right in the wake-up, which may be
 * a hard interrupt: every controller here uses raw locks. On PREEMPT_RT wake-ups of eventfds run in
 * threads, and so it is the same there; what is not is signalling: there an eventfd must not be signalled
 * with interrupts off, so ioeventfds leave the window first and resample notifications go through work.
 *
 * Ends of an irqfd: deassign, the VM fd's release, or the eventfd's own (EPOLLHUP). Each takes it
 * off vm->irqfds and queues its shutdown, once, under irqfds_lock; the shutdown leaves the wait queue,
 * which needs a context that sleeps, waits for readers, and frees.
 *
 * vm->irqfds: changed under irqfds_lock, walked under vm->srcu by resample notifications.
 * vm->ioeventfds: slots_lock. Lock order: the eventfd's wait queue, then irqfds_lock.
 *
 * Race of EPOLLHUP and deassign: both look for `active` under irqfds_lock, the first clears it.
 * Race of assign and the VM's end: assign holds the VM fd.
 */
#include <linux/eventfd.h>
#include <linux/file.h>
#include <linux/poll.h>
#include <linux/rculist.h>
#include <linux/slab.h>
#include <linux/wait.h>
#include <linux/wait_bit.h>
#include <linux/workqueue.h>

#include "irqchip/irqchip.h"

struct irqfd {
	struct lodge_vm *vm;
	struct list_head node;		/* vm->irqfds */
	u32 gsi;
	bool active;			/* [irqfds_lock] on the list */
	bool queued;			/* in the wait queue */
	struct eventfd_ctx *ctx;
	struct eventfd_ctx *resample;	/* or NULL */
	wait_queue_entry_t wait;
	poll_table pt;
	struct work_struct notify;	/* resample, PREEMPT_RT */
	struct work_struct shutdown;
};

struct ioeventfd {
	struct lodge_iodev dev;
	struct list_head node;		/* vm->ioeventfds */
	struct eventfd_ctx *ctx;
	u64 match;
	u32 len;			/* 0: any */
	int bus;
	bool any;			/* any data */
};

static struct workqueue_struct *wq;	/* shutdowns; who waits for them waits for those of its VM alone */

/* -- irqfd -- */

static void raise(struct irqfd *f)
{
	if (f->resample)
		lodge_set_gsi(f->vm, f->gsi, LODGE_IRQ_SOURCE_RESAMPLE, 1);
	else
		lodge_pulse_gsi(f->vm, f->gsi, LODGE_IRQ_SOURCE_IRQFD);
}

/* irqfds_lock held. */
static void deactivate(struct irqfd *f)
{
	if (!f->active)
		return;
	f->active = false;
	list_del_rcu(&f->node);
	if (f->resample)
		atomic_dec(&f->vm->resample_irqfds);
	atomic_inc(&f->vm->ending_irqfds);
	queue_work(wq, &f->shutdown);
}

/* The last of a GSI's resampling irqfds lets go of the line. */
static void drop_line(struct irqfd *f)
{
	struct lodge_vm *vm = f->vm;
	bool last = true;
	struct irqfd *o;

	spin_lock_irq(&vm->irqfds_lock);
	list_for_each_entry(o, &vm->irqfds, node)
		if (o->resample && o->gsi == f->gsi)
			last = false;
	spin_unlock_irq(&vm->irqfds_lock);
	if (last)
		lodge_set_gsi(vm, f->gsi, LODGE_IRQ_SOURCE_RESAMPLE, 0);
}

/* Another VM's may take long: an eventfd's wake-up of its own, say. */
static void wait_for_ends(struct lodge_vm *vm)
{
	wait_var_event(&vm->ending_irqfds, !atomic_read_acquire(&vm->ending_irqfds));
}

static void shutdown(struct work_struct *work)
{
	struct irqfd *f = container_of(work, struct irqfd, shutdown);
	struct lodge_vm *vm = f->vm;
	u64 count;

	synchronize_srcu_expedited(&vm->srcu);	/* assign, and walkers of the list */
	if (f->queued)
		eventfd_ctx_remove_wait_queue(f->ctx, &f->wait, &count);
	cancel_work_sync(&f->notify);
	if (f->resample) {
		drop_line(f);
		eventfd_ctx_put(f->resample);
	}
	eventfd_ctx_put(f->ctx);
	kfree(f);
	/* The VM may be freed as soon as the count is 0; the wake-up uses its address alone. */
	if (atomic_dec_and_test(&vm->ending_irqfds))
		wake_up_var(&vm->ending_irqfds);
}

/*
 * The eventfd's wait queue lock is held; possibly a hard interrupt. An answer that is not 0 ends the wake-up: the
 * others in the queue would find nothing to read.
 */
static int wakeup(wait_queue_entry_t *wait, unsigned int mode, int sync, void *key)
{
	struct irqfd *f = container_of(wait, struct irqfd, wait);
	__poll_t events = key_to_poll(key);
	unsigned long flags;
	int read = 0;
	u64 count;

	if (events & EPOLLIN) {
		eventfd_ctx_do_read(f->ctx, &count);
		raise(f);
		read = 1;
	}
	if (events & EPOLLHUP) {
		spin_lock_irqsave(&f->vm->irqfds_lock, flags);
		deactivate(f);
		spin_unlock_irqrestore(&f->vm->irqfds_lock, flags);
	}
	return read;
}

/* Before all others, and the only one of its kind: an event is one interrupt, of one VM. */
static void queue_proc(struct file *file, wait_queue_head_t *head, poll_table *pt)
{
	struct irqfd *f = container_of(pt, struct irqfd, pt);
	wait_queue_entry_t *other;
	unsigned long flags;

	spin_lock_irqsave(&head->lock, flags);
	f->queued = true;
	list_for_each_entry(other, &head->head, entry)
		f->queued &= other->func != wakeup && !(other->flags & WQ_FLAG_PRIORITY);
	if (f->queued) {
		f->wait.flags |= WQ_FLAG_EXCLUSIVE | WQ_FLAG_PRIORITY;
		__add_wait_queue(head, &f->wait);
	}
	spin_unlock_irqrestore(&head->lock, flags);
}

static void notify(struct work_struct *work)
{
	lodge_eventfd_signal(container_of(work, struct irqfd, notify)->resample);
}

/**
 * lodge_resample_notify - EOI of a GSI with resampling irqfds: lower it, tell their devices
 * @vm: the VM
 * @gsi: the GSI
 *
 * Context: any, the window too; no device lock held.
 */
void lodge_resample_notify(struct lodge_vm *vm, u32 gsi)
{
	int idx = srcu_read_lock(&vm->srcu);
	bool lowered = false;
	struct irqfd *f;

	list_for_each_entry_rcu(f, &vm->irqfds, node, srcu_read_lock_held(&vm->srcu)) {
		if (!f->resample || f->gsi != gsi)
			continue;
		if (!lowered)
			lodge_set_gsi(vm, gsi, LODGE_IRQ_SOURCE_RESAMPLE, 0);
		lowered = true;
		if (IS_ENABLED(CONFIG_PREEMPT_RT))
			queue_work(wq, &f->notify);
		else
			lodge_eventfd_signal(f->resample);
	}
	srcu_read_unlock(&vm->srcu, idx);
}

/** lodge_gsi_is_resampled - a GSI has an irqfd that wants to hear of EOIs; -1 is none. May sleep */
bool lodge_gsi_is_resampled(struct lodge_vm *vm, int gsi)
{
	struct irqfd *f;
	bool found = false;

	if (!atomic_read(&vm->resample_irqfds))
		return false;
	spin_lock_irq(&vm->irqfds_lock);
	list_for_each_entry(f, &vm->irqfds, node)
		found |= f->resample && gsi >= 0 && f->gsi == gsi;
	spin_unlock_irq(&vm->irqfds_lock);
	return found;
}

/* On the list, unless this VM has the eventfd already. */
static int activate(struct irqfd *f)
{
	struct lodge_vm *vm = f->vm;
	struct irqfd *o;
	int ret = 0;

	spin_lock_irq(&vm->irqfds_lock);
	list_for_each_entry(o, &vm->irqfds, node)
		if (o->ctx == f->ctx)
			ret = -EBUSY;
	if (!ret) {
		f->active = true;
		list_add_tail_rcu(&f->node, &vm->irqfds);
		if (f->resample)
			atomic_inc(&vm->resample_irqfds);
	}
	spin_unlock_irq(&vm->irqfds_lock);
	return ret;
}

/* From here on the list has it, and its shutdown frees it. */
static int attach(struct irqfd *f, struct file *file)
{
	struct lodge_vm *vm = f->vm;
	int idx, ret = 0;

	/* Until this ends a shutdown waits, so the eventfd may go away at any point of it. */
	idx = srcu_read_lock(&vm->srcu);
	if (vfs_poll(file, &f->pt) & EPOLLIN && f->queued)
		raise(f);	/* signalled before there was anybody to hear it */
	if (!f->queued) {
		spin_lock_irq(&vm->irqfds_lock);
		deactivate(f);
		spin_unlock_irq(&vm->irqfds_lock);
		ret = -EBUSY;
	}
	srcu_read_unlock(&vm->srcu, idx);
	return ret;
}

static int assign(struct lodge_vm *vm, const struct kvm_irqfd *a)
{
	struct irqfd *f;
	struct file *file;
	int ret;

	f = kzalloc(sizeof(*f), GFP_KERNEL_ACCOUNT);
	if (!f)
		return -ENOMEM;
	f->vm = vm;
	f->gsi = a->gsi;
	INIT_WORK(&f->notify, notify);
	INIT_WORK(&f->shutdown, shutdown);
	init_waitqueue_func_entry(&f->wait, wakeup);
	init_poll_funcptr(&f->pt, queue_proc);

	ret = -EBADF;
	file = fget(a->fd);
	if (!file)
		goto err_free;
	f->ctx = eventfd_ctx_fileget(file);
	ret = PTR_ERR_OR_ZERO(f->ctx);
	if (ret)
		goto err_file;
	if (a->flags & KVM_IRQFD_FLAG_RESAMPLE) {
		f->resample = eventfd_ctx_fdget(a->resamplefd);
		ret = PTR_ERR_OR_ZERO(f->resample);
		if (ret)
			goto err_ctx;
	}
	ret = activate(f);
	if (ret)
		goto err_resample;
	ret = attach(f, file);
	fput(file);
	if (ret)
		return ret;
	if (a->flags & KVM_IRQFD_FLAG_RESAMPLE) {
		mutex_lock(&vm->slots_lock);
		lodge_routes_notify(vm);
		mutex_unlock(&vm->slots_lock);
	}
	return 0;

err_resample:
	if (f->resample)
		eventfd_ctx_put(f->resample);
err_ctx:
	eventfd_ctx_put(f->ctx);
err_file:
	fput(file);
err_free:
	kfree(f);
	return ret;
}

static int deassign(struct lodge_vm *vm, const struct kvm_irqfd *a)
{
	struct eventfd_ctx *ctx = eventfd_ctx_fdget(a->fd);
	struct irqfd *f, *next;

	if (IS_ERR(ctx))
		return PTR_ERR(ctx);
	spin_lock_irq(&vm->irqfds_lock);
	list_for_each_entry_safe(f, next, &vm->irqfds, node)
		if (f->ctx == ctx && f->gsi == a->gsi)
			deactivate(f);
	spin_unlock_irq(&vm->irqfds_lock);
	eventfd_ctx_put(ctx);
	wait_for_ends(vm);
	return 0;
}

/**
 * lodge_ioc_irqfd - KVM_IRQFD
 * @vm: the VM
 * @buf: struct kvm_irqfd
 * @arg: unused
 *
 * Return: 0; -EINVAL for flags, the GSI, a file that is no eventfd or no irqchip (for RESAMPLE:
 * no full one); -EBADF; -EBUSY when this VM uses the eventfd already; -ENOMEM.
 */
int lodge_ioc_irqfd(struct lodge_vm *vm, void *buf, unsigned long arg)
{
	const struct kvm_irqfd *a = buf;

	if (a->flags & ~(KVM_IRQFD_FLAG_DEASSIGN | KVM_IRQFD_FLAG_RESAMPLE) || a->gsi >= LODGE_MAX_GSI)
		return -EINVAL;
	if (a->flags & KVM_IRQFD_FLAG_DEASSIGN)
		return deassign(vm, a);
	if (a->flags & KVM_IRQFD_FLAG_RESAMPLE ? vm->irqchip != IRQCHIP_FULL : vm->irqchip == IRQCHIP_NONE)
		return -EINVAL;
	return assign(vm, a);
}

/* -- ioeventfd -- */

static bool matches(const struct ioeventfd *e, u64 addr, int len, const void *val)
{
	u64 data = 0;

	if (addr != e->dev.base || (e->len && e->len != len))
		return false;
	if (e->any)
		return true;
	memcpy(&data, val, len);
	return data == e->match;
}

static int ioeventfd_write(struct lodge_iodev *d, struct lodge_vcpu *v, u64 addr, int len, const void *val)
{
	struct ioeventfd *e = container_of(d, struct ioeventfd, dev);

	if (!matches(e, addr, len, val))
		return -EOPNOTSUPP;
	lodge_eventfd_signal(e->ctx);
	return 0;
}

static void ioeventfd_destroy(struct lodge_iodev *d)
{
	struct ioeventfd *e = container_of(d, struct ioeventfd, dev);

	eventfd_ctx_put(e->ctx);
	kfree(e);
}

/* Two that would both take some write. */
static bool collides(const struct ioeventfd *a, const struct ioeventfd *b)
{
	return a->bus == b->bus && a->dev.base == b->dev.base &&
	       (!a->len || !b->len || (a->len == b->len && (a->any || b->any || a->match == b->match)));
}

static int ioeventfd_add(struct lodge_vm *vm, struct ioeventfd *e)
{
	struct ioeventfd *o;
	int ret = 0;

	mutex_lock(&vm->slots_lock);
	list_for_each_entry(o, &vm->ioeventfds, node)
		if (collides(o, e))
			ret = -EEXIST;
	if (!ret)
		ret = lodge_bus_add(vm, e->bus, &e->dev);
	if (!ret)
		list_add_tail(&e->node, &vm->ioeventfds);
	mutex_unlock(&vm->slots_lock);
	return ret;
}

static int ioeventfd_del(struct lodge_vm *vm, const struct ioeventfd *e)
{
	struct ioeventfd *o, *found = NULL;

	mutex_lock(&vm->slots_lock);
	list_for_each_entry(o, &vm->ioeventfds, node)
		if (o->bus == e->bus && o->ctx == e->ctx && o->dev.base == e->dev.base &&
		    o->len == e->len && o->any == e->any && (o->any || o->match == e->match))
			found = o;
	if (found) {
		list_del(&found->node);
		lodge_bus_del(vm, found->bus, &found->dev);
		ioeventfd_destroy(&found->dev);
	}
	mutex_unlock(&vm->slots_lock);
	return found ? 0 : -ENOENT;
}

/* A data match narrower than the access would be a match of part of it. */
static bool args_valid(const struct kvm_ioeventfd *a)
{
	const u32 flags = KVM_IOEVENTFD_FLAG_DATAMATCH | KVM_IOEVENTFD_FLAG_PIO |
			  KVM_IOEVENTFD_FLAG_DEASSIGN;

	if (a->flags & ~flags || a->len > 8 || (a->len && !is_power_of_2(a->len)) || a->addr + a->len < a->addr)
		return false;
	return a->len || !(a->flags & KVM_IOEVENTFD_FLAG_DATAMATCH);
}

/**
 * lodge_ioc_ioeventfd - KVM_IOEVENTFD
 * @vm: the VM
 * @buf: struct kvm_ioeventfd
 * @arg: unused
 *
 * Return: 0; -EINVAL for flags, length, an address that wraps or a data match of any length;
 * -EBADF; -EEXIST when another takes the same writes; -ENOENT when there is none to take away;
 * -ENOMEM.
 */
int lodge_ioc_ioeventfd(struct lodge_vm *vm, void *buf, unsigned long arg)
{
	const struct kvm_ioeventfd *a = buf;
	struct ioeventfd *e;
	int ret;

	/* What was never taken is not found: it need not make sense. */
	if (!(a->flags & KVM_IOEVENTFD_FLAG_DEASSIGN) && !args_valid(a))
		return -EINVAL;
	e = kzalloc(sizeof(*e), GFP_KERNEL_ACCOUNT);
	if (!e)
		return -ENOMEM;
	e->dev = (struct lodge_iodev) {
		.base = a->addr, .len = a->len, .any_len = !a->len, .fast = !IS_ENABLED(CONFIG_PREEMPT_RT),
		.uncounted = true, .write = ioeventfd_write, .destroy = ioeventfd_destroy,
	};
	e->len = a->len;
	e->bus = a->flags & KVM_IOEVENTFD_FLAG_PIO ? BUS_PIO : BUS_MMIO;
	e->any = !(a->flags & KVM_IOEVENTFD_FLAG_DATAMATCH);
	e->match = a->datamatch;
	e->ctx = eventfd_ctx_fdget(a->fd);
	if (IS_ERR(e->ctx)) {
		ret = PTR_ERR(e->ctx);
		kfree(e);
		return ret;
	}
	ret = a->flags & KVM_IOEVENTFD_FLAG_DEASSIGN ? ioeventfd_del(vm, e) : ioeventfd_add(vm, e);
	if (ret || a->flags & KVM_IOEVENTFD_FLAG_DEASSIGN)
		ioeventfd_destroy(&e->dev);
	return ret;
}

/* -- life -- */

void lodge_eventfd_init(struct lodge_vm *vm)
{
	spin_lock_init(&vm->irqfds_lock);
	INIT_LIST_HEAD(&vm->irqfds);
	INIT_LIST_HEAD(&vm->ioeventfds);
}

/** lodge_eventfd_destroy - every irqfd ends; ioeventfds go with the bus. May sleep. */
void lodge_eventfd_destroy(struct lodge_vm *vm)
{
	struct irqfd *f, *next;

	spin_lock_irq(&vm->irqfds_lock);
	list_for_each_entry_safe(f, next, &vm->irqfds, node)
		deactivate(f);
	spin_unlock_irq(&vm->irqfds_lock);
	wait_for_ends(vm);
}

int lodge_eventfd_module_init(void)
{
	wq = alloc_workqueue("lodge-irqfd", WQ_UNBOUND, 0);
	return wq ? 0 : -ENOMEM;
}

void lodge_eventfd_module_exit(void)
{
	destroy_workqueue(wq);
}
