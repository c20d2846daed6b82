// SPDX-License-Identifier: GPL-2.0
/*
 * The serial ports, 16550As. The first one's line is lodge-run's standard input and output; the second, which only a
 * template has (server.c), is a connection.
 *
 * Sending takes no time, so the transmitter is always empty; that it became empty is what THRE
 * interrupts report. The receiver is deeper than the real one's 16 bytes, and offers its input only
 * while the guest has receive interrupts enabled: a driver empties the receiver when it opens the
 * port, and what was typed or piped in before that would be lost.
 *
 * One lock guards the state. It is not held while output is written, because what it goes to may
 * not take any more, and the main thread must still get in then, to see the escape key. Output goes
 * out in the order of the guest's accesses as far as the guest orders them itself.
 */
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <linux/serial_reg.h>

#include "runner.h"

#define LSR_IDLE (UART_LSR_THRE | UART_LSR_TEMT)
#define MSR_READY (UART_MSR_DCD | UART_MSR_DSR | UART_MSR_CTS)

static bool input_ready(const struct serial *s)
{
	return s->rx_count && (s->ier & UART_IER_RDI);
}

/* Which interrupt is pending, as the low bits of IIR. */
static uint8_t pending(const struct serial *s)
{
	if (input_ready(s))
		return UART_IIR_RDI;
	if (s->thre_pending && (s->ier & UART_IER_THRI))
		return UART_IIR_THRI;
	return UART_IIR_NO_INT;
}

/* Drive the interrupt line; OUT2 connects it on a PC. Called with the lock held. */
static void update_line(struct serial *s)
{
	bool level = pending(s) != UART_IIR_NO_INT && (s->mcr & UART_MCR_OUT2);
	struct kvm_irq_level irq = { .irq = s->gsi, .level = level };

	if (level == s->line)
		return;
	s->line = level;
	/* Without the interrupt a driver would poll; there is nobody to tell. */
	ioctl(s->vm->fd, KVM_IRQ_LINE, &irq);
}

/* All of it, unless the output is closed or the VM is stopping. */
static void send(struct serial *s, uint8_t byte)
{
	while (s->out_fd >= 0 && write(s->out_fd, &byte, 1) < 0) {
		if ((errno != EINTR && errno != EAGAIN) || s->vm->stopping)
			return;
	}
}

static void push(struct serial *s, uint8_t byte)
{
	if (s->rx_count < RX_SIZE)
		s->rx[(s->rx_head + s->rx_count++) % RX_SIZE] = byte;
}

static uint8_t pop(struct serial *s)
{
	uint8_t byte;

	if (!input_ready(s))
		return 0;
	byte = s->rx[s->rx_head];
	s->rx_head = (s->rx_head + 1) % RX_SIZE;
	if (s->rx_count-- == RX_SIZE)
		event_signal(s->room_fd);
	return byte;
}

static uint8_t read_iir(struct serial *s)
{
	uint8_t iir = pending(s);

	if (iir == UART_IIR_THRI)
		s->thre_pending = false;
	return iir | (s->fcr & UART_FCR_ENABLE_FIFO ? 0xc0 : 0);
}

/* In loopback the four outputs come back as inputs: RTS as CTS, DTR as DSR, OUT1 RI, OUT2 DCD. */
static uint8_t read_msr(const struct serial *s)
{
	uint8_t msr = 0;

	if (!(s->mcr & UART_MCR_LOOP))
		return MSR_READY;
	msr |= s->mcr & UART_MCR_RTS ? UART_MSR_CTS : 0;
	msr |= s->mcr & UART_MCR_DTR ? UART_MSR_DSR : 0;
	msr |= s->mcr & UART_MCR_OUT1 ? UART_MSR_RI : 0;
	msr |= s->mcr & UART_MCR_OUT2 ? UART_MSR_DCD : 0;
	return msr;
}

static uint8_t read_register(struct serial *s, uint16_t reg)
{
	bool dlab = s->lcr & UART_LCR_DLAB;

	switch (reg) {
	case UART_RX:
		return dlab ? s->dll : pop(s);
	case UART_IER:
		return dlab ? s->dlm : s->ier;
	case UART_IIR:
		return read_iir(s);
	case UART_LCR:
		return s->lcr;
	case UART_MCR:
		return s->mcr;
	case UART_LSR:
		return LSR_IDLE | (input_ready(s) ? UART_LSR_DR : 0);
	case UART_MSR:
		return read_msr(s);
	default:
		return s->scr;
	}
}

/* Return true if @value is to be sent. */
static bool write_data(struct serial *s, uint8_t value)
{
	if (s->lcr & UART_LCR_DLAB) {
		s->dll = value;
		return false;
	}
	s->thre_pending = true;
	if (s->mcr & UART_MCR_LOOP) {
		push(s, value);
		return false;
	}
	return true;
}

static bool write_register(struct serial *s, uint16_t reg, uint8_t value)
{
	switch (reg) {
	case UART_TX:
		return write_data(s, value);
	case UART_IER:
		if (s->lcr & UART_LCR_DLAB) {
			s->dlm = value;
			break;
		}
		/* Enabling the transmitter's interrupt reports that it is empty. */
		if (value & ~s->ier & UART_IER_THRI)
			s->thre_pending = true;
		s->ier = value & 0xf;
		break;
	case UART_FCR:
		s->fcr = value & UART_FCR_ENABLE_FIFO;
		break;
	case UART_LCR:
		s->lcr = value;
		break;
	case UART_MCR:
		s->mcr = value & 0x1f;
		break;
	case UART_SCR:
		s->scr = value;
		break;
	}
	return false;
}

/**
 * serial_io() - one access to the port.
 * @s: the port.
 * @out: the guest writes.
 * @reg: 0 to 7.
 * @value: the byte.
 */
void serial_io(struct serial *s, bool out, uint16_t reg, uint8_t *value)
{
	bool sent = false;

	pthread_mutex_lock(&s->lock);
	if (out)
		sent = write_register(s, reg, *value);
	else
		*value = read_register(s, reg);
	update_line(s);
	pthread_mutex_unlock(&s->lock);
	if (sent)
		send(s, *value);
}

/**
 * serial_room() - how much input the port can take.
 * @s: the port.
 *
 * If it is none, room_fd becomes readable when there is some again.
 *
 * Return: bytes.
 */
unsigned int serial_room(struct serial *s)
{
	unsigned int room;

	pthread_mutex_lock(&s->lock);
	room = RX_SIZE - s->rx_count;
	pthread_mutex_unlock(&s->lock);
	return room;
}

/**
 * serial_input() - input for the guest; what does not fit is lost.
 * @s: the port.
 * @data: the bytes.
 * @len: how many.
 */
void serial_input(struct serial *s, const uint8_t *data, size_t len)
{
	pthread_mutex_lock(&s->lock);
	while (len--)
		push(s, *data++);
	update_line(s);
	pthread_mutex_unlock(&s->lock);
}

/**
 * serial_save() - the port's state.
 * @s: the port.
 * @out: where it goes.
 */
void serial_save(struct serial *s, struct serial_state *out)
{
	unsigned int i;

	*out = (struct serial_state){
		.ier = s->ier, .fcr = s->fcr, .lcr = s->lcr, .mcr = s->mcr, .scr = s->scr,
		.dll = s->dll, .dlm = s->dlm, .thre_pending = s->thre_pending,
		.rx_count = s->rx_count,
	};
	for (i = 0; i < s->rx_count; i++)
		out->rx[i] = s->rx[(s->rx_head + i) % RX_SIZE];
}

/**
 * serial_restore() - set the port to a state.
 * @s: the port; nothing uses it yet.
 * @in: the state, from a file.
 *
 * Return: 0, or -1.
 */
int serial_restore(struct serial *s, const struct serial_state *in)
{
	if (in->rx_count > RX_SIZE || in->thre_pending > 1)
		return say("the saved serial port is in a state that cannot be");
	s->ier = in->ier & 0xf;
	s->fcr = in->fcr & UART_FCR_ENABLE_FIFO;
	s->lcr = in->lcr;
	s->mcr = in->mcr & 0x1f;
	s->scr = in->scr;
	s->dll = in->dll;
	s->dlm = in->dlm;
	s->thre_pending = in->thre_pending;
	s->rx_head = 0;
	s->rx_count = in->rx_count;
	memcpy(s->rx, in->rx, in->rx_count);
	return 0;
}

/**
 * serial_go_on() - drive the interrupt line after a restore.
 * @s: the port; its VM has its interrupt controllers.
 *
 * An interrupt that the guest has seen already is one more to find nothing for.
 */
void serial_go_on(struct serial *s)
{
	pthread_mutex_lock(&s->lock);
	update_line(s);
	pthread_mutex_unlock(&s->lock);
}

/**
 * serial_renew() - the port in another process, of another VM, in the state that it has.
 * @s: the port; nothing uses it.
 * @out_fd: where its output goes now.
 *
 * Return: 0, or -1.
 */
int serial_renew(struct serial *s, int out_fd)
{
	s->out_fd = out_fd;
	s->line = false;
	return vm_renew_event(&s->room_fd);
}

/**
 * serial_init() - the port after power-on.
 * @s: what to fill; all zero.
 * @vm: the VM.
 * @gsi: its interrupt.
 * @out_fd: where its output goes; -1: nowhere.
 *
 * Return: 0, or -1; serial_destroy() is to be called in both cases.
 */
int serial_init(struct serial *s, struct vm *vm, uint32_t gsi, int out_fd)
{
	s->vm = vm;
	s->gsi = gsi;
	s->out_fd = out_fd;
	pthread_mutex_init(&s->lock, NULL);
	s->room_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return s->room_fd < 0 ? say_errno("cannot create an eventfd") : 0;
}

/**
 * serial_destroy() - undo serial_init().
 * @s: the port.
 */
void serial_destroy(struct serial *s)
{
	if (s->room_fd >= 0)
		close(s->room_fd);
	pthread_mutex_destroy(&s->lock);
}
