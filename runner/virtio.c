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
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>

#include "runner.h"

#define MAGIC 0x74726976		/* "virt" */
#define TRANSPORT_VERSION 2
#define VENDOR 0x474c444c		/* "LDLG" */
#define CONFIG_END VIRTIO_SIZE

#define load(p) __atomic_load_n(p, __ATOMIC_RELAXED)
#define store(p, v) __atomic_store_n(p, v, __ATOMIC_RELAXED)

static void raise_interrupt(struct virtio *v, uint32_t why)
{
	v->isr |= why;
	event_signal(v->irq_fd);
}

/* The driver broke the rules. Called with the lock held. */
static void break_queue(struct virtio *v)
{
	v->queue.broken = true;
	v->status |= VIRTIO_CONFIG_S_NEEDS_RESET;
	raise_interrupt(v, VIRTIO_MMIO_INT_CONFIG);
}

/* Follow the descriptors from @head. Return 0, or -1 if the chain is not valid. */
static int read_chain(struct virtio *v, uint16_t head, struct chain *c)
{
	struct queue *q = &v->queue;
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
	struct queue *q = &v->queue;
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
 * virtio_serve_queue() - serve the requests that wait, until none does.
 * @v: the device; its lock is held.
 */
void virtio_serve_queue(struct virtio *v)
{
	struct queue *q = &v->queue;
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
		break_queue(v);
}

static void *serve_thread(void *arg)
{
	struct virtio *v = arg;
	uint64_t count;

	while (!v->vm->stopping) {
		if (read(v->notify_fd, &count, sizeof(count)) < 0)
			continue;
		pthread_mutex_lock(&v->lock);
		virtio_serve_queue(v);
		pthread_mutex_unlock(&v->lock);
	}
	return NULL;
}

static void reset_device(struct virtio *v)
{
	memset(&v->queue, 0, sizeof(v->queue));
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

	if (!value) {
		reset_device(v);
		return;
	}
	if ((value & VIRTIO_CONFIG_S_FEATURES_OK) &&
	    ((v->driver_features & ~v->features) || !(v->driver_features & version_1)))
		value &= ~VIRTIO_CONFIG_S_FEATURES_OK;
	v->status = (value & 0xff) | (v->status & VIRTIO_CONFIG_S_NEEDS_RESET);
	/* A driver may have notified before it said that it was ready. */
	if (value & VIRTIO_CONFIG_S_DRIVER_OK)
		event_signal(v->notify_fd);
}

/* Check where the rings are. They stay valid: guest RAM does not move. Return false if they are bad. */
static bool find_rings(struct virtio *v)
{
	struct queue *q = &v->queue;
	uint32_t n = q->size;

	if (!n || n > QUEUE_MAX || (n & (n - 1)))
		return false;
	if ((q->desc_gpa & 15) || (q->avail_gpa & 1) || (q->used_gpa & 3))
		return false;
	q->desc = vm_ram(v->vm, q->desc_gpa, sizeof(struct vring_desc) * n);
	q->avail = vm_ram(v->vm, q->avail_gpa, sizeof(struct vring_avail) + 2 * (n + 1));
	q->used = vm_ram(v->vm, q->used_gpa,
			 sizeof(struct vring_used) + sizeof(struct vring_used_elem) * n + 2);
	return q->desc && q->avail && q->used;
}

static void ready_queue(struct virtio *v)
{
	if (!find_rings(v)) {
		break_queue(v);
		return;
	}
	v->queue.next_avail = 0;
	v->queue.next_used = 0;
	v->queue.ready = true;
}

static void set_half(uint64_t *value, bool high, uint32_t half)
{
	if (high)
		*value = (*value & 0xffffffff) | (uint64_t)half << 32;
	else
		*value = (*value & ~0xffffffffULL) | half;
}

/* The registers of the only queue; of others there is nothing. A ready queue does not change. */
static void write_queue(struct virtio *v, uint32_t offset, uint32_t value)
{
	struct queue *q = &v->queue;

	if (v->queue_sel != 0)
		return;
	if (offset == VIRTIO_MMIO_QUEUE_READY && !(value & 1)) {
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
		ready_queue(v);
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

static uint32_t read_register(struct virtio *v, uint32_t offset)
{
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
		return v->queue_sel == 0 ? QUEUE_MAX : 0;
	case VIRTIO_MMIO_QUEUE_READY:
		return v->queue_sel == 0 && v->queue.ready;
	case VIRTIO_MMIO_SHM_LEN_LOW:
	case VIRTIO_MMIO_SHM_LEN_HIGH:
		return UINT32_MAX;		/* there is no shared memory region */
	default:
		return 0;
	}
}

/* The device's configuration, which never changes; beyond its end there are zeros. */
static void read_config(const struct virtio *v, uint32_t offset, uint8_t *data, unsigned int len)
{
	memset(data, 0, len);
	if (offset >= v->config_len)
		return;
	if (len > v->config_len - offset)
		len = v->config_len - offset;
	memcpy(data, (const uint8_t *)v->config + offset, len);
}

/* What an interrupt handler or a notification needs does not wait for the device's thread. */
static bool quick_register(struct virtio *v, bool write, uint32_t offset, uint32_t *value)
{
	if (write && offset == VIRTIO_MMIO_QUEUE_NOTIFY)
		event_signal(v->notify_fd);
	else if (write && offset == VIRTIO_MMIO_INTERRUPT_ACK)
		v->isr &= ~*value;
	else if (!write && offset == VIRTIO_MMIO_INTERRUPT_STATUS)
		*value = v->isr;
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
	if (!quick_register(v, write, offset, &value)) {
		pthread_mutex_lock(&v->lock);
		if (write)
			write_register(v, offset, value);
		else
			value = read_register(v, offset);
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
 *
 * Return: 0, or -1; virtio_destroy() is to be called in both cases.
 */
int virtio_init(struct virtio *v, struct vm *vm, unsigned int index)
{
	v->vm = vm;
	v->index = index;
	v->features |= 1ULL << VIRTIO_F_VERSION_1;
	pthread_mutex_init(&v->lock, NULL);
	v->notify_fd = eventfd(0, EFD_CLOEXEC);
	v->irq_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (v->notify_fd < 0 || v->irq_fd < 0)
		return say_errno("cannot create an eventfd");
	return 0;
}

/**
 * virtio_destroy() - undo virtio_init().
 * @v: the device, stopped.
 */
void virtio_destroy(struct virtio *v)
{
	if (v->notify_fd >= 0)
		close(v->notify_fd);
	if (v->irq_fd >= 0)
		close(v->irq_fd);
	pthread_mutex_destroy(&v->lock);
}

/**
 * virtio_connect() - connect a device to the VM.
 * @v: the device; the VM has its interrupt controllers.
 *
 * Return: 0, or -1.
 */
int virtio_connect(struct virtio *v)
{
	struct kvm_ioeventfd notification = {
		.addr = GPA_VIRTIO + v->index * VIRTIO_STRIDE + VIRTIO_MMIO_QUEUE_NOTIFY,
		.len = 4,
		.fd = v->notify_fd,
	};
	struct kvm_irqfd interrupt = { .fd = v->irq_fd, .gsi = VIRTIO_GSI + v->index };

	if (ioctl(v->vm->fd, KVM_IOEVENTFD, &notification) < 0)
		return say_errno("KVM_IOEVENTFD");
	if (ioctl(v->vm->fd, KVM_IRQFD, &interrupt) < 0)
		return say_errno("KVM_IRQFD");
	return 0;
}

/**
 * virtio_renew() - a device in another process, of another VM, in the state that it has.
 * @v: the device, stopped.
 *
 * Return: 0, or -1.
 */
int virtio_renew(struct virtio *v)
{
	if (vm_renew_event(&v->notify_fd) < 0 || vm_renew_event(&v->irq_fd) < 0)
		return -1;
	/* Its thread waits there. */
	return fcntl(v->notify_fd, F_SETFL, 0) < 0 ? say_errno("cannot create an eventfd") : 0;
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
	event_signal(v->notify_fd);
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
	event_signal(v->notify_fd);
	pthread_join(v->thread, NULL);
	v->running = false;
}

/**
 * virtio_save() - the transport's state.
 * @v: the device, stopped.
 * @out: where it goes; what the device itself adds is 0.
 */
void virtio_save(const struct virtio *v, struct virtio_state *out)
{
	const struct queue *q = &v->queue;

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
	struct queue *q = &v->queue;

	if (in->features != v->features)
		return say("disk %u was not the same, or was read-only where it is not now",
			   v->index);
	*q = (struct queue){
		.size = in->queue_size, .ready = in->ready == 1, .broken = in->broken == 1,
		.desc_gpa = in->desc_gpa, .avail_gpa = in->avail_gpa, .used_gpa = in->used_gpa,
		.next_avail = in->next_avail, .next_used = in->next_used,
	};
	if (in->status > 0xff || in->isr > 3 || in->ready > 1 || in->broken > 1 ||
	    (q->ready && !find_rings(v)) ||
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
