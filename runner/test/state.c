// SPDX-License-Identifier: GPL-2.0
/*
 * Unit tests of saved VMs, without a hypervisor: the file's round trip, every truncation and every
 * damaged byte of it, sections that cannot be, and devices whose state cannot be.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/eventfd.h>
#include <linux/serial_reg.h>

#include "runner.h"
#include "../../selftests/lib/tap.h"

#define PAGES 600ULL		/* more than one section's worth */
#define PAGE 4096
#define HEAD 32			/* of a section */
#define FILE_HEAD 16

static char path[64], part[80];
static uint8_t *file;
static size_t file_size;

static void make_vm(struct vm *vm)
{
	memset(vm, 0, sizeof(*vm));
	vm->ram_size = PAGES * PAGE;
	vm->ram = calloc(1, vm->ram_size);
	TRUE(vm->ram);
}

static struct state *make_state(void)
{
	const struct machine_state machine = { .mem = PAGES * PAGE, .cpus = 2, .disks = 1 };
	const struct clock_state clock = { .ns = 5, .realtime = 6 };
	struct state *st = state_new();

	OK(state_put(st, STATE_MACHINE, 0, &machine, sizeof(machine)));
	OK(state_put(st, STATE_CLOCK, 0, &clock, sizeof(clock)));
	OK(state_put(st, STATE_MP, 1, "abcd", 4));
	return st;
}

/* Writes a file of some sections and memory of which pages 0, 3-5 and 20-599 are not zero. */
static void write_file(void)
{
	struct state *st = make_state();
	struct vm vm;
	int fd;

	make_vm(&vm);
	for (unsigned int i = 0; i < PAGES; i++) {
		if (i == 0 || (i >= 3 && i <= 5) || i >= 20)
			vm.ram[i * PAGE + i] = i + 1;
	}
	vm.ram[599 * PAGE + 4095] = 99;
	snprintf(path, sizeof(path), "/tmp/lodge-state.%d", getpid());
	snprintf(part, sizeof(part), "%s.part", path);
	OK(state_write(st, &vm, path));
	state_free(st);
	free(vm.ram);
	ERR(access(part, F_OK), ENOENT);
	fd = OK(open(path, O_RDONLY));
	file_size = OK(lseek(fd, 0, SEEK_END));
	file = malloc(file_size);
	EQ(pread(fd, file, file_size, 0), file_size);
	close(fd);
}

static void put_file(const uint8_t *data, size_t size)
{
	int fd = OK(open(path, O_WRONLY | O_TRUNC));

	EQ(write(fd, data, size), size);
	close(fd);
}

/* Is the file read, with nothing said? */
static bool reads(struct vm *vm)
{
	struct state *st = state_open(path);
	bool ok = st && state_read(st, vm) == 0;

	state_free(st);
	return ok;
}

/* What say() says is expected here and would hide what is not. */
static void be_quiet(void)
{
	int fd = OK(open("/dev/null", O_WRONLY));

	OK(dup2(fd, STDERR_FILENO));
	close(fd);
}

TEST(state_round_trip, "a state and the memory come back from the file, whose pages of zeros take no room")
{
	const struct machine_state *m;
	const struct clock_state *c;
	struct state *st;
	struct vm vm;
	size_t size;

	write_file();
	LE(file_size, (1 + 3 + 580) * PAGE + 16 * HEAD);
	make_vm(&vm);
	st = state_open(path);
	TRUE(st);
	m = state_get(st, STATE_MACHINE, 0, NULL);
	EQ(m->cpus, 2);
	EQ(m->mem, PAGES * PAGE);
	OK(state_read(st, &vm));
	c = state_get(st, STATE_CLOCK, 0, &size);
	EQ(size, sizeof(*c));
	EQ(c->realtime, 6);
	SAME(state_get(st, STATE_MP, 1, NULL), "abcd\0\0\0", 8);
	be_quiet();
	TRUE(!state_get(st, STATE_MP, 0, NULL));
	TRUE(!state_get(st, STATE_LAPIC, 1, NULL));
	for (unsigned int i = 0; i < PAGES; i++) {
		bool used = i == 0 || (i >= 3 && i <= 5) || i >= 20;

		EQ(vm.ram[i * PAGE + i], used ? (uint8_t)(i + 1) : 0);
		EQ(vm.ram[i * PAGE + 4095], i == 599 ? 99 : 0);
	}
	state_free(st);
	free(vm.ram);
	unlink(path);
}

TEST(state_truncated, "a file that ends early, or late, is refused")
{
	struct vm vm;
	size_t i;

	write_file();
	make_vm(&vm);
	be_quiet();
	for (i = 0; i < file_size; i += i < 600 || file_size - i < 600 ? 1 : 997) {
		OK(truncate(path, 0));
		put_file(file, i);
		TRUE(!reads(&vm));
	}
	put_file(file, file_size);
	TRUE(reads(&vm));
	file = realloc(file, file_size + 1);
	file[file_size] = 0;
	put_file(file, file_size + 1);
	TRUE(!reads(&vm));
	free(file);
	free(vm.ram);
	unlink(path);
}

TEST(state_damaged, "a file of which any byte has changed is refused")
{
	struct vm vm;
	size_t i;
	int fd;

	write_file();
	make_vm(&vm);
	be_quiet();
	fd = OK(open(path, O_RDWR));
	for (i = 0; i < file_size; i += i < 600 || file_size - i < 600 ? 1 : 4999) {
		uint8_t byte = file[i] ^ (1 << i % 8);

		EQ(pwrite(fd, &byte, 1, i), 1);
		if (reads(&vm))
			FAIL("a change of byte %zu is not seen", i);
		EQ(pwrite(fd, &file[i], 1, i), 1);
	}
	TRUE(reads(&vm));
	close(fd);
	free(file);
	free(vm.ram);
	unlink(path);
}

/*
 * Reads the file after a field of the second section's header, of 4 or 8 bytes, was set. It is to
 * be refused for that, before the sum is found to be wrong.
 */
static bool reads_with(struct vm *vm, size_t offset, uint64_t value, size_t size)
{
	size_t at = FILE_HEAD + HEAD + sizeof(struct machine_state) + offset;
	uint8_t *copy = malloc(file_size);
	char said[200] = "";
	bool ok;
	int fd;

	memcpy(copy, file, file_size);
	memcpy(copy + at, &value, size);
	put_file(copy, file_size);
	free(copy);
	fd = OK(memfd_create("said", 0));
	OK(dup2(fd, STDERR_FILENO));
	ok = reads(vm);
	GE(pread(fd, said, sizeof(said) - 1, 0), 0);
	close(fd);
	TRUE(ok || said[0]);
	TRUE(!strstr(said, "damaged"));
	return ok;
}

TEST(state_sections, "sections of unknown classes, versions, instances and sizes are refused")
{
	struct vm vm;

	write_file();
	make_vm(&vm);
	be_quiet();
	TRUE(reads_with(&vm, 0, STATE_CLOCK, 4));
	TRUE(!reads_with(&vm, 0, 99, 4));
	TRUE(!reads_with(&vm, 0, STATE_MACHINE, 4));	/* twice */
	TRUE(!reads_with(&vm, 0, STATE_RAM, 4));
	TRUE(!reads_with(&vm, 0, STATE_END, 4));	/* which has no contents */
	TRUE(!reads_with(&vm, 4, 2, 4));
	TRUE(!reads_with(&vm, 8, 1, 4));
	TRUE(!reads_with(&vm, 12, 1, 4));
	TRUE(!reads_with(&vm, 16, 8, 8));
	TRUE(!reads_with(&vm, 16, 24, 8));
	TRUE(!reads_with(&vm, 16, UINT64_MAX, 8));
	TRUE(!reads_with(&vm, 16, 1ULL << 40, 8));
	/* Memory that this VM does not have. */
	vm.ram_size -= PAGE;
	put_file(file, file_size);
	TRUE(!reads(&vm));
	free(file);
	free(vm.ram);
	unlink(path);
}

TEST(state_options, "the machine that was saved is compared with the options, or fills them in")
{
	struct state *st = make_state();
	struct options opt = { .ndisks = 1 };
	struct state *bad = state_new();
	const struct machine_state none = { .mem = 4096, .cpus = 0, .disks = 1 };

	be_quiet();
	OK(restore_options(st, &opt));
	EQ(opt.mem, PAGES * PAGE);
	EQ(opt.cpus, 2);
	OK(restore_options(st, &opt));
	opt.cpus = 1;
	EQ(restore_options(st, &opt), -1);
	opt.cpus = 2;
	opt.mem = 2 * MIB;
	EQ(restore_options(st, &opt), -1);
	opt = (struct options){ .ndisks = 0 };
	EQ(restore_options(st, &opt), -1);
	opt = (struct options){ .ndisks = 1 };
	OK(state_put(bad, STATE_MACHINE, 0, &none, sizeof(none)));
	EQ(restore_options(bad, &opt), -1);
	state_free(st);
	state_free(bad);
}

TEST(state_clock, "time that has passed: none where the clock has gone back")
{
	uint64_t now = state_realtime();

	GE(state_elapsed(now - 1000), 1000);
	EQ(state_elapsed(now + 3600000000000ULL), 0);
	EQ(state_elapsed(UINT64_MAX), 0);
}

static void make_device_vm(struct vm *vm)
{
	make_vm(vm);
	vm->fd = -1;
	vm->save_fd = -1;
	vm->end = END_NONE;
	vm->end_fd = OK(eventfd(0, EFD_NONBLOCK));
	OK(serial_init(&vm->serial, vm, GSI_COM1, STDOUT_FILENO));
}

TEST(uart_state, "the serial port's state: registers and input; what cannot be is refused")
{
	struct serial_state state;
	struct vm vm;
	uint8_t value = 0x5a;

	make_device_vm(&vm);
	serial_io(&vm.serial, true, UART_SCR, &value);
	serial_input(&vm.serial, (const uint8_t *)"abc", 3);
	serial_save(&vm.serial, &state);
	serial_input(&vm.serial, (const uint8_t *)"lost", 4);
	OK(serial_restore(&vm.serial, &state));
	value = UART_IER_RDI;
	serial_io(&vm.serial, true, UART_IER, &value);
	for (unsigned int i = 0; i < 3; i++) {
		serial_io(&vm.serial, false, UART_RX, &value);
		EQ(value, 'a' + i);
	}
	serial_io(&vm.serial, false, UART_SCR, &value);
	EQ(value, 0x5a);
	EQ(serial_room(&vm.serial), RX_SIZE);
	be_quiet();
	state.rx_count = RX_SIZE + 1;
	EQ(serial_restore(&vm.serial, &state), -1);
}

TEST(save_key, "the key that saves, where that was asked for; a guest that ends has ended")
{
	struct vm vm;
	uint8_t typed[8] = "a\001sb";

	make_device_vm(&vm);
	EQ(term_escape(&vm, typed, 4), 4);
	EQ(vm.end, END_NONE);
	vm.save_fd = 0;
	EQ(term_escape(&vm, typed, 4), 2);
	SAME(typed, "ab", 2);
	EQ(vm.end, END_SAVE);
	TRUE(!vm_end(&vm, END_SAVE));
	TRUE(vm_end(&vm, END_OFF));
	TRUE(!vm_end(&vm, END_SAVE));
	EQ(vm.end, END_OFF);
	vm_go_on(&vm);
	EQ(vm.end, END_NONE);
	TRUE(!vm.stopping);
}
