// SPDX-License-Identifier: GPL-2.0
/*
 * The network: virtio-net (Virtual I/O Device specification 1.2, section 5.1) between the guest and a tap
 * interface of the host, served by vhost-net in the host's kernel.
 *
 * No packet comes here, and none makes an exit to this program. A notification of the guest's is an ioeventfd,
 * which is the kick of a vhost ring; what vhost calls when it has used a buffer is an irqfd, one for both rings;
 * and the two accesses of a register that each interrupt takes are a read of memory and another ioeventfd
 * (virtio.c). What is left to do here is to make the device, to hand the rings over when the driver is ready and
 * to take them back when it resets, and to say when the link is gone.
 *
 * What is offered is what all of them have: vhost-net, the tap, and this transport. The tap gives each packet the
 * header of virtio-net, so that a checksum that is not there yet and a packet that is still to be cut into
 * segments pass through both ways; how much of that the guest takes is told the tap when the driver is ready.
 * There is no control queue, and there is one pair of queues.
 *
 * @lock of the transport guards what changes after the start: whether vhost has the rings (@on), the link
 * (@config.status), and @gone and @said. The vCPUs' threads take it, and call turn() with it, and so does the
 * thread here, which waits for two things: that vhost finds something wrong with the rings, and news of the
 * host's interfaces, which come for every interface there is; whether ours is there still is then asked of the
 * tap. (The tap's own descriptor cannot be waited for: it would also wake this thread for every packet.) A tap
 * that is deleted is gone for good, one of the same name is another.
 *
 * With --save, --restore and --template there is no network (main.c refuses it): the rings' positions are
 * vhost's, a restored guest's neighbours have forgotten it, and all guests of a template would have one address
 * and one tap.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/vhost.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_net.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "runner.h"

#define TUN "/dev/net/tun"
#define VHOST "/dev/vhost-net"
#define QUEUES 2		/* the first receives, the second transmits; with vhost as in virtio */
#define NET_QUEUE_MAX 256
#define MACHINE_ID "/etc/machine-id"

#define F(bit) (1ULL << (bit))
/* What vhost itself must know of, where it can do it. */
#define VHOST_BITS (F(VIRTIO_F_VERSION_1) | F(VIRTIO_RING_F_INDIRECT_DESC) | F(VIRTIO_RING_F_EVENT_IDX) | \
		    F(VIRTIO_NET_F_MRG_RXBUF))
/* What every tap with virtio-net's header takes from the guest. */
#define TAP_BITS (F(VIRTIO_NET_F_CSUM) | F(VIRTIO_NET_F_HOST_TSO4) | F(VIRTIO_NET_F_HOST_TSO6) | \
		  F(VIRTIO_NET_F_HOST_ECN))
#define OWN_BITS (F(VIRTIO_NET_F_MAC) | F(VIRTIO_NET_F_STATUS))

/* What the tap may give to the guest, where the driver takes it. */
static const struct {
	unsigned int bit, offload;
} guest_offloads[] = {
	{ VIRTIO_NET_F_GUEST_CSUM, TUN_F_CSUM },
	{ VIRTIO_NET_F_GUEST_TSO4, TUN_F_TSO4 },
	{ VIRTIO_NET_F_GUEST_TSO6, TUN_F_TSO6 },
	{ VIRTIO_NET_F_GUEST_ECN, TUN_F_TSO_ECN },
};

#define NOFFLOADS (sizeof(guest_offloads) / sizeof(guest_offloads[0]))

struct net {
	struct virtio v;
	char tap[IFNAMSIZ];
	int tap_fd, vhost_fd;
	int news_fd;		/* netlink: an interface of the host has come, gone or changed */
	int error_fd;		/* eventfd: vhost found something wrong with a ring */
	int stop_fd;		/* eventfd: the thread is to end */
	uint64_t vhost_features;
	bool on;		/* vhost has the rings */
	bool gone;		/* the tap is */
	bool said;		/* that vhost refuses: a guest cannot have it said again and again */
	struct virtio_net_config config;
};

static struct net *net_of(struct virtio *v)
{
	return (struct net *)((uint8_t *)v - offsetof(struct net, v));
}

static int parse_mac(struct net_options *net, const char *text)
{
	unsigned int i;
	char *end;

	for (i = 0; i < MAC_SIZE; i++) {
		if (!strchr("0123456789abcdefABCDEF", text[0]) || !text[0] ||
		    !strchr("0123456789abcdefABCDEF", text[1]) || !text[1] ||
		    text[2] != (i < MAC_SIZE - 1 ? ':' : '\0'))
			return say("mac= wants an address like 02:00:5e:10:20:30");
		net->mac[i] = strtoul(text, &end, 16);
		text = end + 1;
	}
	if (net->mac[0] & 1)
		return say("mac= wants the address of one interface, and this one is for many");
	net->has_mac = true;
	return 0;
}

/**
 * net_parse() - take the value of --net.
 * @net: where to.
 * @spec: "tap=IF" or "tap=IF,mac=ADDRESS".
 *
 * Return: 0, or -1.
 */
int net_parse(struct net_options *net, const char *spec)
{
	const char *name = spec + 4, *end;
	size_t len;

	if (net->tap[0])
		return say("there can be one --net");
	if (strncmp(spec, "tap=", 4))
		return say("--net wants tap=IF or tap=IF,mac=ADDRESS, not '%s'", spec);
	end = strchrnul(name, ',');
	len = end - name;
	if (!len || len > TAP_NAME_MAX)
		return say("the name of a tap has 1 to %d characters, not %zu", TAP_NAME_MAX, len);
	memcpy(net->tap, name, len);
	net->tap[len] = '\0';
	if (!*end)
		return 0;
	if (strncmp(end, ",mac=", 5))
		return say("--net wants tap=IF or tap=IF,mac=ADDRESS, not '%s'", spec);
	return parse_mac(net, end + 5);
}

/* FNV-1a, of 64 bits: it spreads, and is a few lines to say what it is. */
static uint64_t hash(uint64_t h, const void *data, size_t len)
{
	const uint8_t *p = data;

	while (len--)
		h = (h ^ *p++) * 0x100000001b3ULL;
	return h;
}

/* The rule of lodge-run.1: the same on this machine for this tap each time, and others elsewhere. */
static void make_mac(struct net *n)
{
	int fd = open(MACHINE_ID, O_RDONLY | O_CLOEXEC);
	uint64_t h = 0xcbf29ce484222325ULL;
	char id[32];
	ssize_t len = fd >= 0 ? read(fd, id, sizeof(id)) : 0;
	unsigned int i;

	if (fd >= 0)
		close(fd);
	h = hash(h, id, len > 0 ? len : 0);
	h = hash(h, n->tap, strlen(n->tap));
	n->config.mac[0] = 2;		/* of one interface, locally administered */
	for (i = 1; i < MAC_SIZE; i++)
		n->config.mac[i] = h >> (8 * (i - 1));
}

static int open_node(const char *path, const char *module)
{
	int fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);

	if (fd >= 0)
		return fd;
	if (errno == ENOENT || errno == ENODEV || errno == ENXIO)
		return say("there is no %s: is the module %s loaded?", path, module);
	if (errno == EACCES || errno == EPERM)
		return say("no permission to open %s", path);
	return say_errno("cannot open %s", path);
}

/* TUNSETIFF would make a tap of a name that is not there, if it may: it would have no address and nobody's route. */
static int must_exist(struct net *n)
{
	struct ifreq ifr = { 0 };

	strcpy(ifr.ifr_name, n->tap);
	if (ioctl(n->news_fd, SIOCGIFINDEX, &ifr) == 0)
		return 0;
	if (errno == ENODEV)
		return say("there is no tap %s", n->tap);
	return say_errno("cannot look for the tap %s", n->tap);
}

static int attach_tap(struct net *n)
{
	struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
	int header = sizeof(struct virtio_net_hdr_mrg_rxbuf);

	strcpy(ifr.ifr_name, n->tap);
	if (ioctl(n->tap_fd, TUNSETIFF, &ifr) < 0) {
		if (errno == EINVAL)
			return say("%s is no tap, or one of several queues", n->tap);
		if (errno == EBUSY)
			return say("the tap %s is in use", n->tap);
		if (errno == EPERM)
			return say("no permission to use the tap %s: it is not this user's", n->tap);
		return say_errno("cannot use the tap %s", n->tap);
	}
	if (ioctl(n->tap_fd, TUNSETVNETHDRSZ, &header) < 0)
		return say_errno("the tap %s does not take virtio-net's header", n->tap);
	return 0;
}

/* To hear what becomes of interfaces; the socket also serves to ask about them. */
static int open_news(struct net *n)
{
	struct sockaddr_nl address = { .nl_family = AF_NETLINK, .nl_groups = RTMGRP_LINK };

	n->news_fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
	if (n->news_fd < 0 || bind(n->news_fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return say_errno("cannot hear of the host's interfaces");
	return 0;
}

static int open_vhost(struct net *n)
{
	n->vhost_fd = open_node(VHOST, "vhost_net");
	if (n->vhost_fd < 0)
		return -1;
	if (ioctl(n->vhost_fd, VHOST_SET_OWNER) < 0)
		return say_errno("vhost-net cannot be had");
	if (ioctl(n->vhost_fd, VHOST_GET_FEATURES, &n->vhost_features) < 0)
		return say_errno("VHOST_GET_FEATURES");
	n->vhost_features &= VHOST_BITS;
	if (!(n->vhost_features & F(VIRTIO_F_VERSION_1)))
		return say("vhost-net of this kernel lacks version 1 of virtio");
	return 0;
}

/* What the guest can be given: as many as the tap takes at once. */
static uint64_t offered_offloads(const struct net *n)
{
	uint64_t features = 0;
	unsigned int all = 0;
	size_t i;

	for (i = 0; i < NOFFLOADS; i++) {
		if (ioctl(n->tap_fd, TUNSETOFFLOAD, all | guest_offloads[i].offload) < 0)
			continue;
		all |= guest_offloads[i].offload;
		features |= F(guest_offloads[i].bit);
	}
	ioctl(n->tap_fd, TUNSETOFFLOAD, 0);
	return features;
}

static void set_link(struct net *n, bool up)
{
	n->config.status = up ? VIRTIO_NET_S_LINK_UP : 0;
	virtio_changed(&n->v);
}

static int set_backend(const struct net *n, int fd)
{
	struct vhost_vring_file file;
	int ret = 0;

	for (file.index = 0; file.index < QUEUES; file.index++) {
		file.fd = fd;
		if (ioctl(n->vhost_fd, VHOST_NET_SET_BACKEND, &file) < 0)
			ret = -1;
	}
	return ret;
}

/* One of the rings, as the driver has placed it, which was checked then (virtio.c). */
static int set_ring(const struct net *n, unsigned int i)
{
	const struct queue *q = &n->v.queues[i];
	struct vhost_vring_state size = { .index = i, .num = q->size }, base = { .index = i };
	struct vhost_vring_file kick = { .index = i, .fd = n->v.notify_fds[i] };
	struct vhost_vring_file call = { .index = i, .fd = n->v.irq_fd };
	struct vhost_vring_file error = { .index = i, .fd = n->error_fd };
	struct vhost_vring_addr addr = {
		.index = i, .desc_user_addr = (uintptr_t)q->desc, .avail_user_addr = (uintptr_t)q->avail,
		.used_user_addr = (uintptr_t)q->used,
	};

	if (ioctl(n->vhost_fd, VHOST_SET_VRING_NUM, &size) < 0 ||
	    ioctl(n->vhost_fd, VHOST_SET_VRING_BASE, &base) < 0 ||
	    ioctl(n->vhost_fd, VHOST_SET_VRING_ADDR, &addr) < 0 ||
	    ioctl(n->vhost_fd, VHOST_SET_VRING_KICK, &kick) < 0 ||
	    ioctl(n->vhost_fd, VHOST_SET_VRING_CALL, &call) < 0)
		return -1;
	return ioctl(n->vhost_fd, VHOST_SET_VRING_ERR, &error);
}

/* Hand the rings over. Return 0, or -1 with errno. */
static int hand_over(struct net *n)
{
	uint64_t driver = n->v.driver_features & n->v.features, features = driver & n->vhost_features;
	unsigned int i, offload = 0;

	for (i = 0; i < NOFFLOADS; i++) {
		if (driver & F(guest_offloads[i].bit))
			offload |= guest_offloads[i].offload;
	}
	/* Segments take checksums; a driver that has taken one without the other gets neither. */
	if (!(offload & TUN_F_CSUM))
		offload = 0;
	if (ioctl(n->tap_fd, TUNSETOFFLOAD, offload) < 0 || ioctl(n->vhost_fd, VHOST_SET_FEATURES, &features) < 0)
		return -1;
	for (i = 0; i < QUEUES; i++) {
		if (set_ring(n, i) < 0)
			return -1;
	}
	return set_backend(n, n->tap_fd);
}

static bool ready(const struct net *n)
{
	unsigned int i;

	for (i = 0; i < QUEUES; i++) {
		if (!n->v.queues[i].ready)
			return false;
	}
	return n->v.driver_features & F(VIRTIO_F_VERSION_1);
}

static void refused(struct net *n, const char *what, const char *why)
{
	if (!n->said)
		say_meanwhile("vhost-net refuses %s%s%s%s: the guest's link is down", what, why ? " (" : "",
			      why ? why : "", why ? ")" : "");
	n->said = true;
	set_link(n, false);
}

static void take_back(struct net *n)
{
	set_backend(n, VHOST_FILE_UNBIND);
	n->on = false;
}

/* Is the tap gone? The lock is held. */
static bool look(struct net *n)
{
	struct ifreq ifr;

	if (n->gone || ioctl(n->tap_fd, TUNGETIFF, &ifr) == 0)
		return n->gone;
	n->gone = true;
	take_back(n);
	say_meanwhile("the tap %s is gone: the guest's link is down", n->tap);
	set_link(n, false);
	return true;
}

static void turn(struct virtio *v, bool on)
{
	struct net *n = net_of(v);
	const char *why;

	if (n->on)
		take_back(n);
	if (!on) {
		/* Whatever was wrong with the rings goes with them. The driver looks at the link when it begins. */
		n->config.status = n->gone ? 0 : VIRTIO_NET_S_LINK_UP;
		return;
	}
	if (n->gone || !ready(n))
		return;
	n->on = hand_over(n) == 0;
	if (n->on)
		return;
	why = strerror(errno);
	take_back(n);
	if (!look(n))
		refused(n, "the guest's rings", why);
}

/* A ring was not what it must be. The driver is told as for other devices, and that the link is down. */
static void fail(struct net *n)
{
	if (!n->on)
		return;
	virtio_break(&n->v);
	refused(n, "what the guest has in its rings", NULL);
}

/* What came, and more of it than there was room for, says the same: look. */
static void drain(int fd)
{
	char news[4096];

	while (recv(fd, news, sizeof(news), 0) >= 0 || errno == ENOBUFS)
		;
}

static void *watch(void *arg)
{
	struct net *n = arg;
	uint64_t count;

	while (!n->v.vm->stopping) {
		struct pollfd fds[] = {
			{ .fd = n->news_fd, .events = POLLIN },
			{ .fd = n->error_fd, .events = POLLIN },
			{ .fd = n->stop_fd, .events = POLLIN },
		};

		if (poll(fds, 3, -1) < 0)
			continue;
		if (fds[0].revents)
			drain(n->news_fd);
		pthread_mutex_lock(&n->v.lock);
		if (fds[0].revents)
			look(n);
		if (fds[1].revents && read(n->error_fd, &count, sizeof(count)) > 0)
			fail(n);
		pthread_mutex_unlock(&n->v.lock);
	}
	return NULL;
}

/**
 * net_open() - open the tap and vhost-net, as the user named them.
 * @vm: the VM.
 * @opt: what the user asked for.
 *
 * Return: 0, or -1; net_close() is to be called in both cases.
 */
int net_open(struct vm *vm, const struct options *opt)
{
	struct net *n;

	if (!opt->net.tap[0])
		return 0;
	n = calloc(1, sizeof(*n));
	if (!n)
		return say("out of memory");
	vm->net = n;
	strcpy(n->tap, opt->net.tap);
	n->tap_fd = -1;
	n->vhost_fd = -1;
	n->news_fd = -1;
	n->error_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	n->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	n->v.device_id = VIRTIO_ID_NET;
	n->v.nqueues = QUEUES;
	n->v.queue_max = NET_QUEUE_MAX;
	n->v.config = &n->config;
	n->v.config_len = offsetof(struct virtio_net_config, max_virtqueue_pairs);
	n->v.turn = turn;
	n->config.status = VIRTIO_NET_S_LINK_UP;
	if (virtio_init(&n->v, vm, NET_INDEX, GSI_NET) < 0)
		return -1;
	if (n->error_fd < 0 || n->stop_fd < 0)
		return say_errno("cannot create an eventfd");
	if (open_news(n) < 0 || must_exist(n) < 0)
		return -1;
	n->tap_fd = open_node(TUN, "tun");
	if (n->tap_fd < 0 || open_vhost(n) < 0 || attach_tap(n) < 0)
		return -1;
	if (opt->net.has_mac)
		memcpy(n->config.mac, opt->net.mac, MAC_SIZE);
	else
		make_mac(n);
	n->v.features |= OWN_BITS | TAP_BITS | n->vhost_features | offered_offloads(n);
	return virtio_map_registers(&n->v);
}

/**
 * net_virtio() - the transport of the network.
 * @net: the network.
 *
 * Return: it.
 */
struct virtio *net_virtio(struct net *net)
{
	return &net->v;
}

/**
 * net_connect() - connect the network to the VM, and vhost to its memory.
 * @vm: the VM, with its interrupt controllers.
 *
 * Return: 0, or -1.
 */
int net_connect(struct vm *vm)
{
	struct {
		struct vhost_memory head;
		struct vhost_memory_region regions[2];
	} table = { 0 };
	uint64_t low = vm_low_ram(vm);

	if (!vm->net)
		return 0;
	table.regions[0].memory_size = low;
	table.regions[0].userspace_addr = (uintptr_t)vm->ram;
	table.regions[1].guest_phys_addr = GPA_HIGH;
	table.regions[1].memory_size = vm->ram_size - low;
	table.regions[1].userspace_addr = (uintptr_t)vm->ram + low;
	table.head.nregions = vm->ram_size > low ? 2 : 1;
	if (ioctl(vm->net->vhost_fd, VHOST_SET_MEM_TABLE, &table) < 0)
		return say_errno("vhost-net does not take the guest's memory");
	return virtio_connect(&vm->net->v);
}

/**
 * net_start() - start the thread that watches over the network.
 * @vm: the VM.
 *
 * Return: 0, or -1; net_stop() is to be called in both cases.
 */
int net_start(struct vm *vm)
{
	struct net *n = vm->net;

	if (!n)
		return 0;
	errno = pthread_create(&n->v.thread, NULL, watch, n);
	if (errno)
		return say_errno("cannot start a thread");
	n->v.running = true;
	return 0;
}

/**
 * net_stop() - take the rings back from vhost, and stop the thread.
 * @vm: the VM, its vCPUs stopped.
 */
void net_stop(struct vm *vm)
{
	struct net *n = vm->net;

	if (!n || !n->v.running)
		return;
	vm->stopping = true;
	event_signal(n->stop_fd);
	pthread_join(n->v.thread, NULL);
	n->v.running = false;
	turn(&n->v, false);
}

static void close_fd(int fd)
{
	if (fd >= 0)
		close(fd);
}

/**
 * net_close() - undo net_open(), however far it got.
 * @vm: the VM, its network stopped.
 */
void net_close(struct vm *vm)
{
	struct net *n = vm->net;

	if (!n)
		return;
	vm->net = NULL;
	virtio_destroy(&n->v);
	close_fd(n->vhost_fd);
	close_fd(n->tap_fd);
	close_fd(n->news_fd);
	close_fd(n->error_fd);
	close_fd(n->stop_fd);
	free(n);
}
