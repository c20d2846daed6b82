// SPDX-License-Identifier: GPL-2.0
/*
 * Unit tests of lodge-stat's reading of a stats fd: one as the module makes it, and files that are none.
 */
#define _GNU_SOURCE
#include <linux/kvm.h>
#include <sys/mman.h>

#include "../selftests/lib/tap.h"
#include "stat/stat.h"

#define NAME 48

struct desc {
	struct kvm_stats_desc d;
	char name[NAME];
};

struct file {
	struct kvm_stats_header h;
	char id[NAME];
	struct desc desc[3];
	uint64_t data[5];
};

/* Two counters, and between them a histogram of three values. */
static struct file good(void)
{
	return (struct file) {
		.h = { .name_size = NAME, .num_desc = 3, .id_offset = offsetof(struct file, id),
		       .desc_offset = offsetof(struct file, desc), .data_offset = offsetof(struct file, data) },
		.id = "kvm-17/vcpu-2",
		.desc = {
			{ { .size = 1, .offset = 0 }, "exits" },
			{ { .flags = KVM_STATS_TYPE_LOG_HIST, .size = 3, .offset = 8 }, "waits" },
			{ { .size = 1, .offset = 32 }, "halt_exits" },
		},
		.data = { 41, 1, 2, 3, 42 },
	};
}

static int file_of(const void *bytes, size_t size)
{
	int fd = OK(memfd_create("stats", MFD_CLOEXEC));

	EQ(write(fd, bytes, size), size);
	return fd;
}

static int reading(const void *bytes, size_t size, struct counters *c)
{
	int fd = file_of(bytes, size), ret;

	ret = counters_read(fd, c);
	close(fd);
	return ret;
}

TEST(counters, "counters are read by their names, histograms passed over")
{
	struct file f = good();
	struct counters c;

	EQ(reading(&f, sizeof(f), &c), 0);
	TRUE(!strcmp(c.id, "kvm-17/vcpu-2"));
	EQ(c.count, 2);
	EQ(counters_find(&c, "exits")->value, 41);
	EQ(counters_find(&c, "halt_exits")->value, 42);
	TRUE(!counters_find(&c, "waits"));
	TRUE(!counters_find(&c, "exit"));
	counters_free(&c);
	EQ(c.count, 0);
}

TEST(cut, "a file that ends anywhere before its last counter is none")
{
	struct file f = good();
	struct counters c;
	size_t size;

	for (size = 0; size < sizeof(f); size++)
		ERR(reading(&f, size, &c), EPROTO);
}

TEST(numbers, "offsets and sizes that point elsewhere are none, and ask for no memory")
{
	static const uint32_t bad[] = { 0, 0x7fffffff, 0x80000000, 0xffffffff };
	struct counters c;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		struct file f = good();

		f.h.name_size = bad[i];
		ERR(reading(&f, sizeof(f), &c), EPROTO);
		f = good();
		f.h.num_desc = bad[i] ? bad[i] : 1025;
		ERR(reading(&f, sizeof(f), &c), EPROTO);
		f = good();
		f.h.id_offset = f.h.desc_offset = bad[i] ? bad[i] : sizeof(f);
		ERR(reading(&f, sizeof(f), &c), EPROTO);
		f = good();
		f.h.data_offset = bad[i] ? bad[i] : sizeof(f);
		ERR(reading(&f, sizeof(f), &c), EPROTO);
		f = good();
		f.desc[2].d.offset = bad[i] ? bad[i] : 40;
		ERR(reading(&f, sizeof(f), &c), EPROTO);
	}
}

TEST(names, "a name without an end, or with what a terminal would act on, is one word of a line")
{
	struct file f = good();
	struct counters c;

	memset(f.id, 'x', NAME);
	memset(f.desc[0].name, 'n', NAME);
	strcpy(f.desc[2].name, "a b\n\033[2J\xff");
	EQ(reading(&f, sizeof(f), &c), 0);
	EQ(strlen(c.id), NAME);
	EQ(strlen(c.counter[0].name), NAME);
	TRUE(!strcmp(c.counter[1].name, "a_b__[2J_"));
	counters_free(&c);
}
