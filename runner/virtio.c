// SPDX-License-Identifier: GPL-2.0
/*
 * Virtio devices: the MMIO transport (version 2) and the split virtqueue, of the Virtual I/O Device
 * specification 1.2, sections 4.2 and 2.7. What a device does with a request is in its own file.
 *
 * A notification by the guest is an ioeventfd, which wakes the device's thread without leaving the
 * kernel in the vCPU's; completions raise an irqfd. While the thread works through the queue it asks
 * for no notifications; it looks once more after it has asked for them again, so that none is lost
 * between.
 *
 * The driver is not trusted. The rings are checked against guest RAM when they are made ready, and
 * each descriptor when it is taken: read once, field by field, so that what was checked is what is
 * used. A driver that breaks the rules loses its queue until it resets the device, and is told so by
 * DEVICE_NEEDS_RESET.
 *
 * A device whose queues are served in the kernel must not need this program for each packet, and this transport
 * wants two accesses of a register for each interrupt: InterruptStatus is read, InterruptACK written. So its
 * registers are a page of the guest's memory, which is read-only there: what the guest reads is what stands in it,
 * without an exit, and what it writes comes here, where the page is then made to say what a read would return now.
 * The writes that a packet takes do not come so far: QueueNotify is an ioeventfd, and so is InterruptACK with the
 * value 1. InterruptStatus always says that a buffer was used, since nobody here knows: the interrupt line is an
 * edge that no other device shares, so a driver only looks when there was an interrupt, and whether there is a used
 * buffer the ring tells. When the configuration changes it says 3, and the acknowledgement of that comes here.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>

#include "runner.h"

#define MAGIC 0x74726976		/* "virt" */
#define TRANSPORT_VERSION 2
#define VENDOR 0x474c444c		/* "LDLG" */
#define CONFIG_END VIRTIO_SIZE
#define PAGE 4096

#define load(p) __atomic_load_n(p, __ATOMIC_RELAXED)
#define store(p, v) __atomic_store_n(p, v, __ATOMIC_RELAXED)

/* The queue that the driver has selected; NULL: there is none of that number. */
static struct queue *selected(struct virtio *v)
{
	return v->queue_sel < v->nqueues ? &v->queues[v->queue_sel] : NULL;
}

static uint32_t interrupt_status(const struct virtio *v)
{
	/* See the head of this file. */
	return v->isr | (v->page && (v->status & VIRTIO_CONFIG_S_DRIVER_OK) ? VIRTIO_MMIO_INT_VRING : 0);
}

static uint32_t read_register(struct virtio *v, uint32_t offset)
{
	const struct queue *q = selected(v);

	switch (offset) {
	case VIRTIO_MMIO_MAGIC_VALUE:
		return MAGIC;
	case VIRTIO_MMIO_VERSION:
		return TRANSPORT_VERSION;
	case VIRTIO_MMIO_DEVICE_ID:
		return v->device_id;
	case VIRTIO_MMIO_VENDOR_ID:
		return VENDOR;
	case VIRTIO_MMIO_DEVICE_FEATURES:
		return v->device_sel < 2 ? v->features >> (32 * v->device_sel) : 0;
	case VIRTIO_MMIO_QUEUE_NUM_MAX:
		return q ? v->queue_max : 0;
	case VIRTIO_MMIO_QUEUE_READY:
		return q && q->ready;
	case VIRTIO_MMIO_INTERRUPT_STATUS:
		return interrupt_status(v);
	case VIRTIO_MMIO_STATUS:
		return v->status;
	case VIRTIO_MMIO_CONFIG_GENERATION:
		return v->generation;
	case VIRTIO_MMIO_SHM_LEN_LOW:
	case VIRTIO_MMIO_SHM_LEN_HIGH:
		return UINT32_MAX;		/* there is no shared memory region */
	default:
		return 0;
	}
}

/* The device's configuration; beyond its end there are zeros. */
static void read_config(const struct virtio *v, uint32_t offset, uint8_t *data, unsigned int len)
{
	memset(data, 0, len);
	if (offset >= v->config_len)
		return;
	if (len > v->config_len - offset)
		len = v->config_len - offset;
	memcpy(data, (const uint8_t *)v->config + offset, len);
}

/* Have the guest read what the registers are now. Called with the lock held, where there is a page. */
static void publish(struct virtio *v)
{
	uint8_t config[CONFIG_END - VIRTIO_MMIO_CONFIG];
	uint32_t offset, value;

	if (!v->page)
		return;
	read_config(v, 0, config, sizeof(config));
	for (offset = 0; offset < CONFIG_END; offset += sizeof(value)) {
		value = 0;
		if (offset < VIRTIO_MMIO_CONFIG)
			value = read_register(v, offset);
		else
			memcpy(&value, config + offset - VIRTIO_MMIO_CONFIG, sizeof(value));
		store(&v->page[offset / sizeof(value)], value);
	}
}

static void raise_interrupt(struct virtio *v, uint32_t why)
{
	v->isr |= why;
	publish(v);
	event_signal(v->irq_fd);
}

/* The driver broke the rules. Called with the lock held. */
static void break_queue(struct virtio *v, struct queue *q)
{
	q->broken = true;
	v->status |= VIRTIO_CONFIG_S_NEEDS_RESET;
	if (v->turn)
		v->turn(v, false);
	raise_interrupt(v, VIRTIO_MMIO_INT_CONFIG);
}

/* Follow the descriptors from @head. Return 0, or -1 if the chain is not valid. */
static int read_chain(struct virtio *v, uint16_t head, struct chain *c)
{
	struct queue *q = &v->queues[0];
	uint16_t i = head;
	unsigned int n;

	c->head = head;
	c->nread = 0;
	c->nwrite = 0;
	/* More than there are descriptors would be a loop. */
	for (n = 0; n < q->size; n++) {
		struct vring_desc *d = &q->desc[i];
		uint64_t addr = load(&d->addr);
		uint32_t len = load(&d->len);
		uint16_t flags = load(&d->flags);
		void *p = vm_ram(v->vm, addr, len);

		if (!p || (flags & VRING_DESC_F_INDIRECT))
			return -1;
		if (c->nwrite && !(flags & VRING_DESC_F_WRITE))
			return -1;
		if (flags & VRING_DESC_F_WRITE)
			c->nwrite++;
		else
			c->nread++;
		c->iov[n].iov_base = p;
		c->iov[n].iov_len = len;
		if (!(flags & VRING_DESC_F_NEXT))
			return 0;
		i = load(&d->next);
		if (i >= q->size)
			return -1;
	}
	return -1;
}

static bool has_request(const struct queue *q)
{
	return __atomic_load_n(&q->avail->idx, __ATOMIC_ACQUIRE) != q->next_avail;
}

/* Take the next request. Return 1, 0 if there is none, -1 if the driver broke the rules. */
static int take(struct virtio *v, struct chain *c)
{
	struct queue *q = &v->queues[0];
	uint16_t idx = __atomic_load_n(&q->avail->idx, __ATOMIC_ACQUIRE);
	uint16_t waiting = idx - q->next_avail;
	uint16_t head;

	if (!waiting)
		return 0;
	if (waiting > q->size)
		return -1;
	head = load(&q->avail->ring[q->next_avail % q->size]);
	if (head >= q->size || read_chain(v, head, c) < 0)
		return -1;
	q->next_avail++;
	return 1;
}

static void put_used(struct queue *q, uint16_t head, uint32_t written)
{
	struct vring_used_elem *e = &q->used->ring[q->next_used % q->size];

	store(&e->id, head);
	store(&e->len, written);
	q->next_used++;
	__atomic_store_n(&q->used->idx, q->next_used, __ATOMIC_RELEASE);
}

/**
 * virtio_serve_queue() - serve the requests that wait in the first queue, until none does.
 * @v: the device; its lock is held.
 */
void virtio_serve_queue(struct virtio *v)
{
	struct queue *q = &v->queues[0];
	struct chain c;
	int got = 0;

	if (!q->ready || q->broken || !(v->status & VIRTIO_CONFIG_S_DRIVER_OK))
		return;
	do {
		bool done = false;

		store(&q->used->flags, VRING_USED_F_NO_NOTIFY);
		while (!v->vm->stopping && (got = take(v, &c)) > 0) {
			put_used(q, c.head, v->serve(v, &c));
			done = true;
		}
		store(&q->used->flags, 0);
		/* The flag must be seen before the index is read again, and the index above
		 * before the driver's flag below.
		 */
		atomic_thread_fence(memory_order_seq_cst);
		if (done && !(load(&q->avail->flags) & VRING_AVAIL_F_NO_INTERRUPT))
			raise_interrupt(v, VIRTIO_MMIO_INT_VRING);
	} while (got >= 0 && has_request(q) && !v->vm->stopping);
	if (got < 0)
		break_queue(v, q);
}

static void *serve_thread(void *arg)
{
	struct virtio *v = arg;
	uint64_t count;

	while (!v->vm->stopping) {
		if (read(v->notify_fds[0], &count, sizeof(count)) < 0)
			continue;
		pthread_mutex_lock(&v->lock);
		virtio_serve_queue(v);
		pthread_mutex_unlock(&v->lock);
	}
	return NULL;
}

static void reset_device(struct virtio *v)
{
	if (v->turn)
		v->turn(v, false);
	memset(v->queues, 0, sizeof(v->queues));
	v->device_sel = 0;
	v->driver_sel = 0;
	v->queue_sel = 0;
	v->driver_features = 0;
	v->isr = 0;
	v->status = 0;
}

static void write_status(struct virtio *v, uint32_t value)
{
	const uint64_t version_1 = 1ULL << VIRTIO_F_VERSION_1;
	unsigned int i;
	bool begins;

	if (!value) {
		reset_device(v);
		return;
	}
	if ((value & VIRTIO_CONFIG_S_FEATURES_OK) &&
	    ((v->driver_features & ~v->features) || !(v->driver_features & version_1)))
		value &= ~VIRTIO_CONFIG_S_FEATURES_OK;
	begins = value & ~v->status & VIRTIO_CONFIG_S_DRIVER_OK;
	v->status = (value & 0xff) | (v->status & VIRTIO_CONFIG_S_NEEDS_RESET);
	if (begins && v->turn && !(v->status & VIRTIO_CONFIG_S_NEEDS_RESET))
		v->turn(v, true);
	/* A driver may have notified before it said that it was ready. */
	for (i = 0; i < v->nqueues && (value & VIRTIO_CONFIG_S_DRIVER_OK); i++)
		event_signal(v->notify_fds[i]);
}

/* Check where the rings are. They stay valid: guest RAM does not move. Return false if they are bad. */
static bool find_rings(struct virtio *v, struct queue *q)
{
	uint32_t n = q->size;

	if (!n || n > v->queue_max || (n & (n - 1)))
		return false;
	if ((q->desc_gpa & 15) || (q->avail_gpa & 1) || (q->used_gpa & 3))
		return false;
	q->desc = vm_ram(v->vm, q->desc_gpa, sizeof(struct vring_desc) * n);
	q->avail = vm_ram(v->vm, q->avail_gpa, sizeof(struct vring_avail) + 2 * (n + 1));
	q->used = vm_ram(v->vm, q->used_gpa,
			 sizeof(struct vring_used) + sizeof(struct vring_used_elem) * n + 2);
	return q->desc && q->avail && q->used;
}

static void ready_queue(struct virtio *v, struct queue *q)
{
	if (!find_rings(v, q)) {
		break_queue(v, q);
		return;
	}
	q->next_avail = 0;
	q->next_used = 0;
	q->ready = true;
}

static void set_half(uint64_t *value, bool high, uint32_t half)
{
	if (high)
		*value = (*value & 0xffffffff) | (uint64_t)half << 32;
	else
		*value = (*value & ~0xffffffffULL) | half;
}

/* The registers of a queue; of one that there is not there is nothing. A ready queue does not change. */
static void write_queue(struct virtio *v, uint32_t offset, uint32_t value)
{
	struct queue *q = selected(v);

	if (!q)
		return;
	if (offset == VIRTIO_MMIO_QUEUE_READY && !(value & 1)) {
		/* Who serves it elsewhere would go on. */
		if (v->turn)
			v->turn(v, false);
		q->ready = false;
		return;
	}
	if (q->ready)
		return;
	switch (offset) {
	case VIRTIO_MMIO_QUEUE_NUM:
		q->size = value;
		break;
	case VIRTIO_MMIO_QUEUE_READY:
		ready_queue(v, q);
		break;
	case VIRTIO_MMIO_QUEUE_DESC_LOW:
	case VIRTIO_MMIO_QUEUE_DESC_HIGH:
		set_half(&q->desc_gpa, offset == VIRTIO_MMIO_QUEUE_DESC_HIGH, value);
		break;
	case VIRTIO_MMIO_QUEUE_AVAIL_LOW:
	case VIRTIO_MMIO_QUEUE_AVAIL_HIGH:
		set_half(&q->avail_gpa, offset == VIRTIO_MMIO_QUEUE_AVAIL_HIGH, value);
		break;
	case VIRTIO_MMIO_QUEUE_USED_LOW:
	case VIRTIO_MMIO_QUEUE_USED_HIGH:
		set_half(&q->used_gpa, offset == VIRTIO_MMIO_QUEUE_USED_HIGH, value);
		break;
	}
}

static void write_register(struct virtio *v, uint32_t offset, uint32_t value)
{
	switch (offset) {
	case VIRTIO_MMIO_DEVICE_FEATURES_SEL:
		v->device_sel = value;
		break;
	case VIRTIO_MMIO_DRIVER_FEATURES_SEL:
		v->driver_sel = value;
		break;
	case VIRTIO_MMIO_DRIVER_FEATURES:
		if (v->driver_sel < 2 && !(v->status & VIRTIO_CONFIG_S_FEATURES_OK))
			set_half(&v->driver_features, v->driver_sel, value);
		break;
	case VIRTIO_MMIO_QUEUE_SEL:
		v->queue_sel = value;
		break;
	case VIRTIO_MMIO_STATUS:
		write_status(v, value);
		break;
	default:
		write_queue(v, offset, value);
		break;
	}
}

/* What an interrupt handler or a notification needs does not wait for the device's thread. */
static bool quick_register(struct virtio *v, bool write, uint32_t offset, uint32_t *value)
{
	if (write && offset == VIRTIO_MMIO_QUEUE_NOTIFY)
		event_signal(v->notify_fds[*value < v->nqueues ? *value : 0]);
	else if (write && offset == VIRTIO_MMIO_INTERRUPT_ACK)
		v->isr &= ~*value;
	else if (!write && offset == VIRTIO_MMIO_INTERRUPT_STATUS)
		*value = interrupt_status(v);
	else if (!write && offset == VIRTIO_MMIO_STATUS)
		*value = v->status;
	else
		return false;
	return true;
}

/**
 * virtio_mmio() - one access to a device's page.
 * @v: the device.
 * @write: the guest writes.
 * @offset: into the page.
 * @data: what it writes, or where what it reads goes.
 * @len: 1 to 8 bytes.
 */
void virtio_mmio(struct virtio *v, bool write, uint32_t offset, uint8_t *data, unsigned int len)
{
	uint32_t value = 0;

	if (offset >= VIRTIO_MMIO_CONFIG) {
		if (!write && offset < CONFIG_END)
			read_config(v, offset - VIRTIO_MMIO_CONFIG, data, len);
		return;
	}
	/* Registers are of 32 bits, and are accessed so. */
	if (len != sizeof(value) || (offset & 3))
		return;
	if (write)
		memcpy(&value, data, sizeof(value));
	/* A page shows each change, and is changed under the lock; who holds that waits for vhost at most. */
	if (v->page || !quick_register(v, write, offset, &value)) {
		pthread_mutex_lock(&v->lock);
		if (v->page && quick_register(v, write, offset, &value))
			;
		else if (write)
			write_register(v, offset, value);
		else
			value = read_register(v, offset);
		publish(v);
		pthread_mutex_unlock(&v->lock);
	}
	if (!write)
		memcpy(data, &value, sizeof(value));
}

/**
 * virtio_init() - a device after power-on.
 * @v: what to fill; all zero but for the device's own fields.
 * @vm: the VM.
 * @index: which of its virtio devices this is.
 * @gsi: its interrupt.
 *
 * Return: 0, or -1; virtio_destroy() is to be called in both cases.
 */
int virtio_init(struct virtio *v, struct vm *vm, unsigned int index, uint32_t gsi)
{
	unsigned int i;
	bool failed;

	v->vm = vm;
	v->index = index;
	v->gsi = gsi;
	v->features |= 1ULL << VIRTIO_F_VERSION_1;
	pthread_mutex_init(&v->lock, NULL);
	v->irq_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	v->ack_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	failed = v->irq_fd < 0 || v->ack_fd < 0;
	for (i = 0; i < MAX_QUEUES; i++) {
		v->notify_fds[i] = i < v->nqueues ? eventfd(0, EFD_CLOEXEC) : -1;
		failed |= i < v->nqueues && v->notify_fds[i] < 0;
	}
	return failed ? say_errno("cannot create an eventfd") : 0;
}

/**
 * virtio_map_registers() - have the guest read the device's registers from memory.
 * @v: the device; it is not connected yet.
 *
 * Return: 0, or -1.
 */
int virtio_map_registers(struct virtio *v)
{
	void *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (page == MAP_FAILED)
		return say_errno("out of memory");
	v->page = page;
	publish(v);
	return 0;
}

/**
 * virtio_changed() - the device's configuration has changed.
 * @v: the device; its lock is held.
 */
void virtio_changed(struct virtio *v)
{
	v->generation++;
	if (v->status & VIRTIO_CONFIG_S_DRIVER_OK)
		raise_interrupt(v, VIRTIO_MMIO_INT_CONFIG);
	else
		publish(v);
}

/**
 * virtio_break() - who serves the queues elsewhere says that the driver broke the rules.
 * @v: the device; its lock is held.
 */
void virtio_break(struct virtio *v)
{
	break_queue(v, &v->queues[0]);
}

/**
 * virtio_destroy() - undo virtio_init().
 * @v: the device, stopped.
 */
void virtio_destroy(struct virtio *v)
{
	unsigned int i;

	for (i = 0; i < v->nqueues; i++) {
		if (v->notify_fds[i] >= 0)
			close(v->notify_fds[i]);
	}
	if (v->irq_fd >= 0)
		close(v->irq_fd);
	if (v->ack_fd >= 0)
		close(v->ack_fd);
	if (v->page)
		munmap(v->page, PAGE);
	pthread_mutex_destroy(&v->lock);
}

static int add_ioeventfd(struct virtio *v, uint32_t offset, int fd, bool match, uint64_t value)
{
	struct kvm_ioeventfd e = {
		.addr = GPA_VIRTIO + v->index * VIRTIO_STRIDE + offset, .len = 4, .fd = fd,
		.flags = match ? KVM_IOEVENTFD_FLAG_DATAMATCH : 0, .datamatch = value,
	};

	return ioctl(v->vm->fd, KVM_IOEVENTFD, &e) < 0 ? say_errno("KVM_IOEVENTFD") : 0;
}

/**
 * virtio_connect() - connect a device to the VM.
 * @v: the device; the VM has its interrupt controllers.
 *
 * Return: 0, or -1.
 */
int virtio_connect(struct virtio *v)
{
	const uint64_t gpa = GPA_VIRTIO + v->index * VIRTIO_STRIDE;
	struct kvm_irqfd interrupt = { .fd = v->irq_fd, .gsi = v->gsi };
	unsigned int i;

	if (v->page && vm_add_registers(v->vm, gpa, v->page) < 0)
		return -1;
	/* One queue takes every notification, whichever queue it is for. */
	for (i = 0; i < v->nqueues; i++) {
		if (add_ioeventfd(v, VIRTIO_MMIO_QUEUE_NOTIFY, v->notify_fds[i], v->nqueues > 1, i) < 0)
			return -1;
	}
	if (v->page && add_ioeventfd(v, VIRTIO_MMIO_INTERRUPT_ACK, v->ack_fd, true, VIRTIO_MMIO_INT_VRING) < 0)
		return -1;
	if (ioctl(v->vm->fd, KVM_IRQFD, &interrupt) < 0)
		return say_errno("KVM_IRQFD");
	return 0;
}

/**
 * virtio_renew() - a device of one queue in another process, of another VM, in the state that it has.
 * @v: the device, stopped.
 *
 * Return: 0, or -1.
 */
int virtio_renew(struct virtio *v)
{
	if (vm_renew_event(&v->notify_fds[0]) < 0 || vm_renew_event(&v->irq_fd) < 0)
		return -1;
	/* Its thread waits there. */
	return fcntl(v->notify_fds[0], F_SETFL, 0) < 0 ? say_errno("cannot create an eventfd") : 0;
}

/**
 * virtio_start() - start a device's thread.
 * @v: the device, connected.
 *
 * What was under way when the device stopped goes on: the thread looks for requests, and an
 * interrupt that the guest has not acknowledged is raised again, since the first may not have come
 * through.
 *
 * Return: 0, or -1; virtio_stop() is to be called in both cases.
 */
int virtio_start(struct virtio *v)
{
	if (v->isr)
		event_signal(v->irq_fd);
	event_signal(v->notify_fds[0]);
	errno = pthread_create(&v->thread, NULL, serve_thread, v);
	if (errno)
		return say_errno("cannot start a thread");
	v->running = true;
	return 0;
}

/**
 * virtio_stop() - stop the device's thread, after the request that it serves.
 * @v: the device; vm->stopping is set.
 */
void virtio_stop(struct virtio *v)
{
	if (!v->running)
		return;
	event_signal(v->notify_fds[0]);
	pthread_join(v->thread, NULL);
	v->running = false;
}

/**
 * virtio_save() - the state of the transport of a device with one queue.
 * @v: the device, stopped.
 * @out: where it goes; what the device itself adds is 0.
 */
void virtio_save(const struct virtio *v, struct virtio_state *out)
{
	const struct queue *q = &v->queues[0];

	*out = (struct virtio_state){
		.features = v->features, .driver_features = v->driver_features,
		.desc_gpa = q->desc_gpa, .avail_gpa = q->avail_gpa, .used_gpa = q->used_gpa,
		.status = v->status, .isr = v->isr, .device_sel = v->device_sel,
		.driver_sel = v->driver_sel, .queue_sel = v->queue_sel, .queue_size = q->size,
		.next_avail = q->next_avail, .next_used = q->next_used,
		.ready = q->ready, .broken = q->broken,
	};
}

/**
 * virtio_restore() - set the transport to a state.
 * @v: the device, not started.
 * @in: the state, from a file.
 *
 * Return: 0, or -1.
 */
int virtio_restore(struct virtio *v, const struct virtio_state *in)
{
	struct queue *q = &v->queues[0];

	if (in->features != v->features)
		return say("disk %u was not the same, or was read-only where it is not now",
			   v->index);
	*q = (struct queue){
		.size = in->queue_size, .ready = in->ready == 1, .broken = in->broken == 1,
		.desc_gpa = in->desc_gpa, .avail_gpa = in->avail_gpa, .used_gpa = in->used_gpa,
		.next_avail = in->next_avail, .next_used = in->next_used,
	};
	if (in->status > 0xff || in->isr > 3 || in->ready > 1 || in->broken > 1 ||
	    (q->ready && !find_rings(v, q)) ||
	    ((in->status & VIRTIO_CONFIG_S_FEATURES_OK) && (in->driver_features & ~v->features)))
		return say("the saved disk %u is in a state that cannot be", v->index);
	v->driver_features = in->driver_features;
	v->status = in->status;
	v->isr = in->isr;
	v->device_sel = in->device_sel;
	v->driver_sel = in->driver_sel;
	v->queue_sel = in->queue_sel;
	return 0;
}
