// SPDX-License-Identifier: GPL-2.0
/*
 * Disks: virtio-blk (Virtual I/O Device specification 1.2, section 5.2) on a file or block device.
 *
 * A request is a header of 16 bytes to read, data, and a status byte to write; how these are cut
 * into descriptors is the driver's choice, so the header is taken from the front of what can be
 * read and the status from the end of what can be written. Data goes between the file and guest
 * memory by preadv and pwritev, without a copy here.
 *
 * With --template a disk has layers: what is written goes to the top one, a memfd with a bit for
 * each sector that it has, and what is read comes from the highest that has it, or from the file,
 * which is opened to be read only. The first layer has what the template wrote; each guest of it
 * has a second, and finds the first as it was.
 *
 * One thread serves a disk, one request after the other, so a flush finds everything before it
 * written. A driver that does not flush (it did not take the feature) has each write synced.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_ids.h>

#include "runner.h"

#define SECTOR 512
#define ID "lodge-disk-"

#define LAYERS 2

struct layer {
	int fd;
	uint8_t *has;		/* a bit for each sector */
};

struct disk {
	struct virtio v;
	int fd;
	bool read_only;
	uint64_t sectors;
	struct layer layers[LAYERS];
	unsigned int nlayers;
	struct virtio_blk_config config;
};

/* A request's buffers, of which front and end are taken away. */
struct buffers {
	struct iovec *iov;
	unsigned int count;
};

static size_t total(const struct buffers *b)
{
	size_t sum = 0;
	unsigned int i;

	for (i = 0; i < b->count; i++)
		sum += b->iov[i].iov_len;
	return sum;
}

static void advance(struct buffers *b, size_t len)
{
	while (b->count && len >= b->iov->iov_len) {
		len -= b->iov->iov_len;
		b->iov++;
		b->count--;
	}
	if (len) {
		b->iov->iov_base = (uint8_t *)b->iov->iov_base + len;
		b->iov->iov_len -= len;
	}
}

/* Take @len bytes from the front. Return false if there are fewer. */
static bool take_front(struct buffers *b, void *to, size_t len)
{
	uint8_t *p = to;

	if (total(b) < len)
		return false;
	while (len) {
		size_t n = b->iov->iov_len < len ? b->iov->iov_len : len;

		memcpy(p, b->iov->iov_base, n);
		advance(b, n);
		p += n;
		len -= n;
	}
	return true;
}

/* Take the last byte away. Return where it is, NULL if there is none. */
static uint8_t *take_last(struct buffers *b)
{
	while (b->count) {
		struct iovec *last = &b->iov[b->count - 1];

		if (last->iov_len)
			return (uint8_t *)last->iov_base + --last->iov_len;
		b->count--;
	}
	return NULL;
}

static bool in_layer(const struct layer *l, uint64_t sector)
{
	return l->has[sector / 8] & 1 << sector % 8;
}

/* Where a sector is read. */
static int holder(const struct disk *d, uint64_t sector)
{
	unsigned int i = d->nlayers;

	while (i--) {
		if (in_layer(&d->layers[i], sector))
			return d->layers[i].fd;
	}
	return d->fd;
}

/* The part from the front of @b that lies in one file, *fd, as @to. */
static unsigned int one_file(struct disk *d, bool write, off_t offset, const struct buffers *b, struct iovec *to,
			     int *fd)
{
	uint64_t sector = offset / SECTOR;
	size_t left = total(b), len = SECTOR - offset % SECTOR;
	unsigned int n;

	if (!d->nlayers || write) {
		*fd = d->nlayers ? d->layers[d->nlayers - 1].fd : d->fd;
		len = left;
	} else {
		*fd = holder(d, sector);
		while (len < left && holder(d, ++sector) == *fd)
			len += SECTOR;
	}
	for (n = 0; n < b->count && len; n++) {
		to[n] = b->iov[n];
		if (to[n].iov_len > len)
			to[n].iov_len = len;
		len -= to[n].iov_len;
	}
	return n;
}

/* What has been written is in the top layer. A sector of which a part failed is neither the old nor the new. */
static void now_has(struct disk *d, off_t offset, size_t len)
{
	uint64_t sector = offset / SECTOR, end = (offset + len + SECTOR - 1) / SECTOR;

	if (!d->nlayers)
		return;
	for (; sector < end; sector++)
		d->layers[d->nlayers - 1].has[sector / 8] |= 1 << sector % 8;
}

static uint8_t transfer(struct disk *d, bool write, uint64_t sector, struct buffers *b)
{
	size_t left = total(b);
	off_t offset = sector * SECTOR;

	if (left % SECTOR || sector > d->sectors || left / SECTOR > d->sectors - sector)
		return VIRTIO_BLK_S_IOERR;
	while (left) {
		struct iovec iov[QUEUE_MAX];
		int fd;
		unsigned int count = one_file(d, write, offset, b, iov, &fd);
		ssize_t n = write ? pwritev(fd, iov, count, offset) : preadv(fd, iov, count, offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return VIRTIO_BLK_S_IOERR;
		if (write)
			now_has(d, offset, n);
		advance(b, n);
		offset += n;
		left -= n;
	}
	return VIRTIO_BLK_S_OK;
}

static uint8_t sync_disk(struct disk *d)
{
	/* What is written stays in memory. */
	if (d->nlayers)
		return VIRTIO_BLK_S_OK;
	return fdatasync(d->fd) < 0 ? VIRTIO_BLK_S_IOERR : VIRTIO_BLK_S_OK;
}

static uint8_t write_disk(struct disk *d, uint64_t sector, struct buffers *b)
{
	uint8_t status;

	if (d->read_only)
		return VIRTIO_BLK_S_IOERR;
	status = transfer(d, true, sector, b);
	if (status == VIRTIO_BLK_S_OK && !(d->v.driver_features & 1ULL << VIRTIO_BLK_F_FLUSH))
		status = sync_disk(d);
	return status;
}

/* The name that the guest shows: 20 bytes, filled up with zeros. */
static uint8_t read_id(struct disk *d, struct buffers *b)
{
	uint8_t id[VIRTIO_BLK_ID_BYTES] = ID;
	size_t len, done = 0;

	id[sizeof(ID) - 1] = '0' + d->v.index;
	while (b->count && done < sizeof(id)) {
		len = b->iov->iov_len;
		if (len > sizeof(id) - done)
			len = sizeof(id) - done;
		memcpy(b->iov->iov_base, id + done, len);
		done += len;
		advance(b, len);
	}
	return VIRTIO_BLK_S_OK;
}

/* Serve one request. Return how many bytes were written into guest memory. */
static uint32_t serve(struct virtio *v, const struct chain *c)
{
	struct disk *d = (struct disk *)((uint8_t *)v - offsetof(struct disk, v));
	struct iovec iov[QUEUE_MAX];
	struct buffers in = { iov, c->nread }, out = { iov + c->nread, c->nwrite };
	struct virtio_blk_outhdr header;
	uint8_t *status;
	size_t room;

	memcpy(iov, c->iov, (c->nread + c->nwrite) * sizeof(iov[0]));
	status = take_last(&out);
	if (!status)
		return 0;
	room = total(&out);
	if (!take_front(&in, &header, sizeof(header))) {
		*status = VIRTIO_BLK_S_IOERR;
		return 1;
	}
	switch (header.type) {
	case VIRTIO_BLK_T_IN:
		*status = transfer(d, false, header.sector, &out);
		break;
	case VIRTIO_BLK_T_OUT:
		*status = write_disk(d, header.sector, &in);
		break;
	case VIRTIO_BLK_T_FLUSH:
		*status = sync_disk(d);
		break;
	case VIRTIO_BLK_T_GET_ID:
		*status = read_id(d, &out);
		break;
	default:
		*status = VIRTIO_BLK_S_UNSUPP;
		break;
	}
	return 1 + (*status == VIRTIO_BLK_S_OK ? room : 0);
}

/* Split "FILE,ro". Return a copy of FILE. */
static char *parse(const char *spec, bool *read_only)
{
	char *path = strdup(spec);
	size_t len = strlen(spec);

	if (path && len > 3 && !strcmp(path + len - 3, ",ro")) {
		path[len - 3] = 0;
		*read_only = true;
	}
	return path;
}

static int open_file(struct disk *d, const char *path)
{
	off_t size;

	d->fd = open(path, (d->read_only || d->v.vm->template ? O_RDONLY : O_RDWR) | O_CLOEXEC);
	if (d->fd < 0)
		return say_errno("cannot open the disk %s", path);
	size = lseek(d->fd, 0, SEEK_END);
	if (size < 0)
		return say_errno("the disk %s is neither a file nor a block device", path);
	if (size == 0 || size % SECTOR)
		return say("the disk %s has a size of %lld bytes, not a multiple of 512", path,
			   (long long)size);
	d->sectors = size / SECTOR;
	return 0;
}

/**
 * disk_open() - open a disk.
 * @vm: the VM.
 * @spec: "FILE" or "FILE,ro".
 * @index: which of the VM's disks this is.
 *
 * Return: the disk, or NULL after telling why.
 */
struct disk *disk_open(struct vm *vm, const char *spec, unsigned int index)
{
	struct disk *d = calloc(1, sizeof(*d));
	char *path = d ? parse(spec, &d->read_only) : NULL;

	if (!path) {
		free(d);
		say("out of memory");
		return NULL;
	}
	d->fd = -1;
	d->v.device_id = VIRTIO_ID_BLOCK;
	d->v.features = 1ULL << VIRTIO_BLK_F_SEG_MAX | 1ULL << VIRTIO_BLK_F_FLUSH;
	if (d->read_only)
		d->v.features |= 1ULL << VIRTIO_BLK_F_RO;
	d->v.config = &d->config;
	d->v.config_len = sizeof(d->config);
	d->v.nqueues = 1;
	d->v.queue_max = QUEUE_MAX;
	d->v.serve = serve;
	if (virtio_init(&d->v, vm, index, VIRTIO_GSI + index) < 0 || open_file(d, path) < 0) {
		free(path);
		disk_close(d);
		return NULL;
	}
	free(path);
	d->config.capacity = d->sectors;
	d->config.seg_max = QUEUE_MAX - 2;	/* the header and the status take two */
	return d;
}

/**
 * disk_layer() - from now on writes go to a layer of memory.
 * @d: the disk, stopped.
 *
 * Return: 0, or -1.
 */
int disk_layer(struct disk *d)
{
	struct layer *l = &d->layers[d->nlayers];

	if (d->nlayers == LAYERS)
		return say("disk %u has no room for another layer", d->v.index);
	l->fd = memfd_create("disk", MFD_CLOEXEC);
	l->has = calloc(1, d->sectors / 8 + 1);
	if (l->fd < 0 || !l->has || ftruncate(l->fd, d->sectors * SECTOR) < 0)
		return say_errno("cannot keep in memory what is written to disk %u", d->v.index);
	d->nlayers++;
	return 0;
}

/**
 * disk_virtio() - the transport of a disk.
 * @d: the disk.
 *
 * Return: it.
 */
struct virtio *disk_virtio(struct disk *d)
{
	return &d->v;
}

/**
 * disk_sectors() - the size of a disk.
 * @d: the disk.
 *
 * Return: sectors of 512 bytes.
 */
uint64_t disk_sectors(const struct disk *d)
{
	return d->sectors;
}

/**
 * disk_close() - undo disk_open().
 * @d: the disk, stopped.
 */
void disk_close(struct disk *d)
{
	virtio_destroy(&d->v);
	while (d->nlayers--) {
		close(d->layers[d->nlayers].fd);
		free(d->layers[d->nlayers].has);
	}
	if (d->fd >= 0)
		close(d->fd);
	free(d);
}
